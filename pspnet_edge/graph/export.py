"""A checkpoint becomes a self-contained ONNX file: uint8 BGR frame in, uint8 mask out."""

from __future__ import annotations

import copy
import tempfile
import warnings
from pathlib import Path
from typing import Any

import onnx
import onnxslim
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import OptionError
from ..labels import LabelSet
from ..model.pspnet import PSPNet
from .onnx_file import ModelFile, model_file

OPSET = 17
DEFAULT_SIZE_HW = (384, 480)


def model_from_network(
    network: PSPNet,
    label_set: LabelSet,
    facts: dict[str, Any],
    *,
    size_hw: tuple[int, int] = DEFAULT_SIZE_HW,
    batch: int = 1,
) -> ModelFile:
    """Trace a network into an ONNX model of a fixed input size.

    Args:
        network: in evaluation mode, weights on the CPU.
        label_set: the classes of its logits.
        facts: JSON values kept in the file's metadata.
        size_hw: height and width of the frames in pixels.
        batch: frames a batch.

    Raises:
        OptionError: the size is too small for the network.
    """
    if batch < 1 or min(size_hw) < 2 * network.size_multiple // 6:
        raise OptionError(
            f"batch {batch} at {size_hw[0]}×{size_hw[1]} cannot be exported: "
            f"give a batch of at least 1 and sides of at least {2 * network.size_multiple // 6}"
        )
    frames = torch.zeros(batch, *size_hw, 3, dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.inference_mode():
        path = Path(folder) / "traced.onnx"
        # The tracer warns at every shape that becomes a Python integer, which is what a static graph wants.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _FrameToMask(network),
            (frames,),
            path,
            input_names=["frames"],
            output_names=["masks"],
            opset_version=OPSET,
            dynamo=False,
        )
        traced = onnx.load_model(path)
    # Folds constants and moves the uneven padding before strided convolutions into the convolutions themselves.
    graph = onnxslim.slim(traced)
    name_by_place(graph.graph)
    graph = onnx.shape_inference.infer_shapes(graph)
    graph.producer_name, graph.producer_version = "pspnet-edge", ""
    onnx.checker.check_model(graph)
    return model_file(graph, network.preset, label_set, facts)


class _FrameToMask(nn.Module):
    """The network between a camera's frame and a mask."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: PSPNet) -> None:
        super().__init__()
        self._network = copy.deepcopy(network).eval()
        _take_bgr(self._network)
        for name, values in (("mean", network.mean), ("std", network.std)):
            bgr = torch.tensor(values[::-1], dtype=torch.float32).reshape(1, 3, 1, 1)
            self.register_buffer(name, bgr if len(set(values)) > 1 else bgr[:, :1])

    def forward(self, frames: Tensor) -> Tensor:
        """``uint8 [N, H, W, 3]`` → ``uint8 [N, H, W]``."""
        size_hw = (int(frames.shape[1]), int(frames.shape[2]))
        x = (frames.float().permute(0, 3, 1, 2) - self.mean) / self.std
        logits = self._network(x)
        logits = F.interpolate(logits, size=size_hw, mode="bilinear", align_corners=self._network.align_corners)
        return logits.argmax(1).to(torch.uint8)


def _take_bgr(network: nn.Module) -> None:
    """Flip the input channels of the first convolution, so that the graph needs no gather on the colours."""
    stem = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    stem.weight.data = stem.weight.data.flip(1)


def name_by_place(graph: onnx.GraphProto) -> None:
    """Give nodes, tensors and weights short stable names, ``conv_12`` and ``conv_12.weight``.

    The exporter's own names hold Python scopes and running numbers, which change between versions of torch.
    Calibration tables are keyed by these names.
    """
    kept = {value.name for value in (*graph.input, *graph.output)}
    renamed: dict[str, str] = {}
    counts: dict[str, int] = {}
    for node in graph.node:
        kind = node.op_type.lower()
        counts[kind] = counts.get(kind, -1) + 1
        node.name = f"{kind}_{counts[kind]}"
        for position, output in enumerate(node.output):
            if output not in kept:
                renamed[output] = f"{node.name}:{position}" if position else node.name
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name in constants and name not in renamed:
                role = (
                    {1: "weight", 2: "bias"}.get(position, str(position)) if node.op_type == "Conv" else str(position)
                )
                renamed[name] = f"{node.name}.{role}"
    for tensor in graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    del graph.value_info[:]

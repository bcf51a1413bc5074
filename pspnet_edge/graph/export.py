"""A checkpoint becomes a self-contained ONNX file: uint8 BGR frame in, uint8 mask out."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import onnx
import onnxslim
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..artifact import scratch_folder, sha256_of, table_path_of
from ..errors import ModelError, OptionError
from ..labels import LabelFacts, LabelSet
from ..model.checkpoint import load_checkpoint
from ..model.pspnet import PSPNet
from ..model.quantiser import Pairs
from ..sidecar import write_sidecar
from .calibration_table import LEARNED, CalibrationTable, convolutions_of, weights_fingerprint, write_table
from .confidence import ensure_probability, with_min_confidence
from .fold import fold_projections
from .naming import name_by_place
from .onnx_file import ModelFile, model_file, write_model
from .quantize import convolution_macs, quantised_convolutions
from .view import GraphView

_log = logging.getLogger(__name__)

OPSET = 17
DEFAULT_SIZE_HW = (384, 480)


class ExportFacts(TypedDict):
    """The sidecar of a model, as JSON values."""

    checkpoint_sha256: str
    network: str
    input_hw: list[int]
    batch: int
    label_set: LabelFacts
    architecture: dict[str, object]
    """What differs from the preset."""
    mean: list[float]
    std: list[float]
    align_corners: bool
    min_confidence: float | None
    threshold: float | None
    """Of a binary network."""
    imported: object
    """Where an imported network came from."""
    gmac: float
    """Per frame."""


def model_from_network(
    network: PSPNet,
    label_set: LabelSet,
    facts: dict[str, object],
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
    if batch < 1 or min(size_hw) < network.smallest_side:
        raise OptionError(
            f"batch {batch} at {size_hw[0]}×{size_hw[1]} cannot be exported: "
            f"give a batch of at least 1 and sides of at least {network.smallest_side}"
        )
    frames = torch.zeros(batch, *size_hw, network.shape.in_channels, dtype=torch.uint8)
    with scratch_folder() as folder, warnings.catch_warnings(), torch.inference_mode():
        path = folder / "traced.onnx"
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
    if network.quantiser is None:  # Else training has learned the ranges of the convolutions as they are.
        graph = fold_projections(graph)
        name_by_place(graph.graph)
    graph = onnx.shape_inference.infer_shapes(graph)
    graph.producer_name, graph.producer_version = "pspnet-edge", ""
    onnx.checker.check_model(graph)
    return model_file(graph, network.preset, label_set, facts)


def export_checkpoint(
    checkpoint: Path,
    output: Path,
    *,
    size_hw: tuple[int, int] | None = None,
    batch: int = 1,
    min_confidence: float | None = None,
    threshold: float | None = None,
) -> tuple[ExportFacts, Path | None]:
    """Write a checkpoint's model, its sidecar, and after quantization-aware training its calibration table.

    Args:
        checkpoint: a ``.pt`` of `train` or `import`.
        output: where the model goes.
        size_hw: height and width of the frames in pixels; None is the size that training validated at, and 384×480
            where the checkpoint does not say.
        batch: frames per batch.
        min_confidence: the winning probability below which a pixel is 255, unknown; None keeps every winner.
        threshold: the probability above which a pixel of a binary network is the object; None for the checkpoint's
            own, 0.5 after training.

    Returns:
        The sidecar's facts, and where the table is, beside the model; None where there is none.

    Raises:
        ModelError: a checkpoint that cannot be read.
        OptionError: the size is too small for the network, the confidence is not a probability, or a threshold for a
            network that is not binary.
    """
    if min_confidence is not None:
        ensure_probability(min_confidence)
    source = load_checkpoint(checkpoint)
    size_hw = size_hw or source.size_hw or DEFAULT_SIZE_HW
    if threshold is not None:
        source.model.set_threshold(threshold)
    binary = source.model.shape.binary
    if min_confidence is not None and binary and abs(source.model.threshold - 0.5) > 1e-4:
        raise OptionError(
            f"a confidence limit does not go with a threshold of {source.model.threshold:g}",
            "give one of the two, or a threshold of 0.5",
            parameter="min_confidence",
        )
    model = model_from_network(source.model, source.label_set, source.facts, size_hw=size_hw, batch=batch)
    table = learned_table(model, source.model)
    beside = table_path_of(output) if table else None
    if table and beside:
        # Before the model: an export killed between the two leaves no model without the table that belongs to it.
        write_table(beside, table)
    if min_confidence is not None:
        model = with_min_confidence(model, min_confidence)
    write_model(output, model)
    facts: ExportFacts = {
        "checkpoint_sha256": sha256_of(checkpoint),
        "network": model.preset,
        "input_hw": list(size_hw),
        "batch": batch,
        "label_set": model.label_set.facts(),
        "architecture": source.model.described_architecture,
        "mean": list(source.model.mean),
        "std": list(source.model.std),
        "align_corners": source.model.align_corners,
        "min_confidence": min_confidence,
        "threshold": round(source.model.threshold, 6) if binary else None,
        "imported": source.facts.get("imported"),
        "gmac": round(sum(convolution_macs(model.proto).values()) / batch / 1e9, 4),
    }
    write_sidecar(output, "model", facts)
    _log.info("exported %s as %s", checkpoint, output)
    return facts, beside


def learned_table(model: ModelFile, network: PSPNet) -> CalibrationTable | None:
    """The calibration table of a network after quantization-aware training; None for one without.

    With it ``quantize.int8_model`` makes the graph that training computed. Weights are rounded to nearest, as there.

    Args:
        model: what ``model_from_network`` made of the network.
        network: whose ranges were learned.

    Raises:
        ModelError: a convolution of the graph is none of those that training quantized.
    """
    if network.quantiser is None:
        return None
    ranges, readers = network.quantiser.ranges, _readers(network, model.shape_nhw[1:])
    view = GraphView(model.proto)
    amax: dict[str, float] = {}
    for node in quantised_convolutions(model.proto):
        index = _index_of(onnx.numpy_helper.to_array(view.initializers[node.input[1]]), readers)
        if index is None or index >= len(ranges):
            raise ModelError(f"training learned no range for what {node.name} reads: train again with --qat")
        amax[node.input[0]] = float(f"{ranges[index]:.7g}")
    return CalibrationTable(
        weights_sha256=weights_fingerprint(model.proto),
        method=LEARNED,
        dataset=f"training on {model.label_set.name}",
        images=0,
        images_sha256="",
        amax=amax,
        convolutions=convolutions_of(view),
    )


def _readers(network: PSPNet, size_hw: tuple[int, int]) -> list[tuple[int, NDArray[np.float32]]]:
    """Of every convolution that training quantized: the index of what it reads, and what it is told by."""
    found: list[tuple[int, NDArray[np.float32]]] = []

    def weight(index: int, weights: Tensor) -> Tensor:
        found.append((index, _shape_of(weights.numpy())))
        return weights

    plain = _plain(network)
    with torch.inference_mode(), Pairs(plain.never_quantised(), lambda index, x: x, weight):
        plain(torch.zeros(1, network.shape.in_channels, *size_hw))
    return found


def _index_of(weights: NDArray[np.float32], readers: list[tuple[int, NDArray[np.float32]]]) -> int | None:
    """The index of what a convolution of the graph reads; the graph has its own order and names."""
    shape = _shape_of(weights)
    for index, other in readers:
        if other.shape == shape.shape and np.allclose(other, shape, atol=1e-4):
            return index
    return None


def _shape_of(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Magnitudes against the largest of the channel: what BatchNorm's factors, which export folds in, leave alone."""
    magnitudes = np.abs(weights)
    largest = magnitudes.max(tuple(range(1, weights.ndim)), keepdims=True)
    return np.asarray(magnitudes / np.where(largest > 0, largest, 1), np.float32)


def _plain(network: PSPNet) -> PSPNet:
    """A copy for BGR frames, in evaluation mode, without Q/DQ pairs: those are placed when an engine is built."""
    plain = copy.deepcopy(network).eval()
    plain.quantiser = None
    _take_bgr(plain)
    return plain


class _FrameToMask(nn.Module):
    """The network between a camera's frame and a mask."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: PSPNet) -> None:
        super().__init__()
        self._network = _plain(network)
        for name, values in (("mean", network.mean), ("std", network.std)):
            bgr = torch.tensor(_bgr(values), dtype=torch.float32).reshape(1, -1, 1, 1)
            self.register_buffer(name, bgr if len(set(values)) > 1 else bgr[:, :1])

    def forward(self, frames: Tensor) -> Tensor:
        """``uint8 [N, H, W, C]`` → ``uint8 [N, H, W]``."""
        size_hw = (int(frames.shape[1]), int(frames.shape[2]))
        x = (frames.float().permute(0, 3, 1, 2) - self.mean) / self.std
        logits = self._network(x)
        logits = F.interpolate(logits, size=size_hw, mode="bilinear", align_corners=self._network.align_corners)
        return logits.argmax(1).to(torch.uint8)


def _take_bgr(network: PSPNet) -> None:
    """Flip the colours of the convolutions that read the frame, so that the graph needs no gather on them."""
    for stem in network.input_convolutions():
        order = _bgr(range(stem.weight.shape[1]))
        stem.weight.data = stem.weight.data[:, order]


def _bgr(rgb: Sequence[Any]) -> list[Any]:
    """The first three of a sequence turned round; a single channel and a fourth stay where they are."""
    return [*rgb[2::-1], *rgb[3:]] if len(rgb) >= 3 else list(rgb)

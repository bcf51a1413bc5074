"""The table of the family: parameters, GMAC and export parity of every preset.

python benchmarks/models.py                  print it
python benchmarks/models.py -o docs/models.md   replace the one in this page
"""

from __future__ import annotations

import argparse
import io
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxslim
import torch
from torch import nn
from zoo import with_section

from pspnet_edge.artifact import write_bytes
from pspnet_edge.model.pspnet import PRESETS, PSPNet

CLASSES = 19
GMAC_SIZE_HW = (512, 1024)
ODD_SIZE_HW = (457, 489)  # features of 58×62 at stride 8 and 29×31 at stride 16
OPSET = 17

_HEAD = f"""| preset | backbone | logits at stride | parameters (M) | GMAC at {GMAC_SIZE_HW[0]}×{GMAC_SIZE_HW[1]} | difference from its ONNX at {ODD_SIZE_HW[0]}×{ODD_SIZE_HW[1]} |
|---|---|---|---|---|---|
"""


def main() -> None:
    """Measure every preset and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="replace the table in this page instead of printing it")
    arguments = parser.parse_args()
    rows = []
    for preset in PRESETS:
        print(f"measuring {preset}", file=sys.stderr, flush=True)
        rows.append(_row(preset))
    if arguments.output is None:
        print("\n".join(rows))
        return
    page = arguments.output.read_text(encoding="utf-8")
    write_bytes(arguments.output, with_section(page, "models", _HEAD + "\n".join(rows)).encode())


def _row(preset: str) -> str:
    torch.manual_seed(0)
    model = PSPNet(preset, CLASSES).eval()
    model.aux_head = None
    _randomise_norms(model)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    difference = export_difference(model, ODD_SIZE_HW)
    macs, stride = _macs_and_stride(model, GMAC_SIZE_HW)
    backbone = model.shape.backbone
    return f"| `{preset}` | {backbone} | {stride} | {parameters / 1e6:.1f} | {macs / 1e9:.1f} | {difference:.0e} |"


def export_difference(model: PSPNet, size_hw: tuple[int, int]) -> float:
    """Largest difference of the logits between PyTorch and ONNX Runtime, as a share of the largest logit.

    Raises:
        RuntimeError: the graph computes shapes, which a static export must not.
    """
    x = torch.randn(1, 3, *size_hw)
    content = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        # The tracer warns at every shape that becomes a Python integer, which is what a static graph wants.
        warnings.simplefilter("ignore")
        expected = model(x).numpy()
        torch.onnx.export(model, (x,), content, input_names=["x"], opset_version=OPSET, dynamo=False)
    graph = onnxslim.slim(onnx.load_model_from_string(content.getvalue()))
    shapes = [node.op_type for node in graph.graph.node if node.op_type in ("Shape", "Gather", "ScatterND", "Expand")]
    if shapes:
        raise RuntimeError(f"{model.preset} exports {len(shapes)} nodes that compute shapes ({shapes[0]})")
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"x": x.numpy()})
    return float(np.abs(np.asarray(logits) - expected).max() / np.abs(expected).max())


def _macs_and_stride(model: PSPNet, size_hw: tuple[int, int]) -> tuple[int, int]:
    """Multiply-accumulates of the convolutions for one image, and the stride of the logits."""
    macs = 0

    def count(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal macs
        assert isinstance(module, nn.Conv2d)
        macs += output.numel() * module.weight[0].numel()

    model = model.to("meta")  # shapes alone, no arithmetic
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    logits = model(torch.zeros(1, 3, *size_hw, device="meta"))
    return macs, size_hw[0] // logits.shape[2]


def _randomise_norms(model: nn.Module) -> None:
    """Random BatchNorm statistics, so that a graph that leaves one out is noticed."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()

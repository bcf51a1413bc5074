"""``pspnet-edge export``: checkpoint → ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .output import JsonFlag, result


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export")(export)


def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A .pt file of `train` or `import`.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Default: CHECKPOINT's name with .onnx.")
    ] = None,
    size: Annotated[str, typer.Option(metavar="HEIGHTxWIDTH", help="Input size in pixels.")] = "384x480",
    batch: Annotated[int, typer.Option(min=1, help="Frames a batch.")] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Make a self-contained ONNX model: uint8 BGR frames in, uint8 masks out."""
    from ..artifact import ensure_writable, sha256_of, write_sidecar
    from ..lazy import require

    size_hw = parse_size(size)
    output = output or checkpoint.with_suffix(".onnx")
    ensure_writable(output)
    require("torch", "export a checkpoint")
    from ..graph.export import model_from_network
    from ..graph.onnx_file import write_model
    from ..graph.quantize import convolution_macs
    from ..model.checkpoint import load_checkpoint

    source = load_checkpoint(checkpoint)
    model = model_from_network(source.model, source.label_set, source.facts, size_hw=size_hw, batch=batch)
    write_model(output, model)
    facts = {
        "checkpoint_sha256": sha256_of(checkpoint),
        "network": model.preset,
        "input_hw": list(size_hw),
        "batch": batch,
        "label_set": model.label_set.facts(),
        "architecture": source.model.architecture,
        "mean": list(source.model.mean),
        "std": list(source.model.std),
        "align_corners": source.model.align_corners,
        "imported": source.facts.get("imported"),
        "gmac": round(sum(convolution_macs(model.graph).values()) / batch / 1e9, 4),
    }
    write_sidecar(output, "model", facts)
    result(
        {"model": str(output), **facts},
        as_json,
        f"{output}: {model.preset} at {size_hw[0]}×{size_hw[1]}, {facts['gmac']} GMAC a frame",
    )


def parse_size(text: str) -> tuple[int, int]:
    """``"384x480"`` → ``(384, 480)``."""
    from ..errors import OptionError

    height, cross, width = text.lower().partition("x")
    if not (cross and height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise OptionError(f"{text!r} is not a size: give height and width in pixels, such as 384x480")
    return int(height), int(width)

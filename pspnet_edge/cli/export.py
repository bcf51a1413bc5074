"""``pspnet-edge export``: checkpoint → ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import parse_size
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
    """Make a self-contained ONNX model: uint8 BGR frames in, uint8 masks out.

    After `train --qat` the calibration table is beside it, where `build --precision int8` finds it.
    """
    from ..artifact import ensure_writable
    from ..lazy import require

    size_hw = parse_size(size)
    output = output or checkpoint.with_suffix(".onnx")
    ensure_writable(output, sidecar=True)
    require("torch", "export a checkpoint")
    from ..graph.export import export_checkpoint

    facts, calibration = export_checkpoint(checkpoint, output, size_hw=size_hw, batch=batch)
    summary = f"{output}: {facts['network']} at {size_hw[0]}×{size_hw[1]}, {facts['gmac']} GMAC a frame"
    result(
        {"model": str(output), "calibration": str(calibration) if calibration else None, **facts},
        as_json,
        summary + (f"; {calibration}: the ranges that training learned" if calibration else ""),
    )

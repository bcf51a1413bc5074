"""``pspnet-edge export``: checkpoint → ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import MinConfidenceOption, parse_size
from .output import JsonFlag, result


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export")(export)


def export(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="Bundled name, or a .pt file from `train` or `import`. Default: the bundled model."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Default: MODEL.onnx.")] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="HEIGHTxWIDTH", help="Input size. Default: the --size given to `train`, else 384x480."),
    ] = None,
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="Batch size.")] = 1,
    min_confidence: MinConfidenceOption = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="Binary networks: probability above which a pixel is the object. Default: 0.5 (from `train`).",
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a self-contained ONNX model: uint8 BGR frames in, uint8 masks out.

    If the checkpoint has a calibration table, it is copied next to the model, where `build` finds it.
    """
    from .. import bundled
    from ..artifact import ensure_writable
    from ..built import ensure_not_built
    from ..lazy import require

    size_hw = parse_size(size) if size is not None else None
    checkpoint = checkpoint or bundled.DEFAULT
    bundled_name = checkpoint in bundled.names()
    source = bundled.checkpoint_path(checkpoint) if bundled_name else Path(checkpoint)
    output = output or (Path(f"{checkpoint}.onnx") if bundled_name else source.with_suffix(".onnx"))
    ensure_not_built(source)
    ensure_writable(output, sidecar=True, inputs=[source])
    require("torch", "export a checkpoint")
    from ..graph.export import export_checkpoint

    facts, learned = export_checkpoint(
        source, output, size_hw=size_hw, batch=batch, min_confidence=min_confidence, threshold=threshold
    )
    calibration = learned or _table_beside(source, output)
    height, width = facts["input_hw"]
    summary = f"{output}: {facts['network']} at {height}×{width}, {facts['gmac']} GMAC per frame"
    if facts["threshold"] is not None:
        summary += f"; a pixel is {facts['label_set']['classes'][1]} above a probability of {facts['threshold']:g}"
    result(
        {"model": str(output), "calibration": str(calibration) if calibration else None, **facts},
        as_json,
        summary + (f"; calibration table {calibration}" if calibration else ""),
    )


def _table_beside(checkpoint: Path, output: Path) -> Path | None:
    """The checkpoint's calibration table, which fits every size, copied beside the model unless there is one."""
    from ..artifact import table_path_of
    from ..engine.model import table_beside
    from ..graph.calibration_table import read_table, write_table

    table, target = table_beside(checkpoint), table_path_of(output)
    if table is None:
        return None
    if not target.exists():
        write_table(target, read_table(table))
    return target

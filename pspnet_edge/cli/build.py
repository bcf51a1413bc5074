"""``pspnet-edge build``: model → engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import PrecisionOption, RuntimeOption
from .output import JsonFlag, result, say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("build")(build)


def build(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="A bundled name or a .onnx file; left out, the default.")
    ] = None,
    precision: PrecisionOption = "fp32",
    runtime: RuntimeOption = "auto",
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Table for int8. Default: the bundled one, or MODEL.calib.json beside it."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Default: a name in the user's cache.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Build an engine. An INT8 engine takes its scales from a calibration table."""
    from ..engine.build import build_engine, check_precision, choose_runtime, default_engine_path, find_model

    check_precision(precision)
    source, chosen = find_model(model), choose_runtime(runtime)
    path = output or default_engine_path(source, precision, chosen)
    say(f"building {source.name}, {precision}, {chosen}")
    facts = build_engine(source, precision, chosen, path, calibration=calibration)
    summary = f"{path}: {source.name}, {precision}, {chosen}, {facts['int8_mac_fraction']:.1%} of MACs in INT8"
    result({"engine": str(path), "engine_bytes": path.stat().st_size, **facts}, as_json, summary)

"""``pspnet-edge calibrate``: model and images → calibration table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import DatasetOption, RootOption
from .output import JsonFlag, progress, result


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("calibrate")(calibrate)


def calibrate(
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="A bundled name or a .onnx file.")] = None,
    dataset: DatasetOption = "camvid",
    root: RootOption = None,
    split: Annotated[str, typer.Option(help="Never the split that measures.")] = "train",
    images: Annotated[int, typer.Option(min=1, help="How many, evenly spaced over the split.")] = 128,
    method: Annotated[
        str, typer.Option(metavar="minmax|percentile|entropy|mse", help="How ranges are chosen.")
    ] = "mse",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Default: MODEL.calib.json here.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure activation ranges on images; INT8 builds need the table that this makes."""
    from ..artifact import ensure_writable, sha256_of
    from ..data.calibration_set import evenly_spaced
    from ..data.datasets import open_dataset
    from ..engine.build import find_model
    from ..graph.calibrate import table_from_images
    from ..graph.calibration_table import write_table
    from ..graph.onnx_file import read_model

    source = find_model(model)
    output = output or Path(f"{source.name}.calib.json")
    ensure_writable(output)
    chosen = evenly_spaced(open_dataset(dataset, root, split), images)
    with progress("calibrate", len(chosen)) as advance:
        table = table_from_images(
            read_model(source.path),
            (chosen[index][0] for index in range(len(chosen))),
            dataset=f"{dataset} {split}",
            method=method,
            on_image=advance,
        )
    write_table(output, table)
    facts = {
        "calibration": str(output),
        "calibration_sha256": sha256_of(output),
        "images": table.images,
        "method": table.method,
        "tensors": len(table.amax),
    }
    result(facts, as_json, f"{output}: {facts['tensors']} ranges from {table.images} images, method {method}")

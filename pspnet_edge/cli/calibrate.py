"""``pspnet-edge calibrate``: model and images → calibration table."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..records import counted
from .output import JsonFlag, progress, result, say

if TYPE_CHECKING:
    from ..data.datasets import ImageSet

_IMAGES = 128


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("calibrate")(calibrate)


def calibrate(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="Bundled name, .onnx, .pt or .pspnet file. Default: the bundled model."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="camvid|voc|cityscapes|folder|scenes",
            help="Data set. Default: detected from --root. scenes (synthetic streets) is for CamVid's classes only.",
        ),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the data set, or of images without labels.")
    ] = None,
    split: Annotated[
        str, typer.Option(metavar="NAME", help="Split to calibrate on; not the one you measure mIoU on.")
    ] = "train",
    images: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Number of images, evenly spaced over the split or --images-from."),
    ] = None,
    images_from: Annotated[
        Path | None,
        typer.Option(
            "--images-from",
            metavar="LIST",
            help="File with one image id per line. Default without --images: the list bundled for the data set's train "
            f"split, else {_IMAGES} images.",
        ),
    ] = None,
    method: Annotated[
        str, typer.Option(metavar="minmax|percentile|entropy|mse", help="How activation ranges are chosen.")
    ] = "mse",
    rounding: Annotated[
        str,
        typer.Option(
            metavar="second-order|nearest",
            help="How weights are rounded: so that errors cancel out on the images (GPTQ), or each to nearest.",
        ),
    ] = "second-order",
    equalize: Annotated[
        bool,
        typer.Option(
            "--equalize/--no-equalize",
            "--equalise/--no-equalise",  # 0.1's spelling
            help="Equalize channel ranges in front of depthwise convolutions.",
        ),
    ] = True,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Default: MODEL.calib.json next to MODEL, as for `build`."),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace a table made from other images, or with what --max-drop left unquantized."
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure activation ranges on images and write the calibration table that INT8 builds need.

    An interrupted run is resumed by the same command.

    Examples:

      pspnet-edge calibrate mine.onnx --root my_data -o mine.calib.json

      pspnet-edge calibrate mine.onnx --root my_data --images 64 --method percentile
    """
    from ..artifact import claim, ensure_writable, sha256_of
    from ..engine.build import prepare_model
    from ..errors import OptionError
    from ..graph.calibrate import table_from_dataset
    from ..graph.calibration_images import calibration_images
    from ..graph.calibration_table import ensure_replaceable, write_table
    from ..graph.onnx_file import read_model

    source = prepare_model(model)
    output = output or source.table_place
    ensure_writable(output, inputs=[source.source, source.path, images_from])
    ensure_writable(output.with_name(f"{output.name}.partial"))
    if dataset is None and root is None:
        raise OptionError("calibrate needs images", "give --root DIR, a folder of images like those of training")
    network = read_model(source.path)
    pictures, named, kind = calibration_images(network, dataset, root, split, say)
    if not overwrite:
        ensure_replaceable(output, network.proto, named)
    if model is None and kind in ("folder", None):
        say(f"no MODEL was given: the bundled {source.name} is calibrated")
    listed = images_from or (_shipped_list(kind, split) if images is None and kind is not None else None)
    chosen = _chosen(pictures, listed, images)
    state = output.with_name(f"{output.name}.partial")
    with claim(output), progress("calibrate", len(chosen)) as advance:
        table, skipped = table_from_dataset(
            network,
            chosen,
            dataset=named,
            method=method,
            rounding=rounding,
            equalize=equalize,
            state=state,
            on_image=advance,
            say=say,
        )
        write_table(output, table)
        state.unlink(missing_ok=True)
    facts = {
        "calibration": str(output),
        "calibration_sha256": sha256_of(output),
        "images": table.images,
        "images_from": str(listed) if listed else None,
        "skipped": list(skipped),
        "method": table.method,
        "rounding": rounding,
        "equalized": len(table.stretch),
        "tensors": len(table.amax),
    }
    summary = f"{output}: {facts['tensors']} ranges from {counted(table.images, 'image')}, method {method}"
    if source.source is None or output.resolve() != source.table_place.resolve():
        summary += f"; give it to `build` with --calibration {shlex.quote(str(output))}"
    result(facts, as_json, summary)


def _shipped_list(dataset: str, split: str) -> Path | None:
    from ..data.calibration_list import shipped_list

    return shipped_list(dataset) if split == "train" else None


def _chosen(dataset: ImageSet, listed: Path | None, count: int | None) -> ImageSet:
    from ..data.calibration_list import read_list
    from ..data.subset import evenly_spaced

    if listed is None:
        return evenly_spaced(dataset, count or _IMAGES)
    named = read_list(listed).of(dataset)
    return evenly_spaced(named, count) if count else named

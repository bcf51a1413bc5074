"""``pspnet-edge pack``: model → one file for boards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import RuntimeOption
from .output import JsonFlag, progress, result, say

if TYPE_CHECKING:
    from ..deploy.pack import Pictures
    from ..engine.build import Gate
    from ..graph.onnx_file import ModelFile


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("pack")(pack)


def pack(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="Bundled name, .onnx, .pt or .pspnet file. Default: the bundled model."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Default: the model's name with .pspnet.")
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the model on the board.")] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HEIGHTxWIDTH",
            help="Input size. To change it, give the .pt (an .onnx has a fixed size); needs torch.",
        ),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Calibration table. Default: MODEL.calib.json next to MODEL.")
    ] = None,
    precision: Annotated[
        str, typer.Option(metavar="auto|int8,fp16,fp32", help="Precisions that the board may build, preferred first.")
    ] = "auto",
    runtime: RuntimeOption = "auto",
    max_drop: Annotated[
        float | None,
        typer.Option(metavar="F", help="Maximum mIoU loss in INT8; the pack records the layers that stay unquantized."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Labelled data set for golden frames, mIoU and --max-drop.")
    ] = None,
    root: Annotated[Path | None, typer.Option(metavar="DIR", help="Its folder.")] = None,
    split: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="For golden frames and mIoU. Without it: val, else the images that training held out, else all.",
        ),
    ] = "test",
    gate_split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Split for --max-drop. Default: as for `build`.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Unlabelled images for golden frames and --max-drop.")
    ] = None,
    golden: Annotated[int, typer.Option(min=1, max=32, metavar="N", help="Number of golden frames.")] = 6,
    miou: Annotated[
        float | None,
        typer.Option(min=0, max=1, metavar="F", help="mIoU measured elsewhere. Default: measured on --dataset."),
    ] = None,
    margin: Annotated[
        float,
        typer.Option(
            min=0, max=1, metavar="F", help="How much lower the agreement with FP32 may be on the board than here."
        ),
    ] = 0.02,
    min_agreement: Annotated[
        float, typer.Option(min=0, max=1, metavar="F", help="Refuse to pack a precision that agrees less with FP32.")
    ] = 0.8,
    licence: Annotated[
        Path | None,
        typer.Option("--licence", "--license", metavar="FILE", help="Licence text. Default: MODEL.md next to MODEL."),
    ] = None,
    fit: Annotated[str | None, typer.Option(metavar="HOW", help="How the board fits frames, as for `run`.")] = None,
    roi: Annotated[str | None, typer.Option(metavar="X,Y,W,H", help="As for `run`.")] = None,
    tiles: Annotated[bool, typer.Option("--tiles", help="As for `run`.")] = False,
    flip: Annotated[str | None, typer.Option(metavar="HOW", help="As for `run`.")] = None,
    release: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Release number; boards refuse one lower than their active version's."),
    ] = 0,
    sign: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Sign with this Ed25519 key from ssh-keygen.")
    ] = None,
    purpose: Annotated[
        str,
        typer.Option(
            "--for", metavar="board|triton", help="triton: write a model repository for Triton Inference Server."
        ),
    ] = "board",
    triton_backend: Annotated[
        str,
        typer.Option(
            metavar="auto|python|tensorrt|onnxruntime", help="Triton: auto is TensorRT on a GPU, else python."
        ),
    ] = "auto",
    instances: Annotated[int, typer.Option(min=1, max=64, metavar="N", help="Triton: number of instances.")] = 1,
    max_batch: Annotated[int, typer.Option(min=1, max=256, metavar="N", help="Triton: maximum batch size.")] = 8,
    as_json: JsonFlag = False,
) -> None:
    """Pack a model and everything a board needs into one file for `deploy`.

    The pack holds the ONNX model, the calibration table (with the layers that --max-drop keeps out of INT8), classes,
    licence, mIoU, and golden frames: a few images with their masks, which the board must reproduce. The same inputs
    give the same bytes.

    Examples:

      pspnet-edge pack mine.onnx -o mine.pspnet --root my_data --max-drop 0.01

      pspnet-edge pack mine.onnx -o mine.pspnet --images photos --licence LICENSE --sign pack_key --release 2

      pspnet-edge pack mine.onnx --for triton -o repo
    """
    from ..deploy.pack import Contents, make_pack
    from ..engine.model import calibrate_command, prepare_model
    from ..errors import OptionError
    from ..graph.onnx_file import read_model
    from .options import chosen_dataset, parse_size

    source = prepare_model(model, parse_size(size) if size else None)
    if purpose == "triton":
        from ..deploy.triton import write_repository

        served = write_repository(
            source,
            output or Path("repo"),
            name=name,
            backend=triton_backend,
            precision=precision,
            runtime=runtime,
            calibration=calibration,
            instances=instances,
            max_batch=max_batch,
        )
        served_as = f"{served.repository}: {served.name}, {served.precision}, Triton backend {served.backend}"
        result(served.to_dict(), as_json, f"{served_as}; tritonserver --model-repository {served.repository}")
        return
    if purpose != "board":
        raise OptionError(f"unknown purpose {purpose!r}", "choose board or triton", parameter="purpose")
    if (dataset is not None or root is not None) and images is not None:
        given = "--root" if dataset is None else "--dataset"
        raise OptionError(f"{given} and --images were given", "give one of them")
    if root is not None:
        dataset = chosen_dataset(dataset, root)
    read = read_model(source.path)
    contents = Contents(
        name=name,
        calibration=calibration,
        precisions=[entry.strip() for entry in precision.split(",")],
        licence=licence,
        release=release,
        pictures=_pictures(read, dataset, root, split, images),
        golden=golden,
        miou=miou,
        gate=None if max_drop is None else _gate(read, max_drop, dataset, root, gate_split, images),
        margin=margin,
        least_agreement=min_agreement,
        run=_run_options(fit, roi, tiles, flip),
    )
    path = output or Path(f"{name or source.name}.pspnet")
    packed = make_pack(source, path, contents, runtime=runtime, key=sign, progress=progress)
    if not packed.has_licence:
        say("no licence is in the pack: add one with --licence FILE")
    if "int8" not in packed.agreement_with_fp32 and precision == "auto":
        say(
            f"INT8 is not in the pack, because there is no calibration table {source.table_place}: make one with "
            f"`{calibrate_command(source)}`"
        )
    if packed.signed and not packed.release:
        say("it has no --release number: boards cannot tell whether it is older than what they run")
    agreement = ", ".join(f"{each} {share:.2%}" for each, share in packed.agreement_with_fp32.items())
    words = [f"{path}: {packed.name}, {packed.pack_bytes / 1e6:.1f} MB, {packed.golden} golden frames"]
    words += [f"agreement with FP32: {agreement}"]
    words += [f"unquantized: {', '.join(packed.kept_float)}"] if packed.kept_float else []
    words += (
        [f"mIoU {packed.miou:.4f}" + (f" in {packed.miou_of}" if packed.miou_of else "")]
        if packed.miou is not None
        else []
    )
    result(packed.to_dict(), as_json, "; ".join(words))


def _pictures(
    model: ModelFile, dataset: str | None, root: Path | None, split: str, images: Path | None
) -> Pictures | None:
    from ..data.images import ImageFiles
    from ..deploy.pack import Pictures
    from ..pixels import PixelFormat
    from .options import images_to_measure

    pixels = PixelFormat(channels=model.channels)
    if dataset is not None:
        measured_on, part = images_to_measure(dataset, root, split, model.facts, pixels)
        return Pictures(measured_on, dataset, part)
    return None if images is None else Pictures(ImageFiles(images, pixels), f"images in {images.name}")


def _gate(
    model: ModelFile, max_drop: float, dataset: str | None, root: Path | None, split: str | None, images: Path | None
) -> Gate:
    from ..engine.build import Gate, images_of_gate

    return Gate(max_drop, *images_of_gate(model, dataset, images if dataset is None else root, split, say))


def _run_options(fit: str | None, roi: str | None, tiles: bool, flip: str | None) -> dict[str, object]:
    from ..data.geometry import FLIPS, Geometry, roi_from_text
    from ..errors import one_of

    Geometry(fit or "stretch", roi_from_text(roi), tiles)  # refuses what `run` would
    if flip is not None:
        one_of(flip, FLIPS, "turn", "flip")
    given = {"fit": fit, "roi": roi, "flip": None if flip == "none" else flip}
    return {name: value for name, value in given.items() if value is not None} | ({"tiles": True} if tiles else {})

"""``pspnet-edge import``: a checkpoint of another project → ours."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .output import JsonFlag, result, say

if TYPE_CHECKING:
    from ..model.foreign.importer import Imported, ImportOptions

_FORMATS = ("semseg", "mmseg", "smp", "paddleseg", "csail", "bubbliiiing", "kazuto1011", "lextal")
_network = partial(typer.Option, rich_help_panel="Network details")
_input = partial(typer.Option, rich_help_panel="Input preprocessing")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import")(import_)


def import_(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="Checkpoint, or a folder from save_pretrained or with CSAIL's two files."),
    ],
    format_name: Annotated[
        str,
        typer.Option("--format", metavar="auto|" + "|".join(_FORMATS), help="Project that the checkpoint comes from."),
    ] = "auto",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Default: the name of FILE with .imported.pt."),
    ] = None,
    auto: Annotated[bool, typer.Option("--auto", hidden=True)] = False,
    label_set: Annotated[
        str | None,
        typer.Option(
            metavar="camvid|voc|cityscapes", help="Label set that it was trained for; classes are reordered to match."
        ),
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Class names, one per line, in output order.")
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npz", help="A `picture` (or `input`) and the original network's `logits`, to compare with."
        ),
    ] = None,
    weights: Annotated[
        str | None, _network(metavar="model|ema", help="Weights to take if the file holds both. Default: model.")
    ] = None,
    config: Annotated[
        Path | None,
        _network(metavar="FILE", help="Its .py, .yml or config.json. Default: the one in or next to the checkpoint."),
    ] = None,
    bins: Annotated[str | None, _network(metavar="N,N,…", help="Pyramid bins. Default: 1,2,3,6.")] = None,
    output_stride: Annotated[int | None, _network(metavar="8|16|32", help="Output stride of the backbone.")] = None,
    align_corners: Annotated[
        bool | None,
        _network("--align-corners/--no-align-corners", help="Whether the network upsamples with align_corners."),
    ] = None,
    encoder: Annotated[
        str | None, _network(metavar="NAME", help="Encoder name in smp (segmentation-models-pytorch).")
    ] = None,
    decoder: Annotated[Path | None, _network(metavar="FILE", help="CSAIL: the decoder file.")] = None,
    threshold: Annotated[
        float | None,
        _network(metavar="P", help="Single-logit networks: probability above which a pixel is the object."),
    ] = None,
    mean: Annotated[str | None, _input(metavar="R,G,B", help="Mean to subtract, after --scale.")] = None,
    std: Annotated[str | None, _input(metavar="R,G,B", help="Standard deviation to divide by, after --mean.")] = None,
    scale: Annotated[
        float | None,
        _input(
            metavar="255|1",
            help="Divisor of the pixel values, applied first. Default: 255 if --std is at most 1, else 1.",
        ),
    ] = None,
    colour: Annotated[
        str | None,
        _input("--colour", "--color", metavar="rgb|bgr", help="Channel order of its input, and of --mean and --std."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Convert a PSPNet checkpoint from another project, with the same logits.

    Reads semseg, mmsegmentation, segmentation-models-pytorch, PaddleSeg and four smaller projects; see docs/import.md.
    """
    from ..artifact import ensure_writable, sha256_of
    from ..built import ensure_not_built
    from ..lazy import require

    chosen, source = _format_and_source(arguments, format_name, auto)
    output = output or _default_output(source)
    ensure_not_built(source)
    ensure_writable(output, inputs=[source, decoder, config, classes, reference])
    require("torch", "import a checkpoint")
    from ..model.checkpoint import save_checkpoint
    from ..model.foreign.classes import find_label_set
    from ..model.foreign.importer import ImportOptions, import_checkpoint
    from ..model.foreign.places import find_given
    from ..model.foreign.reference import difference_from_reference

    options = ImportOptions(
        bins=_parse_bins(bins),
        label_set=None if label_set is None else find_label_set(label_set),
        class_names=_read_names(classes),
        weights=weights,  # type: ignore[arg-type]
        mean=_parse_numbers(mean, "--mean"),
        std=_parse_numbers(std, "--std"),
        scale=scale,
        colour=None if colour is None else colour.lower(),  # type: ignore[arg-type]
        threshold=threshold,
        config=config,
        encoder=encoder,
        decoder=decoder,
        output_stride=output_stride,
        align_corners=align_corners,
    )
    imported = import_checkpoint(source, chosen, options)
    difference = None if reference is None else difference_from_reference(imported, reference)
    file = find_given(source, decoder).checkpoint
    origin = _origin(imported, options, file.name, sha256_of(file))
    save_checkpoint(output, imported.model, imported.label_set, {"imported": origin})
    model = imported.model
    facts: dict[str, object] = {
        "checkpoint": str(output),
        **origin,
        "network": model.preset,
        "architecture": model.described_architecture,
        "align_corners": model.align_corners,
        "output_stride": model.backbone.output_stride,
        "channels": model.shape.in_channels,
        "label_set": imported.label_set.facts(),
        "left_out": imported.left_out,
    }
    if difference is not None:
        facts["max_abs_diff"] = difference
    _tell(imported)
    compared = "" if difference is None else f", logits within {difference:.1e} of {reference}"
    result(facts, as_json, f"{output}: {model.preset} of {imported.format}, {model.classes} classes{compared}")


def _origin(imported: Imported, options: ImportOptions, name: str, sha256: str) -> dict[str, object]:
    """What is kept in the checkpoint about where it comes from."""
    known = imported.preprocessing
    return {
        "format": imported.format,
        "source": name,
        "source_sha256": sha256,
        "encoder": imported.encoder or None,
        "assumed": list(imported.assumed),
        "chosen": list(imported.remarks),
        "bins": list(imported.bins),
        "mean": list(known.mean),
        "std": list(known.std),
        "colour": known.colour,
        "preprocessing": known.source,
        "threshold": imported.threshold,
        "class_order": None if imported.class_order is None else list(imported.class_order),
    }


def _tell(imported: Imported) -> None:
    for remark in imported.remarks:
        say(remark)
    if imported.assumed:
        say(f"taken as {imported.format}'s default: {', '.join(imported.assumed)}")
    known = imported.preprocessing
    mean, std = (",".join(f"{value:g}" for value in values) for values in (known.mean, known.std))
    order = f", {known.colour}" if len(known.mean) > 1 else ""
    say(f"preprocessing: (pixel - {mean}) / {std}{order} ({known.source}); --mean, --std, --scale, --colour change it")
    if imported.threshold is not None:
        say(f"one logit: a pixel is {imported.label_set.classes[1]} above a probability of {imported.threshold:g}")
    if imported.label_set.classes[0] == "class 0":
        say("no class names are known, so they are numbered: give --label-set or --classes")
    if imported.class_order is not None:
        say(f"the classes were put into the order of label set {imported.label_set.name}")
    for reason in sorted(set(imported.left_out.values())):
        keys = [key for key, why in imported.left_out.items() if why == reason]
        say(f"left out, {reason}: {keys[0]}{f' and {len(keys) - 1} more' if len(keys) > 1 else ''}")


def _format_and_source(arguments: list[str], format_name: str, auto: bool) -> tuple[str | None, Path]:
    """The format, None to recognize it, and the file; with the spelling of earlier versions too."""
    if format_name not in ("auto", *_FORMATS):
        raise typer.BadParameter(f"unknown format {format_name!r}: choose auto or one of {', '.join(_FORMATS)}")
    if len(arguments) == 2 and arguments[0] in _FORMATS:
        if auto or format_name not in ("auto", arguments[0]):
            raise typer.BadParameter("give the format once, with --format")
        say(f"`import {arguments[0]} FILE` is the old spelling: use `import FILE --format {arguments[0]}`")
        return arguments[0], Path(arguments[1])
    if auto:
        say("--auto is the old spelling: `import FILE` recognizes the format")
    if len(arguments) != 1 or (arguments[0] in _FORMATS and not Path(arguments[0]).exists()):
        raise typer.BadParameter("give one checkpoint, and the project it comes from with --format")
    return (None if format_name == "auto" else format_name), Path(arguments[0])


def _default_output(source: Path) -> Path:
    name = source.resolve().name if source.is_dir() else source.name
    stem = name.rpartition(".")[0] or name
    return source.parent / f"{name if source.is_dir() else stem}.imported.pt"


def _parse_bins(text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < 5 and int(part) for part in parts):
        raise typer.BadParameter(f"{text[:80]!r} are not bins: give whole numbers of at least 1 such as 1,2,3,6")
    return [int(part) for part in parts]


def _parse_numbers(text: str | None, option: str) -> list[float] | None:
    import math

    if text is None:
        return None
    try:
        values = [float(part) for part in text.replace("[", "").replace("]", "").replace(" ", ",").split(",") if part]
    except ValueError:
        values = []
    if not values or not all(math.isfinite(value) for value in values):
        raise typer.BadParameter(f"{text[:80]!r} are not numbers: give {option} as 123.675,116.28,103.53")
    return values


def _read_names(path: Path | None) -> list[str] | None:
    from ..inputs import read_text

    if path is None:
        return None
    text = read_text(path, "list of classes", fix="give a text file with one class name per line")
    return [line.strip() for line in text.splitlines() if line.strip()]

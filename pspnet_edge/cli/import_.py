"""``pspnet-edge import``: a checkpoint of another project → ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .output import JsonFlag, result, say

if TYPE_CHECKING:
    from ..model.foreign.importer import Imported


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import")(import_)


def import_(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="CHECKPOINT", help="A checkpoint file of another project."),
    ],
    format_name: Annotated[
        str,
        typer.Option(
            "--format", metavar="auto|semseg|mmseg|smp|paddleseg", help="Project it comes from; auto recognizes it."
        ),
    ] = "auto",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Default: CHECKPOINT's name with .imported.pt."),
    ] = None,
    auto: Annotated[bool, typer.Option("--auto", hidden=True)] = False,
    label_set: Annotated[
        str | None,
        typer.Option(metavar="camvid|voc|cityscapes", help="Label set it was trained for; reorders the classes."),
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Class names, one per line, in the order of the logits.")
    ] = None,
    bins: Annotated[
        str | None, typer.Option(metavar="N,N,…", help="Bins of the pyramid pooling module, if not 1,2,3,6.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="FILE.npz", help="An `input` and its `logits`, to compare with.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Import a PSPNet checkpoint of semseg, mmsegmentation, segmentation-models-pytorch or PaddleSeg."""
    from ..artifact import ensure_writable, sha256_of
    from ..lazy import require

    chosen, source = _format_and_source(arguments, format_name, auto)
    output = output or source.with_suffix(".imported.pt")
    ensure_writable(output)
    require("torch", "import a checkpoint")
    from ..model.checkpoint import save_checkpoint
    from ..model.foreign.classes import find_label_set
    from ..model.foreign.importer import difference_from_reference, import_checkpoint

    imported = import_checkpoint(
        source,
        chosen,
        bins=_parse_bins(bins),
        label_set=None if label_set is None else find_label_set(label_set),
        class_names=_read_names(classes),
    )
    difference = None if reference is None else difference_from_reference(imported, reference)
    origin = {
        "format": imported.format,
        "source": source.name,
        "source_sha256": sha256_of(source),
        "assumed": list(imported.assumed),
        "class_order": None if imported.class_order is None else list(imported.class_order),
    }
    save_checkpoint(output, imported.model, imported.label_set, {"imported": origin})
    model = imported.model
    facts: dict[str, Any] = {
        "checkpoint": str(output),
        **origin,
        "network": model.preset,
        "architecture": model.architecture,
        "mean": list(model.mean),
        "std": list(model.std),
        "align_corners": model.align_corners,
        "label_set": imported.label_set.facts(),
        "left_out": imported.left_out,
    }
    if difference is not None:
        facts["max_abs_diff"] = difference
    _tell(imported)
    compared = "" if difference is None else f", logits within {difference:.1e} of {reference}"
    result(facts, as_json, f"{output}: {model.preset} of {imported.format}, {model.classes} classes{compared}")


def _tell(imported: Imported) -> None:
    say(f"taken as {imported.format}'s default: {', '.join(imported.assumed)}")
    if imported.label_set.classes[0] == "class 0":
        say("no class names are known, so they are numbered: give --label-set or --classes")
    if imported.class_order is not None:
        say(f"the classes were put into the order of label set {imported.label_set.name}")
    for reason in sorted(set(imported.left_out.values())):
        keys = [key for key, why in imported.left_out.items() if why == reason]
        say(f"left out, {reason}: {keys[0]}{f' and {len(keys) - 1} more' if len(keys) > 1 else ''}")


def _format_and_source(arguments: list[str], wanted: str, auto: bool) -> tuple[str | None, Path]:
    """The format, None to recognize it, and the file; also as 0.1 spelled them: ``mmseg FILE`` and ``--auto FILE``."""
    formats = ("semseg", "mmseg", "smp", "paddleseg")
    if wanted not in ("auto", *formats):
        raise typer.BadParameter(f"unknown format {wanted!r}: choose auto, {', '.join(formats)}")
    if len(arguments) == 2 and arguments[0] in formats and not auto:
        say(f"`import {arguments[0]} FILE` is now `import FILE --format {arguments[0]}`")
        return arguments[0], Path(arguments[1])
    if len(arguments) != 1 or arguments[0] in formats:
        raise typer.BadParameter("give one checkpoint file")
    if auto:
        say("--auto is not needed any more: the format is recognized")
    return None if wanted == "auto" else wanted, Path(arguments[0])


def _parse_bins(text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise typer.BadParameter(f"{text!r} are not bins: give whole numbers of at least 1 such as 1,2,3,6")
    return [int(part) for part in parts]


def _read_names(path: Path | None) -> list[str] | None:
    from ..inputs import read_text

    if path is None:
        return None
    text = read_text(path, "list of classes", fix="give a text file with one class name per line")
    return [line.strip() for line in text.splitlines() if line.strip()]

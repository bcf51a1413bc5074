"""``pspnet-edge data``: import labels of other tools, split, check, and fetch public data sets."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..records import counted
from .output import JsonFlag, progress, result, say

if TYPE_CHECKING:
    from ..data.check import Findings
    from ..data.importing import Imported
    from ..data.importing.source import Dropped
    from ..labels import LabelSet

Root = Annotated[Path, typer.Option("--root", metavar="DIR", help="Data set folder.")]
OptionalRoot = Annotated[Path | None, typer.Option("--root", metavar="DIR", help="Data set folder, after a name.")]
SetArgument = Annotated[
    str | None,
    typer.Argument(metavar="DIR", help="Data set folder; or camvid, voc or cityscapes, with --root."),
]


def register(app: typer.Typer) -> None:
    """Add the command group to the application."""
    group = typer.Typer(
        name="data",
        help="Import labels from other tools, split and check data sets, download public ones.",
        no_args_is_help=True,
    )
    group.command("import", no_args_is_help=True)(import_)
    group.command("split", no_args_is_help=True)(split)
    group.command("check", no_args_is_help=True)(check)
    group.command("fetch", no_args_is_help=True)(fetch)
    app.add_typer(group)


_SHOWN_REASONS = 10


def import_(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="What the labelling tool exported: a folder, archive or file.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="New folder for the data set.")],
    source_format: Annotated[
        str,
        typer.Option("--format", metavar="FORMAT", help="Format of SOURCE, one of the above; auto detects it."),
    ] = "auto",
    auto: Annotated[bool, typer.Option("--auto", help="Same as --format auto.")] = False,
    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="Image folder, if SOURCE has no images.")
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            "--classes",
            metavar="FILE",
            help="Class list in id order, one `name` or `name, r, g, b` per line, or a public set's own.",
        ),
    ] = None,
    mapping: Annotated[
        str | None,
        typer.Option(
            "--map", metavar="A=B,…", help="Rename, merge or ignore classes: truck=car,void=ignore,255=thing."
        ),
    ] = None,
    ignore_id: Annotated[
        int | None, typer.Option("--ignore-id", metavar="ID", min=0, help="Mask value of unlabelled pixels.")
    ] = None,
    val: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Make a new split: fraction of images for validation, e.g. 0.2."),
    ] = None,
    train_share: Annotated[float | None, typer.Option("--split", hidden=True)] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed of the split.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier import in --output.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Convert a labelling tool's export to images/, masks/, classes.txt and splits. SOURCE is not modified.

    Formats: cvat, cvat-images, cvat-cityscapes, camvid, coco, labelme, voc (also labelme2voc), label-studio, roboflow,
    supervisely, via, datumaro, darwin, cityscapes, ade20k, yolo, colours (colour masks), pairs (a.jpg and a_mask.png),
    folder; also Parquet. docs/own_data.md describes each. To resume an interrupted import, run the same command again.

    Examples:

      pspnet-edge data import cvat_export.zip -o my_data --val 0.2

      pspnet-edge data import coco/ -o my_data --map "truck=car,bus=car,void=ignore"

      pspnet-edge data import binary_masks/ -o my_data --map "0=background,255=thing"
    """
    from ..data.importing import import_dataset

    if train_share is not None:
        if val is not None:
            raise typer.BadParameter("it is the former name of --val: give only one", param_hint="--split")
        val = round(1 - train_share, 9)
        say(f"--split {train_share:g} is now --val {val:g}, the share for validation as in `data split`")
    imported = import_dataset(
        source,
        output,
        format="auto" if auto else source_format,
        images=images,
        classes=classes,
        mapping=mapping,
        ignore_id=ignore_id,
        val=val,
        seed=seed,
        overwrite=overwrite,
        progress=progress,
    )
    if imported.class_list:
        say(f"classes and any colours are read from {imported.class_list}")
    for line in _dropped_lines(imported):
        say(line)
    for alike in _alike(imported.classes):
        joined = shlex.quote(",".join(f"{other}={alike[0]}" for other in alike[1:]))
        say(f"{', '.join(alike)} differ only in capitals, and are {len(alike)} classes: import with --map {joined}")
    if imported.only_background:
        nothing = counted(imported.only_background, "image")
        say(f"{nothing} of {imported.images} without any object: each mask is background alone")
    if imported.sequences_cut:
        again = shlex.join(["pspnet-edge", "data", "split", str(output), "--group", "name", "--overwrite"])
        say(f"{_cut_sentence(imported.sequences_cut)} (`{again}` keeps each)")
    if val is not None:
        _say_other_share(imported.splits.get("val", 0), imported.images, val)
    splits = ", ".join(f"{name} {count}" for name, count in imported.splits.items()) or "no splits"
    lines = [
        f"{output}: {counted(imported.images, 'image')} from {imported.format}, {len(imported.classes)} classes "
        f"({', '.join(imported.classes)}), {splits}, {len(imported.dropped)} dropped",
        f"next: pspnet-edge data check {shlex.quote(str(output))}",
    ]
    if not imported.splits:
        lines.append(f"and:  pspnet-edge data split {shlex.quote(str(output))}")
    result(imported.to_dict(), as_json, "\n".join(lines))


def split(
    folder: SetArgument = None,
    root: OptionalRoot = None,
    val: Annotated[float, typer.Option(metavar="SHARE", help="Fraction of images for validation.")] = 0.2,
    test: Annotated[float, typer.Option(metavar="SHARE", help="Fraction of images for testing.")] = 0.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed.")] = 0,
    group: Annotated[
        str,
        typer.Option(
            metavar="auto|name|folder|none|REGEX",
            help="How sequences, which stay together, are told: by the last number in a name, by folder or by REGEX.",
        ),
    ] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing lists.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Split a data set: write train.txt, val.txt and, with --test, test.txt. Images are not moved.

    Examples:

      pspnet-edge data split my_data --val 0.2

      pspnet-edge data split my_data --val 0.15 --test 0.15 --seed 3

      pspnet-edge data split my_data --group "^(drive_[0-9]+)"
    """
    from ..data.split import split_folder
    from ..errors import OptionError

    name, place = _set_and_root(folder, root)
    if name not in (None, "folder"):
        raise OptionError(f"{name} comes with its own splits", "give the folder of your data set")
    done = split_folder(place, val=val, test=test, seed=seed, group=group, overwrite=overwrite)
    counts = f"train {done.train}, val {done.val}" + (f", test {done.test}" if done.test else "")
    kept = "" if done.grouped_by == "none" else f"; {done.groups} groups by {done.grouped_by} kept together"
    if done.without_mask:
        say(f"{counted(done.without_mask, 'image')} without a mask: in none of the lists")
    _say_other_share(done.val, done.train + done.val + done.test, val)
    if done.sequences_cut and group == "auto":
        say(f"{_cut_sentence(done.sequences_cut)} (--group name keeps each)")
    result({"root": str(place)} | done.to_dict(), as_json, f"{place}: {counts}{kept}")


def _dropped_lines(imported: Imported) -> Iterator[str]:
    """A line per reason, for the first few; what a reason says in brackets at its end is of one item."""
    alike: dict[str, list[Dropped]] = {}
    for dropped in imported.dropped:
        alike.setdefault(dropped.reason.rpartition(" (")[0] or dropped.reason, []).append(dropped)
    for first, *others in islice(alike.values(), _SHOWN_REASONS):
        more = f" and {len(others)} more, all in {imported.report}" if others else ""
        yield f"dropped {first.item}{more}: {first.reason}"
    if len(alike) > _SHOWN_REASONS:
        yield f"… for {counted(len(alike) - _SHOWN_REASONS, 'more reason')}, in {imported.report}"


def _alike(names: Sequence[str]) -> list[list[str]]:
    """Names that differ only in capitals."""
    spellings: dict[str, list[str]] = {}
    for name in names:
        spellings.setdefault(name.casefold(), []).append(name)
    return [alike for alike in spellings.values() if len(alike) > 1]


def _cut_sentence(sequences: int) -> str:
    return (
        f"by their names the images are of few sequences, and of {counted(sequences, 'sequence')} there are images in "
        "train and in val: if they are videos, mIoU on val is too good"
    )


def _say_other_share(validating: int, images: int, wanted: float) -> None:
    share = validating / images
    if validating > 1 and abs(share - wanted) > max(0.1, wanted / 2):
        say(f"val has {share:.0%} of the images in place of {wanted:.0%}, because a group goes whole into one split")


def check(
    folder: SetArgument = None,
    root: OptionalRoot = None,
    size: Annotated[
        str,
        typer.Option(metavar="HEIGHTxWIDTH", help="Engine input size; objects too small to see at it are reported."),
    ] = "384x480",
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Also write an HTML page that shows the worst findings."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 1 on warnings too.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Read every image and mask and list defects and likely label errors. Exit status 1 if there are defects.

    Examples:

      pspnet-edge data check my_data --html check.html

      pspnet-edge data check cityscapes --root /data/cityscapes --size 512x1024

      pspnet-edge data check my_data --strict --json
    """
    from ..artifact import ensure_writable
    from ..data.check import check_dataset, write_page
    from ..data.recognize import recognized
    from .options import parse_size

    name, place = _set_and_root(folder, root)
    name = name or recognized(place)
    if html is not None:
        ensure_writable(html)
    findings = check_dataset(name, place, progress, engine_hw=parse_size(size))
    _say_findings(findings)
    if html is not None:
        write_page(html, name, place, findings, _label_set(name, place))
        say(f"the findings with pictures are in {html}" if findings.found else f"nothing was found; {html} says so")
    facts = {
        "dataset": name,
        "root": str(place),
        "splits": {split: count.to_dict() for split, count in findings.splits.items()},
        "defects": [finding.to_dict() for finding in findings.defects],
        "warnings": [finding.to_dict() for finding in findings.warnings],
        "notes": list(findings.notes),
        "html": str(html) if html else None,
    }
    result(facts, as_json, "\n".join(_summary(findings)))
    if findings.defects or (strict and findings.warnings):
        raise typer.Exit(1)


def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="camvid, voc or cityscapes.")],
    root: Root,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Download the archive from here instead.")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option("--sha256", metavar="HEX", help="Expected SHA-256 of the archive.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Download, verify and unpack a public data set. An interrupted download is resumed.

    Examples:

      pspnet-edge data fetch camvid --root CamVid

      pspnet-edge data fetch voc --root /data/voc
    """
    from ..data.fetch import fetch as fetch_dataset

    archives = fetch_dataset(name, root, url=url, sha256=sha256, progress=progress)
    facts = {"dataset": name, "root": str(root), "archives": [asdict(archive) for archive in archives]}
    lines = []
    for archive in archives:
        how = f"verified by {archive.verified_by}"
        if archive.verified_by == "none":
            how = "recorded, because no published one exists to compare it with"
        lines.append(f"{root / archive.folder}: {archive.files} files, SHA-256 {archive.sha256}, {how}")
    lines.append(f"check it with: pspnet-edge data check {name} --root {shlex.quote(str(root))}")
    result(facts, as_json, "\n".join(lines))


def _set_and_root(folder: str | None, root: Path | None) -> tuple[str | None, Path]:
    """The data set's name, or None to recognize it, and its folder, from ``DIR``, ``NAME --root DIR`` or ``--root
    DIR``."""
    from ..data.datasets import NAMES
    from ..errors import OptionError

    if folder in NAMES and not (root is None and Path(folder).is_dir()):
        if root is None and folder != "scenes":
            raise typer.BadParameter("missing", param_hint="--root")
        return folder, root or Path()
    place = Path(folder) if folder is not None else root
    if place is None:
        raise typer.BadParameter("give the folder of the data set", param_hint="DIR")
    if folder is not None and root is not None:
        if not place.is_dir():
            raise OptionError(f"unknown data set {folder!r}", f"choose one of {', '.join(NAMES)}")
        raise typer.BadParameter("give the folder once", param_hint="--root")
    return None, place


def _label_set(name: str, root: Path) -> LabelSet | None:
    from .. import labels
    from ..data.folder import classes_of
    from ..errors import DataError

    if name != "folder":
        return {"camvid": labels.CAMVID, "voc": labels.VOC, "cityscapes": labels.CITYSCAPES}[name]
    try:
        return classes_of(root).label_set
    except DataError:
        return None


def _say_findings(findings: Findings) -> None:
    """Each finding, but of a kind that many files of a split show only the first: their sentences are alike."""
    from ..data.check import few_of_each_kind

    few, more = few_of_each_kind(findings.found)
    for finding in few:
        say(f"{finding.severity}: {f'{finding.split}: ' if finding.split else ''}{finding.problem}")
    for (severity, split, kind), count in more.items():
        say(f"{severity}: {f'{split}: ' if split else ''}{counted(count, 'more file')} with {kind}, which --json lists")


def _summary(findings: Findings) -> list[str]:
    lines = []
    for split, count in findings.splits.items():
        lines.append(f"{split}: {counted(count.images, 'image')}, {count.ignored_fraction():.1%} of the pixels ignored")
        lines += [f"  {share:8.3%}  {class_name}" for class_name, share in count.class_frequencies().items()]
    lines += findings.notes
    defects, warnings = len(findings.defects), len(findings.warnings)
    said = f"{defects} defect{'s' if defects != 1 else ''}" if defects else "no defects"
    lines.append(f"{said}, {warnings} warning{'s' if warnings != 1 else ''}" if warnings else said)
    return lines

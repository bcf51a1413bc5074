"""``pspnet-edge data``: fetch public data sets, and look through any data set for defects."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .output import JsonFlag, progress, result, say

Root = Annotated[Path, typer.Option("--root", metavar="DIR", help="The data set's folder.")]


def register(app: typer.Typer) -> None:
    """Add the command group to the application."""
    group = typer.Typer(
        name="data",
        help="Fetch public data sets, and look through any data set for defects.",
        no_args_is_help=True,
    )
    group.command("check")(check)
    group.command("fetch")(fetch)
    app.add_typer(group)


def check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="camvid, voc, cityscapes or folder.")],
    root: Root,
    as_json: JsonFlag = False,
) -> None:
    """Read every image and mask; list counts, class frequencies and every defect. Exit status 1 if there is one."""
    from ..data.check import check_dataset

    findings = check_dataset(name, root, progress)
    for defect in findings.defects:
        say(f"{defect.split or name}: {defect.problem}")
    facts = {
        "dataset": name,
        "root": str(root),
        "splits": {
            split: {
                "images": count.images,
                "class_frequencies": count.class_frequencies(),
                "ignored_fraction": count.ignored_fraction(),
            }
            for split, count in findings.splits.items()
        },
        "defects": [asdict(defect) | {"file": str(defect.file)} for defect in findings.defects],
    }
    lines = []
    for split, count in findings.splits.items():
        lines.append(f"{split}: {count.images} images, {count.ignored_fraction():.1%} of the pixels ignored")
        lines += [f"  {share:8.3%}  {class_name}" for class_name, share in count.class_frequencies().items()]
    lines.append(f"{len(findings.defects)} defects" if findings.defects else "no defects")
    result(facts, as_json, "\n".join(lines))
    if findings.defects:
        raise typer.Exit(1)


def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="camvid, voc or cityscapes.")],
    root: Root,
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="Another address of the archive.")] = None,
    sha256: Annotated[
        str | None, typer.Option("--sha256", metavar="HEX", help="The SHA-256 that the archive must have.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Download a public data set, check it and unpack it; a download that was broken off is resumed."""
    from ..data.fetch import fetch as fetch_dataset

    archives = fetch_dataset(name, root, url=url, sha256=sha256, progress=progress)
    facts = {"dataset": name, "root": str(root), "archives": [asdict(archive) for archive in archives]}
    lines = []
    for archive in archives:
        how = f"verified by {archive.verified_by}"
        if archive.verified_by == "none":
            how = "recorded, because none is published to hold it against"
        lines.append(f"{root / archive.folder}: {archive.files} files, SHA-256 {archive.sha256}, {how}")
    lines.append(f"look through it with: pspnet-edge data check {name} --root {root}")
    result(facts, as_json, "\n".join(lines))

"""A report as files: report.json, report.md, report.html (one file that needs no network) and report.png."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..artifact import write_bytes
from ..document import read_document
from ..lazy import available, require
from ..measure.facts import Sample
from ..records import finite
from . import charts
from .facts import ClassIou, Report
from .published import comparable, published
from .shape import REPORT
from .tables import (
    ESTIMATE_COLUMNS,
    PUBLISHED_COLUMNS,
    Columns,
    class_groups,
    confusions,
    environment_facts,
    findings,
    percent,
    result_columns,
    summary_lines,
)

FORMAT_VERSION = 1
KIND = "benchmark"
PICTURES = "samples"
"""Folder of the sample overlays beside report.json, which the page carries inside itself."""

__all__ = ["can_draw", "html", "json_text", "markdown", "published", "read_report", "write_report"]

_PAGE = Path(__file__).parent / "page"
_Entry = TypeVar("_Entry")


def can_draw() -> bool:
    """Whether what draws charts and pages is installed; without it there are report.json and report.md."""
    return available("matplotlib") and available("jinja2")


def read_report(path: Path) -> Report:
    """Read a report.json.

    Raises:
        ModelError: it is missing, damaged, something else, or of another version.
    """
    report: Report = read_document(
        path,
        what="report",
        shape=REPORT,
        remake="pspnet-edge benchmark -o DIR",
        kind=KIND,
        version=FORMAT_VERSION,
    )
    report.setdefault("against", None)
    return report


def write_report(report: Report, folder: Path, pictures: Path) -> list[Path]:
    """Write every form of a report that can be written here.

    Args:
        report: as ``cli.benchmark`` puts it together.
        folder: where the files go.
        pictures: where the sample overlays are.

    Returns:
        The files, report.json first.
    """
    files = {"report.json": json_text(report), "report.md": markdown(report)}
    if can_draw():
        files["report.html"] = html(report, pictures)
    for name, text in files.items():
        write_bytes(folder / name, text.encode())
    if can_draw():
        write_bytes(folder / "report.png", charts.png(report))
        return [folder / name for name in (*files, "report.png")]
    return [folder / name for name in files]


def json_text(report: Report) -> str:
    """JSON that a person can read: lists of numbers on one line."""
    text = json.dumps(finite(report), indent=2, ensure_ascii=False)
    numbers = re.compile(r"\[\s+((?:-?[\d.eE+-]+|null)(?:,\s+(?:-?[\d.eE+-]+|null))*)\s+\]")
    return numbers.sub(lambda match: "[" + re.sub(r"\s+", " ", match[1]) + "]", text) + "\n"


def markdown(report: Report) -> str:
    """The tables and the environment, for README files and terminals."""
    rows = report["rows"]
    lines = ["# What each frame per second costs in mIoU", "", *summary_lines(report), ""]
    lines += _table(result_columns(report), rows)
    if report["against"]:
        lines += ["", "## Changes", "", *report["against"]["lines"]]
    for group in class_groups(report):
        lines += ["", f"## IoU by class, {group['title']}, worst first", ""]
        columns: Columns[ClassIou] = [("class", lambda entry: entry["class"])]
        columns += [(name, partial(_class_iou, name)) for name in group["names"]]
        lines += _table(columns, group["classes"])
    if report["estimates"]:
        lines += ["", "## Estimates, nothing of which was measured", ""]
        lines += _table(ESTIMATE_COLUMNS, report["estimates"])
    if others := comparable(report):
        lines += ["", "## Published by others, on the devices named", "", *_table(PUBLISHED_COLUMNS, others)]
    lines += ["", "## Where and how", ""]
    lines += [f"- {name}: {text}" for name, text in environment_facts(report)]
    lines += ["", "```sh", report["command"], "```", ""]
    return "\n".join(lines)


def html(report: Report, pictures: Path) -> str:
    """The page: styles, charts and pictures inside, nothing to fetch."""
    jinja2 = require("jinja2", "write report.html")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    markup = require("markupsafe", "write report.html").Markup
    environment.filters["percent"] = percent
    drawn = {
        f"{draw.__name__}_{'narrow' if narrow else 'wide'}": markup(charts.svg(draw, report, narrow=narrow))
        for draw in (charts.tradeoff, charts.latencies)
        for narrow in (True, False)
    }
    text: str = environment.get_template("report.html.j2").render(
        report=report,
        style=markup((_PAGE / "report.css").read_text(encoding="utf-8")),
        charts=drawn,
        summary=summary_lines(report),
        findings=findings(report),
        columns=result_columns(report),
        class_groups=class_groups(report),
        confusions=confusions(report),
        samples=_with_pictures(report["samples"], pictures),
        labels=_legend(report),
        estimate_columns=ESTIMATE_COLUMNS,
        published=comparable(report),
        published_columns=PUBLISHED_COLUMNS,
        environment=environment_facts(report),
        hashes=report["rows"],
    )
    return text


def _table(columns: Columns[_Entry], entries: Sequence[_Entry]) -> list[str]:
    lines = ["| " + " | ".join(name for name, _ in columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(_cell(show(entry)) for _, show in columns) + " |" for entry in entries]
    return lines


def _class_iou(engine: str, entry: ClassIou) -> str:
    return percent(entry["iou"].get(engine))


def _cell(text: str) -> str:
    return re.sub(r"([|<>\\`*\[\]])", r"\\\1", text).replace("\n", " ")


def _with_pictures(samples: Sequence[Sample], folder: Path) -> list[dict[str, object]]:
    """The samples with their pictures as data URIs; those whose files are gone are left out."""
    found = []
    for sample in samples:
        places = {kind: folder / Path(name).name for kind, name in sample["pictures"].items()}
        if all(place.is_file() for place in places.values()):
            uris = {
                kind: "data:image/jpeg;base64," + base64.b64encode(place.read_bytes()).decode()
                for kind, place in places.items()
            }
            found.append({**sample, "uris": uris})
    return found


def _legend(report: Report) -> list[tuple[str, str]]:
    labels = report["label_set"]
    if not labels:
        return []
    return [(name, "#{:02x}{:02x}{:02x}".format(*colour)) for name, colour in zip(labels["classes"], labels["palette"])]

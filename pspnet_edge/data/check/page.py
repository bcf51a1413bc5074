"""The findings as one HTML page that needs no other file: counts, and a picture of the worst of each kind."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import suppress
from html import escape
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ...artifact import write_bytes
from ...errors import DataError
from ...labels import IGNORE, LabelSet
from ...pixels import PixelFormat
from ...records import counted
from ..image_file import read_image
from ..mask_file import read_raw_mask
from .findings import Finding, Findings

_WIDTH = 420
_SHOWN = 3
_STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; }
td, th { padding: .2rem clamp(.25rem, 1.5vw, .8rem); text-align: right; }
td:first-child, th:first-child
{ text-align: left; } tr:nth-child(even) { background: color-mix(in srgb, currentColor 7%, transparent); }
figure { display: inline-block; margin: .5rem 1rem 1rem 0; max-width: 880px; } figure img { max-width: 100%; }
figcaption { overflow-wrap: anywhere; font-size: 13px; } .defect { color: #c62828; } .warning { color: #b26a00; }
@media (prefers-color-scheme: dark) { .defect { color: #ff8a80; } .warning { color: #ffcc80; } }
"""
_TITLES = {
    "layout": "Layout", "unreadable": "Images that cannot be read", "missing-mask": "Missing masks",
    "bad-mask": "Masks that cannot be used", "size": "Sizes that differ", "blank": "Blank images",
    "nothing-labelled": "Masks without a label", "slivers": "Slivers along edges",
    "exif-turned": "Masks not turned by EXIF",
    "turned": "Turned masks", "shifted": "Shifted masks", "all-shifted": "All masks shifted",
    "wrong-image": "Masks of another image",
    "ignore-is-class": "255 in place of a class", "class-never-occurs": "Classes that never occur",
    "class-not-in-val": "Classes missing in val", "class-not-in-train": "Classes missing in train",
    "duplicate": "Same picture in two splits", "leak": "Same file in two splits", "repeated": "Files listed twice",
    "exif": "EXIF orientation", "mixed-depth": "Mixed bit depths", "small-objects": "Objects too small",
    "mask-without-image": "Masks without image",
}  # fmt: skip


def write_page(path: Path, name: str, root: Path, findings: Findings, label_set: LabelSet | None) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        name: of the data set.
        root: its folder.
        findings: what ``check_dataset`` found.
        label_set: whose colours masks are drawn in; None where the set could not be opened.

    Raises:
        OutputError: it cannot be written.
    """
    write_bytes(path, "".join(_page(name, root, findings, label_set)).encode("utf-8", "replace"))


def _page(name: str, root: Path, findings: Findings, label_set: LabelSet | None) -> Iterator[str]:
    title = f"Check of {root}"
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{_STYLE}</style>"
    yield '<meta name=viewport content="width=device-width, initial-scale=1">'
    yield f"<h1>{escape(title)}</h1><p>Layout {escape(name)}: {counted(len(findings.defects), 'defect')}, "
    yield f"{counted(len(findings.warnings), 'warning')}.</p>"
    yield from (f"<p>{escape(note)}</p>" for note in findings.notes)
    yield from _counts(findings)
    kinds = dict.fromkeys(finding.kind for finding in (*findings.defects, *findings.warnings))
    for kind in kinds:
        of_kind = sorted((f for f in findings.found if f.kind == kind), key=lambda f: -f.weight)
        severity = of_kind[0].severity
        yield f"<h2 class={severity}>{escape(_TITLES.get(kind, kind))} ({len(of_kind)} {severity}"
        yield f"{'s' if len(of_kind) != 1 else ''})</h2>"
        for finding in of_kind[:_SHOWN]:
            yield _figure(finding, label_set)
        rest = of_kind[_SHOWN:]
        if rest:
            yield f"<details><summary>{len(rest)} more</summary><ul>"
            yield from (f"<li>{escape(finding.problem)}</li>" for finding in rest)
            yield "</ul></details>"


def _counts(findings: Findings) -> Iterator[str]:
    if not findings.splits:
        return
    splits = findings.splits
    yield "<h2>Classes</h2><div class=wide><table><tr><th>class"
    yield from (f"<th>{escape(split)}: share<th>images" for split in splits)
    for index, name in enumerate(next(iter(splits.values())).classes):
        yield f"<tr><td>{escape(name)}"
        for count in splits.values():
            share = list(count.class_frequencies().values())[index]
            yield f"<td>{share:.3%}<td>{int(count.occurs[index])}"
    yield "<tr><td>ignored"
    yield from (f"<td>{count.ignored_fraction():.3%}<td>of {count.images}" for count in splits.values())
    yield "</table></div>"


def _figure(finding: Finding, label_set: LabelSet | None) -> str:
    picture = _picture(finding, label_set)
    shown = ""
    if picture is not None:
        encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
        shown = f'<img alt="image and mask" src="data:image/jpeg;base64,{base64.b64encode(encoded).decode()}">'
    return f"<figure>{shown}<figcaption>{escape(finding.problem)}</figcaption></figure>"


def _picture(finding: Finding, label_set: LabelSet | None) -> NDArray[np.uint8] | None:
    """Image and mask side by side, as far as they can be read."""
    panels = []
    if finding.image is not None:
        with suppress(DataError):
            panels.append(_fitted(read_image(finding.image, PixelFormat())))
    if finding.mask is not None:
        with suppress(DataError):
            panels.append(_fitted(_mask_colours(finding.mask, label_set)))
    if not panels:
        return None
    height = max(panel.shape[0] for panel in panels)
    return np.hstack([np.pad(panel, ((0, height - panel.shape[0]), (0, 8), (0, 0))) for panel in panels])


def _mask_colours(path: Path, label_set: LabelSet | None) -> NDArray[np.uint8]:
    raw = read_raw_mask(path)
    if raw.is_colour:
        return np.asarray(raw.values[..., ::-1], np.uint8)
    table = label_set.bgr_table() if label_set else np.zeros((256, 3), np.uint8)
    table[IGNORE] = (255, 0, 255)
    unknown = len(label_set) if label_set else 0
    table[unknown:IGNORE] = (0, 255, 255)
    return np.asarray(table[np.minimum(raw.values, 255).astype(np.uint8)])


def _fitted(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height = max(1, round(picture.shape[0] * _WIDTH / picture.shape[1]))
    method = cv2.INTER_AREA if picture.shape[1] > _WIDTH else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(picture, (_WIDTH, min(height, 3 * _WIDTH)), interpolation=method), np.uint8)

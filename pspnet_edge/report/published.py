"""Figures that others published, and which of them a report can be compared with."""

from __future__ import annotations

import json
from pathlib import Path

from .facts import Published, Report


def published() -> list[Published]:
    """What others published, each with the number under which charts and tables name it."""
    content = json.loads((Path(__file__).parent / "published.json").read_text(encoding="utf-8"))
    entries: list[Published] = content["entries"]
    return [{"number": number, **entry} for number, entry in enumerate(entries, 1)]


def comparable(report: Report) -> list[Published]:
    """The published figures that a reader can compare with this report.

    mIoU on the same data and split; for such data also speeds on the report's board, or on one that it estimates.
    """
    images = report["options"]["images"]
    here = (images.get("dataset"), images.get("split"))
    known = report["published"]
    same = [entry for entry in known if entry.get("miou") and (entry.get("dataset"), entry.get("split")) == here]
    if not same:
        return []
    boards = [report["environment"]["board"], *(entry["board_title"] for entry in report["estimates"])]
    titles = [_joined(board) for board in boards if board]
    return [
        entry
        for entry in known
        if entry in same
        or (not entry.get("miou") and entry.get("fps") and any(_is_of(entry, title) for title in titles))
    ]


def _is_of(entry: Published, title: str) -> bool:
    return "device" in entry and _joined(entry["device"]) in title


def _joined(text: str) -> str:
    return text.replace(" ", "").lower()

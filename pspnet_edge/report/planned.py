"""The rows of a report as candidates of a plan."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from ..engine.backend import Precision
from ..errors import DataError, OptionError
from ..estimate.boards import BOARDS
from ..estimate.plan import Candidate
from ..measure.facts import Environment
from ..records import counted
from .facts import Row
from .render import read_report


def candidates_of_report(path: Path, board: str | None) -> list[Candidate]:
    """Every engine of a report, with the speed that was measured.

    Args:
        path: a report.json.
        board: a key of ``BOARDS`` that the report must be of; None takes a report of any machine.

    Raises:
        ModelError: it is not a report.
        OptionError: it is of another machine.
        DataError: it has no rows.
    """
    report = read_report(path)
    machine = report["environment"]
    if board is not None:
        ensure_board(board, machine, f"{path} was measured on")
    if not report["rows"]:
        raise DataError(f"{path} has {counted(0, 'engine')}", "give a report with engines")
    images = report["options"]["images"]
    data = f"{images.get('dataset')} {images.get('split')}"
    return [_candidate(row, data) for row in report["rows"]]


def ensure_board(board: str, machine: Environment, what: str) -> None:
    """Raise ``OptionError`` unless a machine is the board of that name.

    Args:
        board: a key of ``BOARDS``.
        machine: what ``environment`` says of the machine.
        what: the start of the sentence.
    """
    title = BOARDS[board].title
    found = f"{machine.get('board') or ''} {machine.get('module') or ''}".lower()
    wanted = [word for word in title.lower().split() if word in ("nano", "tx2", "xavier", "nx", "agx", "orin", "thor")]
    others = {"orin", "xavier", "nx", "agx", "thor"} - set(wanted)
    words = set(found.replace("-", " ").split())
    if not set(wanted) <= words or others & words:
        name = machine.get("board") or machine.get("processor") or "an unknown machine"
        raise OptionError(
            f"{what} {name}, not on {title}", "leave out --board to plan for that machine", parameter="board"
        )


def _candidate(row: Row, data: str) -> Candidate:
    height, width = (int(side) for side in row["size"].split("x"))
    # Procedural scenes rank nothing, so the figures that ship in the package are better.
    miou = None if data.startswith("scenes") else row["miou"]
    return Candidate(
        row["model"],
        (height, width),
        cast("Precision", row["precision"]),  # one of them: shape.py has checked it
        row["fps"],
        row["fps"],
        row["fps"],
        row["latency_ms"]["p50"],
        miou,
        data if miou is not None else "",
        measured=True,
    )

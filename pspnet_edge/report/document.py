"""The report as one JSON value, which every other form is made from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from .. import __version__
from ..engine.backends import read_info
from ..engine.build import Model
from ..estimate.predict import BOARDS, estimate
from ..measure.benchmark import Protocol
from ..measure.facts import Environment, Sample
from .facts import EstimateRow, NamedEstimate, Report, Row
from .render import FORMAT_VERSION, KIND, published
from .rows import pareto


def document(
    *,
    rows: list[Row],
    samples: list[Sample],
    estimates: list[EstimateRow],
    engine: Path,
    machine: Environment,
    protocol: Protocol,
    video: str,
    command: str,
) -> Report:
    """Put a report together.

    Args:
        rows: what ``rows_of`` gives.
        samples: sample overlays of two of the engines.
        estimates: what ``estimates_of`` gives; never among the rows.
        engine: whose classes and palette the samples have.
        machine: what ``environment`` gives.
        protocol: how it was measured.
        video: what the loop decoded, for people.
        command: that makes it again.
    """
    images = protocol.images
    return {
        "format_version": FORMAT_VERSION,
        "kind": KIND,
        "made_by": {"pspnet_edge": __version__},
        "made_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "options": {
            "rounds": protocol.rounds,
            "seconds": protocol.seconds,
            "images": {
                "dataset": images["dataset"],
                "split": images["split"],
                "folder": Path(images["root"]).resolve().name if images["root"] else None,
            },
            "video": video,
        },
        "environment": machine,
        "rows": rows,
        "pareto": pareto(rows),
        "estimates": estimates,
        "published": published(),
        "samples": samples,
        "label_set": read_info(engine).label_set.facts(),
        "against": None,
    }


def estimates_of(
    models: Sequence[tuple[Model, tuple[int, int]]], precisions: Sequence[str], boards: Sequence[str]
) -> list[NamedEstimate]:
    """Estimates of every model in every precision that a board computes in.

    Raises:
        OptionError: an unknown board.
    """
    found: list[NamedEstimate] = []
    for board in boards:
        for model, size in models:
            for precision in precisions:
                if board in BOARDS and precision == "int8" and not BOARDS[board].has_int8:
                    continue
                facts = estimate(model.path, precision, board).facts()
                found.append({"model": model.name, "size": f"{size[0]}x{size[1]}", **facts})
    return found


def with_miou(estimates: Sequence[NamedEstimate], rows: Sequence[Row]) -> list[EstimateRow]:
    """Put beside each estimate the mIoU of the same model, size and precision as measured here, where it was."""
    known = {(row["model"], row["size"], row["precision"]): row["miou"] for row in reversed(rows)}
    return [{**entry, "miou": known.get((entry["model"], entry["size"], entry["precision"]))} for entry in estimates]

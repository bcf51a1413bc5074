"""The figures of a run, epoch by epoch: metrics.csv."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..artifact import write_bytes
from ..metrics import ConfusionMatrix


@dataclass(frozen=True)
class EpochResult:
    """The figures of one epoch; NaN where it was not validated."""

    epoch: int
    loss: float
    miou: float
    pixel_accuracy: float
    learning_rate: float
    iou: tuple[float, ...] = ()
    """Of each class; NaN for one that does not occur in the validation images."""
    elapsed_s: float = math.nan

    @property
    def validated(self) -> bool:
        """Whether the epoch ended with a validation."""
        return not math.isnan(self.miou)

    @staticmethod
    def measured(
        epoch: int, loss: float, matrix: ConfusionMatrix | None, learning_rate: float, elapsed_s: float
    ) -> EpochResult:
        """The figures of an epoch from its confusion matrix, or of one that was not validated."""
        if matrix is None:
            return EpochResult(epoch, loss, math.nan, math.nan, learning_rate, elapsed_s=elapsed_s)
        iou = tuple(float(value) for value in matrix.iou())
        return EpochResult(epoch, loss, matrix.miou(), matrix.pixel_accuracy(), learning_rate, iou, elapsed_s)

    @staticmethod
    def from_facts(facts: dict[str, Any]) -> EpochResult:
        """The inverse of ``dataclasses.asdict``; an older version saved fewer fields."""
        known = {one.name for one in fields(EpochResult)}
        values = {key: value for key, value in facts.items() if key in known}
        return EpochResult(**values | {"iou": tuple(values.get("iou", ()))})


def best_result(rows: Sequence[EpochResult]) -> EpochResult | None:
    """The first of the rows with the highest validated mIoU, or None."""
    validated = [row for row in rows if row.validated]
    return max(validated, key=lambda row: row.miou) if validated else None


def write_metrics(path: Path, rows: Sequence[EpochResult], classes: Sequence[str] = ()) -> None:
    """Write metrics.csv atomically.

    A resumed run ends with the same file as one that was not interrupted, so times are left out.
    """
    text = io.StringIO()
    names = [one.name for one in fields(EpochResult) if one.name not in ("iou", "elapsed_s")]
    writer = csv.writer(text)
    writer.writerow(names + [f"iou {name}" for name in classes])
    for row in rows:
        facts = asdict(row)
        iou = row.iou if row.iou else (math.nan,) * len(classes)
        writer.writerow([facts[name] for name in names] + list(iou))
    write_bytes(path, text.getvalue().encode())

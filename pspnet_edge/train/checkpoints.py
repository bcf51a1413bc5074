"""What a run leaves in its folder after each epoch."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import OptionError
from ..labels import LabelSet
from ..metrics import ConfusionMatrix
from ..model.checkpoint import save_checkpoint
from .metrics_log import EpochResult, best_miou, write_metrics
from .recipe import Recipe
from .step import Run

LAST = "last.pt"


class Keeper:
    """Writes the checkpoints and metrics.csv of one run, and reads them again.

    Args:
        folder: where they go.
        recipe: what the run computes.
        label_set: the classes of its data.
        validates: whether epochs are validated, so that there is a best one.
        taught_by: SHA-256 of the teacher, or None.
    """

    def __init__(
        self, folder: Path, recipe: Recipe, label_set: LabelSet, validates: bool, taught_by: str | None
    ) -> None:
        self._folder, self._recipe, self._label_set = folder, recipe, label_set
        self._validates, self._taught_by = validates, taught_by
        self.last = folder / LAST
        self.chosen = folder / ("best.pt" if validates else "final.pt")
        self.rows: list[EpochResult] = []

    def resume(self, run: Run) -> None:
        """Take the run and the rows up to where ``last.pt`` has them.

        Raises:
            ModelError: no such file, or not one to resume from.
            OptionError: it was made with another recipe or teacher.
        """
        state = run.restore(self.last)
        if state["teacher_sha256"] != self._taught_by:
            raise OptionError(f"{self.last} was made with another teacher or none: give the same --distil to resume")
        self.rows = [EpochResult(**row) for row in state["rows"]]

    def add(self, row: EpochResult) -> bool:
        """Add the figures of an epoch; whether its weights are those to keep."""
        best = best_miou(self.rows)
        self.rows.append(row)
        if not self._validates:
            return row.epoch == self._recipe.epochs
        return row.validated and (best is None or row.miou > best)

    def write(self, run: Run, chosen: bool) -> None:
        """Write the files as they are after the last row."""
        row = self.rows[-1]
        facts: dict[str, Any] = {
            "recipe": self._recipe.facts(),
            "epochs": row.epoch,
            "val_miou": row.miou if row.validated else None,
            "teacher_sha256": self._taught_by,
        }
        if chosen:
            save_checkpoint(self.chosen, run.average.model, self._label_set, facts)
        state = run.state() | {"rows": [asdict(row) for row in self.rows], "teacher_sha256": self._taught_by}
        save_checkpoint(self.last, run.model, self._label_set, facts, state)
        write_metrics(self._folder / "metrics.csv", self.rows)


def row_of(epoch: int, loss: float, matrix: ConfusionMatrix | None, learning_rate: float) -> EpochResult:
    """The figures of an epoch; NaN where it was not validated."""
    unknown = float("nan")
    miou, accuracy = (matrix.miou(), matrix.pixel_accuracy()) if matrix else (unknown, unknown)
    return EpochResult(epoch, loss, miou, accuracy, learning_rate)

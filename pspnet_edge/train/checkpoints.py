"""The files of one run: checkpoints, metrics.csv and pictures of its figures."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from ..labels import LabelSet
from ..metrics import ConfusionMatrix
from ..model.checkpoint import Checkpoint, save_checkpoint
from ..pixels import PixelFormat
from ..records import counted
from .history import EpochResult, best_result, write_metrics
from .plots import draw_confusion_matrix, draw_curves
from .recipe import Recipe
from .step import Run

_PIXELS = PixelFormat()
LAST, BEST, FINAL = "last.pt", "best.pt", "final.pt"
METRICS, CURVES, CONFUSION = "metrics.csv", "results.png", "confusion_matrix.png"


class RunFiles:
    """Writes the files of one run after each epoch.

    Args:
        folder: where they go.
        recipe: what the run computes.
        label_set: the classes of its data.
        validates: whether epochs are validated, so that there is a best one.
        teacher_sha256: of the teacher, or None.
        trained_on: names of the data sets behind the weights.
        held_out: what tells which images validated where a folder has no lists, or None.
        pixels: channels of the images and the range that deep ones were scaled by; the network needs the same.
        images: how many the run trains on.
        trained_split: data set and split of these images, ``"folder trainval"``; None where they have no such name.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        label_set: LabelSet,
        validates: bool,
        teacher_sha256: str | None,
        trained_on: tuple[str, ...] = (),
        held_out: str | None = None,
        pixels: PixelFormat = _PIXELS,
        images: int = 0,
        trained_split: str | None = None,
    ) -> None:
        self._folder, self._recipe, self._label_set = folder, recipe, label_set
        self._validates, self._teacher_sha256, self._trained_on = validates, teacher_sha256, trained_on
        self._held_out, self._pixels, self._images = held_out, pixels, images
        self._trained_split = trained_split
        self._last = folder / LAST
        self.chosen = folder / (BEST if validates else FINAL)
        self.rows: list[EpochResult] = []

    def resume(self, saved: Checkpoint) -> None:
        """Take over the figures of a loaded ``last.pt``."""
        assert saved.training is not None
        self.rows = [EpochResult.from_facts(row) for row in saved.training["rows"]]

    def finished(self, saved: Checkpoint) -> str | None:
        """Why a loaded ``last.pt`` needs no more steps, and what makes it train further; None where it needs some."""
        assert saved.training is not None
        if Recipe.from_facts(saved.training["recipe"]).epochs != self._recipe.epochs:
            return None
        if len(self.rows) == self._recipe.epochs:
            return f"finished after {counted(len(self.rows), 'epoch')}: give a larger --epochs to train on"
        return "stopped early: give a larger --patience, or 0, to train on" if self.stops_early() else None

    def add(self, row: EpochResult) -> bool:
        """Add the figures of an epoch; whether its weights are the best so far."""
        best = best_result(self.rows)
        self.rows.append(row)
        if not self._validates:
            return True
        return row.validated and (best is None or row.miou > best.miou)

    def epochs_since_best(self) -> int:
        """Epochs since the validated mIoU last improved; 0 before the first validation."""
        best = best_result(self.rows)
        return self.rows[-1].epoch - best.epoch if best else 0

    def stops_early(self) -> bool:
        """Whether the last epoch was validated and the best one is as long ago as the recipe waits."""
        waited = self._recipe.patience
        return bool(waited and self.rows[-1].validated and self.epochs_since_best() >= waited)

    def write(self, run: Run, chosen: bool, finished: bool, matrix: ConfusionMatrix | None) -> None:
        """Write the files as they are after the last row; ``last.pt`` at the end, so that a resumed run lacks none."""
        row = self.rows[-1]
        facts: dict[str, object] = {
            "recipe": self._recipe.to_dict(),
            "epochs": row.epoch,
            "val_miou": row.miou if row.validated else None,
            "teacher_sha256": self._teacher_sha256,
            "trained_on": list(self._trained_on),
            "held_out": self._held_out,
            "trained_split": self._trained_split,
            "pixels": self._pixels.to_dict(),
            "images": self._images,
            "run": self._folder.resolve().name,
        }
        if chosen and (self._validates or finished):
            save_checkpoint(self.chosen, run.average.model, self._label_set, facts)
        write_metrics(self._folder / METRICS, self.rows, self._label_set.classes if self._validates else ())
        if chosen and matrix is not None:
            draw_confusion_matrix(self._folder / CONFUSION, matrix, self._label_set.classes, f"epoch {row.epoch}")
        if row.validated or finished:
            draw_curves(self._folder / CURVES, self.rows, self._label_set, self._folder.resolve().name)
        state = run.state() | {"rows": [asdict(row) for row in self.rows], "teacher_sha256": self._teacher_sha256}
        save_checkpoint(self._last, run.model, self._label_set, facts, state)

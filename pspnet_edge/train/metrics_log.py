"""What a run leaves to read: metrics.csv, and TensorBoard's files where they are wanted."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from ..artifact import ensure_folder_writable, write_bytes
from ..lazy import require


@dataclass(frozen=True)
class EpochResult:
    """One row of metrics.csv."""

    epoch: int
    loss: float
    miou: float
    pixel_accuracy: float
    learning_rate: float

    @property
    def validated(self) -> bool:
        """NaN marks epochs that were not."""
        return not math.isnan(self.miou)


def best_miou(rows: list[EpochResult]) -> float | None:
    """The highest validated mIoU, or None."""
    return max((row.miou for row in rows if row.validated), default=None)


def write_metrics(path: Path, rows: list[EpochResult]) -> None:
    """Write metrics.csv atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(EpochResult.__dataclass_fields__))
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    write_bytes(path, text.getvalue().encode())


class Board(Protocol):
    """Where figures go as they come."""

    def step(self, step: int, loss: float) -> None:
        """The loss of one step, counted from 1."""

    def epoch(self, row: EpochResult) -> None:
        """The figures of one epoch."""


class _NoBoard:
    def step(self, step: int, loss: float) -> None:
        pass

    def epoch(self, row: EpochResult) -> None:
        pass


class _TensorBoard:
    def __init__(self, folder: Path, steps_done: int) -> None:
        require("tensorboard", "write TensorBoard's files")
        from torch.utils.tensorboard import SummaryWriter

        ensure_folder_writable(folder)
        # What a killed run wrote after its last checkpoint is hidden, because it is computed again.
        self.writer = SummaryWriter(str(folder), purge_step=steps_done + 1)
        self._last_step = steps_done

    def step(self, step: int, loss: float) -> None:
        self._last_step = step
        self.writer.add_scalar("loss/step", loss, step)

    def epoch(self, row: EpochResult) -> None:
        figures = {"loss/epoch": row.loss, "learning_rate": row.learning_rate}
        if row.validated:
            figures |= {"val/miou": row.miou, "val/pixel_accuracy": row.pixel_accuracy}
        for name, figure in figures.items():
            self.writer.add_scalar(name, figure, self._last_step)
        self.writer.flush()


@contextmanager
def board(folder: Path | None, steps_done: int) -> Iterator[Board]:
    """TensorBoard's files in ``folder``, or nothing.

    Raises:
        MissingPackage: TensorBoard is wanted and not installed.
    """
    if folder is None:
        yield _NoBoard()
        return
    opened = _TensorBoard(folder, steps_done)
    try:
        yield opened
    finally:
        opened.writer.close()

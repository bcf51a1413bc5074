"""How a run reports its progress to whoever started it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .history import EpochResult
from .recipe import Autocast


@dataclass(frozen=True)
class RunHeader:
    """What a run is about to do."""

    model: str
    folder: Path
    device: str
    autocast: Autocast
    processes: int
    workers: int
    images: int
    validation_images: int | None
    """None where there is no validation split."""
    scenes: int
    classes: tuple[str, ...]
    parameters: int
    trained_parameters: int
    epochs_done: int
    epochs: int
    steps_per_epoch: int


class Listener:
    """Is told of the progress of a run; override what is of interest. Methods are called in the training process."""

    def note(self, text: str) -> None:
        """A line that the user should see."""

    def warn(self, text: str) -> None:
        """A line about something that will probably go wrong."""

    def teacher(self, done: int, images: int) -> None:
        """The teacher has computed ``done`` of the images."""

    def start(self, header: RunHeader) -> None:
        """Training begins."""

    def step(self, step: int, steps: int, loss: float) -> None:
        """A step is done, counted from 1 over the whole run."""

    def validation(self, done: int, images: int) -> None:
        """``done`` of the validation images are predicted."""

    def epoch(self, result: EpochResult, best: bool) -> None:
        """An epoch is done; ``best`` if its validated mIoU is the highest so far."""

"""What ``train`` shows while it runs: a header, progress bars, and a few lines per epoch."""

from __future__ import annotations

import math
import os
import time
from contextlib import ExitStack
from pathlib import Path

from ..records import counted
from ..train.history import EpochResult
from ..train.listener import Listener, RunHeader
from .output import Advance, duration, progress, say

_TIMED_STEPS = 4
_TIMED_S = 2.0


class TrainingProgress(ExitStack, Listener):
    """Shows a run on stderr; silent in every process but the first."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: tuple[str, Advance] | None = None
        self._header: RunHeader | None = None
        self.folder: Path | None = None
        """Of a run that has an epoch to resume from."""
        self._first_step: tuple[int, float] | None = None
        self._estimated = False

    def note(self, text: str) -> None:
        self._say(text)

    def warn(self, text: str) -> None:
        self._say(f"warning: {text}")

    def teacher(self, done: int, images: int) -> None:
        self._advance("teacher", images, done, "")

    def start(self, header: RunHeader) -> None:
        self._header = header
        self.folder = header.folder if header.epochs_done else None
        for line in header_lines(header):
            self._say(line)

    def step(self, step: int, steps: int, loss: float) -> None:
        self._advance("train", steps, step, f"loss {loss:.3f}")
        self._estimate(step, steps)

    def validation(self, done: int, images: int) -> None:
        self._advance("validate", images, done, "")

    def epoch(self, result: EpochResult, best: bool) -> None:
        assert self._header is not None
        self.folder = self._header.folder
        self._say(epoch_line(result, self._header.epochs, best))
        if result.iou:
            self._say(class_line(self._header.classes, result.iou))
            for text in zero_warnings(self._header.classes, result.iou):
                self.warn(text)

    def _estimate(self, step: int, steps: int) -> None:
        """Say once, after a few steps, how long the run will take."""
        now = time.monotonic()
        if self._first_step is None:  # the first step also starts the loaders and compiles
            self._first_step = step, now
            return
        first, since = self._first_step
        timed = step - first
        if self._estimated or timed < _TIMED_STEPS or (now - since < _TIMED_S and timed < 20):
            return
        self._estimated = True
        if step == steps:
            return
        per_step = (now - since) / timed
        self._say(f"expected time: {duration(per_step * (steps - step))} ({per_step:.2f} s per step) plus validation")

    def _say(self, text: str) -> None:
        if is_first_process():
            if self._bar is not None:  # so that the line does not land in the middle of a bar
                self.close()
                self._bar = None
            say(text)

    def _advance(self, what: str, total: int, done: int, note: str) -> None:
        if not is_first_process():
            return
        if self._bar is None or self._bar[0] != what:
            self.close()
            self._bar = what, self.enter_context(progress(what, total))
        self._bar[1](done, note)


def is_first_process() -> bool:
    """Whether this is the first of the processes that torchrun started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def header_lines(header: RunHeader) -> list[str]:
    """What a run is about to do, in four lines."""
    million = f"{header.parameters / 1e6:.2f} M parameters"
    if header.trained_parameters < header.parameters:
        million += f" ({header.trained_parameters / 1e6:.2f} M trained)"
    validation = "no" if header.validation_images is None else str(header.validation_images)
    scenes = f" and {header.scenes} procedural scenes" if header.scenes else ""
    steps = (header.epochs - header.epochs_done) * header.steps_per_epoch
    resumed = f"from epoch {header.epochs_done + 1}, " if header.epochs_done else ""
    epochs = counted(header.epochs - header.epochs_done, "epoch")
    processes = f", {header.processes} processes" if header.processes > 1 else ""
    loaders = counted(header.workers, "loader process", "loader processes")
    numbers = {"bf16": "bfloat16", "fp16": "float16"}.get(header.autocast, "float32")
    return [
        f"model    {header.model}, {million}",
        f"classes  {len(header.classes)}: {', '.join(header.classes)}",
        f"images   {header.images} to train{scenes}, {validation} to validate",
        f"steps    {steps}: {resumed}{epochs} of {header.steps_per_epoch}",
        f"device   {header.device} in {numbers}{processes}, {loaders}",
        f"output   {header.folder}",
    ]


def epoch_line(row: EpochResult, epochs: int, best: bool) -> str:
    """The figures of an epoch."""
    measured = f", val mIoU {row.miou:.4f}{' (best)' * best}" if row.validated else ""
    elapsed = f", {duration(row.elapsed_s)}" if not math.isnan(row.elapsed_s) else ""
    return f"epoch {row.epoch}/{epochs}: loss {row.loss:.4f}{measured}{elapsed}"


def class_line(classes: tuple[str, ...], iou: tuple[float, ...]) -> str:
    """The IoU of each class."""
    entries = (f"{name} {'absent' if math.isnan(value) else f'{value:.3f}'}" for name, value in zip(classes, iou))
    return "  IoU: " + ", ".join(entries)


def zero_warnings(classes: tuple[str, ...], iou: tuple[float, ...]) -> list[str]:
    """A line when classes that occur were not found at all."""
    missed = [name for name, value in zip(classes, iou) if value == 0]
    if not missed:
        return []
    verb = "is" if len(missed) == 1 else "are"
    return [
        f"{', '.join(missed)} {verb} at IoU 0: if that lasts, check the masks with `pspnet-edge data check`, "
        f"train longer, use a larger --crop, or add --lovasz-weight 0.5"
    ]

"""Where the figures of a run go as they come: TensorBoard, Weights & Biases, MLflow, each through its own package."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from ..artifact import ensure_folder_writable, write_bytes
from ..errors import OptionError, PspnetEdgeError
from ..lazy import require
from ..records import first_line
from .history import EpochResult
from .recipe import Recipe

LoggerName = Literal["tensorboard", "wandb", "mlflow"]

_log = logging.getLogger(__name__)
_PROJECT = "pspnet-edge"


class Logger(Protocol):
    """Receives the figures of a run."""

    def log(self, figures: dict[str, float], step: int) -> None:
        """Figures by name after a step, counted from 1."""

    def close(self, failed: bool) -> None:
        """Called once at the end."""


class LoggerSet:
    """Several loggers as one."""

    def __init__(self, loggers: Sequence[Logger], classes: Sequence[str], steps_done: int) -> None:
        self._loggers, self._classes, self._last_step = list(loggers), classes, steps_done

    def step(self, step: int, loss: float) -> None:
        """The loss of one step, counted from 1."""
        self._last_step = step
        self._log({"loss/step": loss})

    def epoch(self, row: EpochResult) -> None:
        """The figures of one epoch."""
        figures = {"loss/epoch": row.loss, "learning_rate": row.learning_rate, "epoch_s": row.elapsed_s}
        if row.validated:
            figures |= {"val/miou": row.miou, "val/pixel_accuracy": row.pixel_accuracy}
            figures |= {f"val/iou/{name}": iou for name, iou in zip(self._classes, row.iou)}
        self._log({name: value for name, value in figures.items() if value == value})

    def _log(self, figures: dict[str, float]) -> None:
        for logger in list(self._loggers):
            try:
                logger.log(figures, self._last_step)
            except Exception as error:  # a server that went away must not end hours of training
                self._loggers.remove(logger)
                _log.warning("%s stopped logging (%s); training continues", type(logger).__name__, first_line(error))


@contextmanager
def opened_loggers(
    names: Sequence[str], folder: Path, recipe: Recipe, classes: Sequence[str], steps_done: int
) -> Iterator[LoggerSet]:
    """The loggers of these names, closed at the end.

    Raises:
        OptionError: an unknown name.
        PspnetEdgeError: a logger that cannot be opened.
        MissingPackage: a logger's package is not installed.
    """
    ensure_known(names)
    with ExitStack() as stack:
        loggers: list[Logger] = []
        for name in dict.fromkeys(names):
            logger = _open(name, folder, recipe, steps_done)
            loggers.append(logger)
            stack.push(partial(_close, logger))
        yield LoggerSet(loggers, classes, steps_done)


def _open(name: str, folder: Path, recipe: Recipe, steps_done: int) -> Logger:
    try:
        logger: Logger = _OPEN[name](folder, recipe, steps_done)
    except PspnetEdgeError:
        raise
    except Exception as error:  # each package has its own kinds
        raise PspnetEdgeError(
            f"{name} cannot be used ({first_line(error)})",
            f"configure it as its documentation says, or leave {name} out",
        ) from error
    return logger


def _close(logger: Logger, kind: object, error: object, trace: object) -> None:
    try:
        logger.close(kind is not None)
    except Exception as problem:
        _log.warning("%s could not be closed (%s)", type(logger).__name__, first_line(problem))


def ensure_known(names: Sequence[str]) -> None:
    """Raise ``OptionError`` for a name that is not a logger's."""
    for name in names:
        if name not in get_args(LoggerName):
            raise OptionError(f"unknown logger {name!r}", "choose tensorboard, wandb or mlflow", parameter="loggers")


class _TensorBoard:
    def __init__(self, folder: Path, recipe: Recipe, steps_done: int) -> None:
        require("tensorboard", "write TensorBoard's files")
        from torch.utils.tensorboard import SummaryWriter

        ensure_folder_writable(folder / "tensorboard")
        # What a killed run wrote after its last checkpoint is hidden, because it is computed again.
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=steps_done + 1)

    def log(self, figures: dict[str, float], step: int) -> None:
        for name, figure in figures.items():
            self._writer.add_scalar(name, figure, step)
        if "loss/epoch" in figures:
            self._writer.flush()

    def close(self, failed: bool) -> None:
        self._writer.close()


class _WeightsAndBiases:
    def __init__(self, folder: Path, recipe: Recipe, steps_done: int) -> None:
        wandb = require("wandb", "log to Weights & Biases")
        identity = folder / "wandb_run.txt"
        resumed = identity.read_text().strip() if steps_done and identity.is_file() else None
        # Project, entity, mode and server come from wandb's own environment variables and login.
        self._run: Any = wandb.init(
            project=None if _is_set("WANDB_PROJECT") else _PROJECT,
            name=folder.name, dir=str(folder), config=recipe.to_dict(), id=resumed, resume="allow",
        )  # fmt: skip
        write_bytes(identity, f"{self._run.id}\n".encode())

    def log(self, figures: dict[str, float], step: int) -> None:
        self._run.log(figures, step=step)

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


class _MLflow:
    def __init__(self, folder: Path, recipe: Recipe, steps_done: int) -> None:
        self._mlflow: Any = require("mlflow", "log to MLflow")
        identity = folder / "mlflow_run.txt"
        resumed = identity.read_text().strip() if steps_done and identity.is_file() else None
        if not _is_set("MLFLOW_EXPERIMENT_NAME") and not _is_set("MLFLOW_EXPERIMENT_ID"):
            self._mlflow.set_experiment(_PROJECT)
        run = self._mlflow.start_run(run_id=resumed, run_name=None if resumed else folder.name)
        write_bytes(identity, f"{run.info.run_id}\n".encode())
        if not resumed:
            self._mlflow.log_params(recipe.to_dict())

    def log(self, figures: dict[str, float], step: int) -> None:
        self._mlflow.log_metrics(figures, step=step)

    def close(self, failed: bool) -> None:
        self._mlflow.end_run("FAILED" if failed else "FINISHED")


_OPEN: dict[str, Callable[[Path, Recipe, int], Logger]] = {
    "tensorboard": _TensorBoard,
    "wandb": _WeightsAndBiases,
    "mlflow": _MLflow,
}


def _is_set(variable: str) -> bool:
    return bool(os.environ.get(variable))

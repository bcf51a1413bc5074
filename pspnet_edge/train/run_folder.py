"""The folder of a run: a new one for every run, so that nothing is overwritten unasked."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..artifact import ensure_writable, find_target
from .recipe_file import NAME as RECIPE

FILES = (
    "last.pt", "best.pt", "final.pt", "metrics.csv", "results.png", "confusion_matrix.png", RECIPE,
    "wandb_run.txt", "mlflow_run.txt",
)  # fmt: skip
_FOLDERS = ("samples", "tensorboard")


def holds_run(folder: Path) -> bool:
    """Whether an earlier run left checkpoints, figures or a recipe in ``folder``."""
    return any((folder / name).exists() for name in FILES)


def free_folder(folder: Path) -> Path:
    """``folder``, or ``folder-2``, ``folder-3``, … if it holds a run.

    Raises:
        OutputError: a file of a run is there that is not an ordinary file.
    """
    _ensure_ordinary_files(folder)
    if not holds_run(folder):
        return folder
    folder = folder if folder.name else folder.absolute()  # "." has no name to number
    number = 2
    while holds_run(folder.with_name(f"{folder.name}-{number}")):
        number += 1
    return folder.with_name(f"{folder.name}-{number}")


def remove_run(folder: Path) -> None:
    """Remove what an earlier run left in ``folder``; other files stay, and so does what a teacher computed.

    Raises:
        OutputError: a file of a run is there that is not an ordinary file; nothing is removed.
    """
    _ensure_ordinary_files(folder)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    for name in _FOLDERS:
        if (folder / name).is_dir() and not (folder / name).is_symlink():
            shutil.rmtree(folder / name)


def _ensure_ordinary_files(folder: Path) -> None:
    """A device, FIFO or folder under the name of a run's file is not a run's: it is neither passed over nor removed."""
    for name in FILES:
        find_target(folder / name)


def ensure_run_writable(folder: Path) -> None:
    """Raise ``OutputError`` now if the files of a run could not be written into ``folder``."""
    for name in FILES:
        ensure_writable(folder / name)

"""The folder of a run: a new one for every run, so that nothing is overwritten unasked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

from ..artifact import claim, ensure_writable, find_target
from ..ownership import InUse
from .recipe_file import NAME as RECIPE

FILES = (
    "last.pt", "best.pt", "final.pt", "metrics.csv", "results.png", "confusion_matrix.png", RECIPE,
    "wandb_run.txt", "mlflow_run.txt",
)  # fmt: skip
_FOLDERS = ("samples", "tensorboard")


def holds_run(folder: Path) -> bool:
    """Whether an earlier run left checkpoints, figures or a recipe in ``folder``."""
    return any((folder / name).exists() for name in FILES)


@contextmanager
def claimed_folder(folder: Path, *, overwrite: bool = False, resume: bool = False) -> Iterator[Path]:
    """The folder of a run, which no other process trains in meanwhile.

    A new run gets ``folder``, or ``folder-2``, ``folder-3``, … where it holds a run or another one is at work in it.

    Args:
        folder: as the user gave it.
        overwrite: remove the run in ``folder``.
        resume: continue the run in ``folder``.

    Raises:
        InUse: another process trains in the run that is to be resumed or overwritten.
        OutputError: a file of a run is there that is not an ordinary file, or the folder cannot be written.
    """
    _ensure_ordinary_files(folder)
    if resume or (overwrite and holds_run(folder)):
        with _claimed(folder):
            if overwrite:
                remove_run(folder)
            yield folder
        return
    named = folder if folder.name else folder.absolute()  # "." has no name to number
    for number in count(1):
        place = folder if number == 1 else named.with_name(f"{named.name}-{number}")
        if holds_run(place):
            continue
        with ExitStack() as held:
            try:
                held.enter_context(_claimed(place))
            except InUse:
                continue
            if not holds_run(place):  # one may have ended since
                yield place
                return


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    try:
        with claim(folder / RECIPE, wait_s=0):
            yield
    finally:
        with suppress(OSError):  # it is empty where nothing came of the run
            folder.rmdir()


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

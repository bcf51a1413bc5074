"""The training and validation images of a run, found from what the user named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.datasets import Dataset, open_dataset
from ..data.folder import stored_splits
from ..data.subset import Subset
from ..errors import DataError, OptionError

_HELD_OUT = 0.2
_SPLIT_SEED = 0
_MARKS = {
    "folder": ("classes.txt", "classes.json"),
    "camvid": ("trainannot", "CamVid/trainannot"),
    "voc": ("VOCdevkit", "VOC2012", "SegmentationClass"),
    "cityscapes": ("gtFine",),
}
"""What a folder of each data set holds."""


@dataclass(frozen=True)
class TrainingData:
    """The images of a run."""

    name: str
    training_set: Dataset
    validation_set: Dataset | None
    notes: tuple[str, ...] = ()
    """Lines for the user about what was recognized or split."""


def open_training_data(name: str | None, root: Path | None, split: str) -> TrainingData:
    """Open the images to train on and those to validate on.

    Args:
        name: a data set's name, or None to recognize the folder.
        root: its folder; ``scenes`` needs none.
        split: ``train``; or ``trainval`` or ``all``, which leave no images to validate on.

    Raises:
        DataError: nothing can be opened, or the folder is not recognized.
        OptionError: neither a name nor a folder.
    """
    notes: tuple[str, ...] = ()
    if name is None:
        name, notes = _recognize(root)
    if split in ("trainval", "all"):
        return TrainingData(name, open_dataset(name, root, split), None, notes)
    if name == "folder" and root is not None and root.is_dir():
        missing = {"train", "val"} - set(stored_splits(root))
        if split == "train" and missing == {"train", "val"} and stored_splits(root) == ("all",):
            return _split(open_dataset(name, root, "all"), root, "no split", notes)
        if split == "train" and missing == {"val"}:
            return _split(open_dataset(name, root, "train"), root, "no split val", notes)
    return TrainingData(name, open_dataset(name, root, split), open_dataset(name, root, "val"), notes)


def recognize_dataset(root: Path) -> str:
    """The name of the data set whose layout ``root`` has.

    Raises:
        DataError: not a folder, or none of the known layouts.
    """
    if not root.is_dir():
        raise DataError(f"the data root {root} is not a folder", "give --root the folder that holds the images")
    for name, marks in _MARKS.items():
        if any((root / mark).exists() for mark in marks):
            return name
    if (root / "images").is_dir() and (root / "masks").is_dir():
        raise DataError(
            f"{root} has images and masks but no classes.txt", "write one class per line, in the order of the ids"
        )
    found = ", ".join(sorted(path.name for path in root.iterdir())[:6]) or "nothing"
    raise DataError(
        f"{root} is not a data set that is known here (it holds {found})",
        "put images/, masks/ and classes.txt there, or name the layout with --dataset",
    )


def _recognize(root: Path | None) -> tuple[str, tuple[str, ...]]:
    if root is None:
        raise OptionError("no training data", "give --root DIR, or --dataset scenes, which needs no files")
    name = recognize_dataset(root)
    return name, (f"{root} has the layout {name}",)


def _split(whole: Dataset, root: Path, why: str, notes: tuple[str, ...]) -> TrainingData:
    """Hold a fifth of the images out for validation, the same ones every time."""
    if len(whole) < 2:
        raise DataError(f"{root} has {len(whole)} image", "add images: at least one to train on and one to validate on")
    held_out = max(1, round(_HELD_OUT * len(whole)))
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(whole)).tolist()
    validation, training = sorted(order[:held_out]), sorted(order[held_out:])
    note = (
        f"{root} has {why}: {len(training)} images train and {held_out}, chosen at random with a fixed seed, validate; "
        f"write train.txt and val.txt to choose yourself"
    )
    return TrainingData("folder", Subset(whole, tuple(training)), Subset(whole, tuple(validation)), (*notes, note))

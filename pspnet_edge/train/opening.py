"""The training and validation images of a run, found from what the user named."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.datasets import Dataset, open_dataset
from ..data.folder import stored_splits
from ..data.held_out import hold_out
from ..data.recognize import recognized
from ..errors import DataError, OptionError
from ..pixels import PixelFormat
from ..records import counted

_PIXELS = PixelFormat()
_STRETCHED = 1.15
"""From which change of shape on it is said; CamVid's 360×480 at the default 384×480 is less."""
_STEP = 32
_LOOKED_AT = 16
"""Images, evenly spaced, whose shapes are looked at."""


@dataclass(frozen=True)
class TrainingData:
    """The images of a run."""

    name: str
    training_set: Dataset
    validation_set: Dataset | None
    notes: tuple[str, ...] = ()
    """Lines for the user about what was recognized or split."""


def open_training_data(name: str | None, root: Path | None, split: str, pixels: PixelFormat = _PIXELS) -> TrainingData:
    """Open the images to train on and those to validate on.

    Args:
        name: a data set's name, or None to recognize the folder.
        root: its folder; ``scenes`` needs none.
        split: ``train``; or ``trainval``, ``all`` or ``val``, which leave no images to validate on.
        pixels: the channels to read images with; the validation images get the range that the training images have.

    Raises:
        DataError: nothing can be opened, or the folder is not recognized.
        OptionError: neither a name nor a folder.
    """
    notes: tuple[str, ...] = ()
    if name is None:
        name, notes = _recognize(root)
    if split == "val":
        notes = (*notes, "with --split val the images for validation are trained on: nothing is validated")
    if split in ("trainval", "all", "val"):
        return TrainingData(name, open_dataset(name, root, split, pixels), None, notes)
    if name == "folder" and root is not None and root.is_dir():
        missing = {"train", "val"} - set(stored_splits(root))
        if split == "train" and missing == {"train", "val"} and stored_splits(root) == ("all",):
            return _split(open_dataset(name, root, "all", pixels), root, "no split", notes)
        if split == "train" and missing == {"val"}:
            return _split(open_dataset(name, root, "train", pixels), root, "no split val", notes)
    training_set = open_dataset(name, root, split, pixels)
    return TrainingData(name, training_set, open_dataset(name, root, "val", training_set.pixels), notes)


def shape_note(images: Dataset, size_hw: tuple[int, int]) -> tuple[str, ...]:
    """A line for the user where validation stretches the images, and the size of as many pixels that does not."""
    sizes: Counter[tuple[int, int]] = Counter()
    for index in np.linspace(0, len(images) - 1, min(len(images), _LOOKED_AT)).astype(int):
        with suppress(DataError):  # whoever reads the images says what is wrong with it
            sizes[images.image(int(index)).shape[:2]] += 1
    stretched = Counter({hw: count for hw, count in sizes.items() if _stretch(hw, size_hw) > _STRETCHED})
    # One size cannot suit images of many shapes: a word is due where most of them are stretched.
    if 2 * stretched.total() <= sizes.total():
        return ()
    height, width = stretched.most_common(1)[0][0]
    kept = round(math.sqrt(size_hw[0] * size_hw[1] * height / width) / _STEP) * _STEP or _STEP
    size = f"{kept}x{round(kept * width / height / _STEP) * _STEP or _STEP}"
    which = "the images are" if len(sizes) == 1 else "most of the images have another shape, such as"
    return (
        f"{which} {height}x{width}; validation and export at {size_hw[0]}x{size_hw[1]} stretch them: "
        f"--size {size} keeps their shape at about the same cost",
    )


def _stretch(image_hw: tuple[int, int], size_hw: tuple[int, int]) -> float:
    """How many times longer one side of the images becomes, relative to the other."""
    ratio = (image_hw[0] / image_hw[1]) / (size_hw[0] / size_hw[1])
    return max(ratio, 1 / ratio)


def _recognize(root: Path | None) -> tuple[str, tuple[str, ...]]:
    if root is None:
        raise OptionError("no training data", "give --root DIR, or --dataset scenes, which needs no files")
    name = recognized(root)
    return name, (f"{root}: data set of layout {name}",)


def _split(whole: Dataset, root: Path, why: str, notes: tuple[str, ...]) -> TrainingData:
    """Hold a fifth of the images out for validation, the same ones every time."""
    if len(whole) < 2:
        raise DataError(f"{root} has {len(whole)} image", "add images: at least one to train on and one to validate on")
    found = hold_out(whole)
    groups = {"none": None, "name": "names that differ only in their last number"}.get(
        found.grouped_by, found.grouped_by
    )
    together = f"; {groups} are kept together" if groups else ""
    note = (
        f"{root} has {why}: {counted(len(found.training), 'image')} for training and {len(found)} for validation, the "
        f"same ones every time{together}. The network remembers which: evaluate and benchmark measure on those "
        f"{len(found)}. To choose them yourself: `pspnet-edge data split {shlex.quote(str(root))}`"
    )
    return TrainingData("folder", found.training, found, (*notes, note))

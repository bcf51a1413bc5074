"""Looking through a whole data set: what each split holds, and everything that is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..labels import IGNORE
from . import camvid, cityscapes, folder, voc
from .datasets import REPEATED_FIX, FileSet, ensure_on_disk, open_files
from .files import unreadable_folder
from .progress import Advance, Progress, silent


@dataclass(frozen=True)
class Defect:
    """Something wrong: in which split, with which file or folder, and one sentence that names it and the mend."""

    split: str
    file: Path
    problem: str


@dataclass(frozen=True)
class SplitCount:
    """What the readable pairs of one split hold.

    ``pixels`` is ``int64 [256]``: how many pixels of the masks have each id, IGNORE included.
    """

    images: int
    classes: tuple[str, ...]
    pixels: NDArray[np.int64]

    def class_frequencies(self) -> dict[str, float]:
        """Each class's share of the labelled pixels, 0–1; all 0 where nothing is labelled."""
        known = self.pixels[: len(self.classes)]
        return dict(zip(self.classes, (known / max(int(known.sum()), 1)).tolist()))

    def ignored_fraction(self) -> float:
        """The share of IGNORE among all pixels, 0–1."""
        return float(self.pixels[IGNORE] / max(int(self.pixels.sum()), 1))


@dataclass(frozen=True)
class Findings:
    """What ``check_dataset`` found: counts of the splits that could be opened, and every defect."""

    splits: dict[str, SplitCount]
    defects: tuple[Defect, ...]


def check_dataset(name: str, root: Path, progress: Progress = silent) -> Findings:
    """Read every pair of every split; nothing stops at the first defect.

    Args:
        name: ``camvid``, ``voc``, ``cityscapes`` or ``folder``.
        root: its folder.
        progress: shows how many pairs of a split are read.

    Raises:
        DataError: no such data set on disk, or the root is not a folder.
    """
    if name == "scenes":
        raise DataError("scenes are drawn, not stored, so there is nothing to check: name a data set on disk")
    ensure_on_disk(name, root)
    splits: dict[str, SplitCount] = {}
    defects: list[Defect] = []
    first_seen: dict[Path, str] = {}
    try:
        stored = _splits(name, root)
    except DataError as error:
        return Findings({}, (Defect("", root, str(error)),))
    for split in stored:
        try:
            dataset = open_files(name, root, split)
        except DataError as error:
            # A wrong layout or classes file breaks every split in the same words.
            if str(error) not in [defect.problem for defect in defects]:
                defects.append(Defect(split, root, str(error)))
            continue
        defects += _repeats(dataset, split, first_seen)
        with progress(f"Checking {split}", len(dataset)) as advance:
            splits[split], found = _read_through(dataset, split, advance)
        defects += found
    if name == "folder":
        defects += _masks_alone(root)
    return Findings(splits, tuple(defects))


def _splits(name: str, root: Path) -> tuple[str, ...]:
    try:
        if name == "folder":
            return folder.stored_splits(root)
        if name == "cityscapes":
            return cityscapes.splits_with_masks(root)
    except OSError as error:
        raise unreadable_folder(error) from error
    return {"camvid": camvid.SPLITS, "voc": voc.SPLITS}[name]


def _repeats(dataset: FileSet, split: str, first_seen: dict[Path, str]) -> list[Defect]:
    """Files in two pairs of the split, and images that an earlier split has too."""
    defects = [
        Defect(split, path, f"{path} is in split {split} more than once: {REPEATED_FIX}") for path in dataset.repeated()
    ]
    for image in dict.fromkeys(image for image, _ in dataset.pairs):
        earlier = first_seen.setdefault(image, split)
        if earlier != split:
            defects.append(
                Defect(split, image, f"{image} is in split {earlier} and in split {split}: keep it in one of them")
            )
    return defects


def _read_through(dataset: FileSet, split: str, advance: Advance) -> tuple[SplitCount, list[Defect]]:
    pixels = np.zeros(256, np.int64)
    defects: list[Defect] = []
    for index, (image_path, mask_path) in enumerate(dataset.pairs):
        image = mask = None
        try:
            image = dataset.image(index)
        except DataError as error:
            defects.append(Defect(split, image_path, str(error)))
        try:
            mask = dataset.mask(index)
            pixels += np.bincount(mask.ravel(), minlength=256)
            if image is not None:
                dataset.ensure_same_size(index, image, mask)
        except DataError as error:
            defects.append(Defect(split, mask_path, str(error)))
        advance(index + 1, f"{len(defects)} defects" if defects else "")
    return SplitCount(len(dataset), dataset.label_set.classes, pixels), defects


def _masks_alone(root: Path) -> list[Defect]:
    try:
        masks = folder.masks_without_image(root)
    except DataError:
        return []  # opening the splits has said it
    return [
        Defect("", path, f"{path} has no image: restore the image of the same name, or remove the mask")
        for path in masks
    ]

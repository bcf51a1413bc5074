"""Sets of images, and labelled data sets as sequences of (image, mask) numpy pairs.

An image is ``uint8 [H, W, C]``, BGR where it has colours; a mask is ``uint8 [H, W]`` with the class ids of the set's
``LabelSet`` and 255 where the label says nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, OptionError
from ..inputs import as_text
from ..labels import CAMVID, LabelSet
from ..pixels import PixelFormat
from ..records import counted
from .camvid import camvid
from .cityscapes import cityscapes
from .files import FileSet, Image, Mask, read_image, read_mask, unreadable_folder
from .folder import folder, stored_splits
from .image_file import DEFAULT_PIXELS
from .recognize import ensure_data_folder
from .scenes import Drive
from .voc import voc

_log = logging.getLogger(__name__)

__all__ = [
    "NAMES",
    "REPEATED_FIX",
    "Dataset",
    "FileSet",
    "Image",
    "ImageSet",
    "Mask",
    "SceneSet",
    "camvid",
    "cityscapes",
    "class_frequencies",
    "ensure_on_disk",
    "folder",
    "is_labelled",
    "iterate",
    "open_dataset",
    "open_files",
    "read_image",
    "read_mask",
    "split_or_next",
    "voc",
]

_ON_DISK: dict[str, Callable[[Path, str], FileSet]] = {
    "camvid": camvid,
    "voc": voc,
    "cityscapes": cityscapes,
    "folder": folder,
}
NAMES = (*_ON_DISK, "scenes")
REPEATED_FIX = "list each image once, and give no two images the same name but for the suffix"


class ImageSet(Protocol):
    """A finite, indexable set of images."""

    @property
    def pixels(self) -> PixelFormat:
        """The channels of the images, and the range that deep ones are scaled by."""

    def __len__(self) -> int:
        """How many images there are."""

    def image(self, index: int) -> Image:
        """One image ``uint8 [H, W, C]``, read or drawn now."""

    def name(self, index: int) -> str:
        """What to call the image in messages and lists."""


class Dataset(ImageSet, Protocol):
    """Images with masks."""

    @property
    def label_set(self) -> LabelSet:
        """The classes that the masks use."""

    def mask(self, index: int) -> Mask:
        """The mask ``uint8 [H, W]`` of one image."""

    def __getitem__(self, index: int) -> tuple[Image, Mask]:
        """One pair, read or drawn now."""


def is_labelled(images: ImageSet) -> TypeGuard[Dataset]:
    """Whether a set of images has masks."""
    return hasattr(images, "label_set")


def open_dataset(name: str, root: Path | None, split: str, pixels: PixelFormat = DEFAULT_PIXELS) -> Dataset:
    """Open a data set by its command-line name.

    Args:
        name: one of ``NAMES``.
        root: its folder; ``scenes`` needs none.
        split: ``train``, ``val``, ``test`` or ``trainval``, as far as the set has them; of ``folder`` also ``all``.
        pixels: the channels to read images with, and the range of deep images; measured on the set where it is None.

    Raises:
        OptionError: an unknown name or split.
        DataError: no such folder, a list or folder that is missing or empty, or a file that is in two pairs.
    """
    if name == "scenes":
        return SceneSet(split, pixels)
    dataset = open_files(name, root, split, pixels)
    repeated = dataset.repeated()
    if repeated:
        raise DataError(f"{repeated[0]} is in split {split} more than once", f"{REPEATED_FIX}")
    _log.info("opened %s in %s, split %s: %s", name, root, split, counted(len(dataset), "image"))
    return dataset


def open_files(name: str, root: Path | None, split: str, pixels: PixelFormat = DEFAULT_PIXELS) -> FileSet:
    """Open a data set that is made of files as it is, even where files are in two pairs.

    Raises:
        OptionError, DataError: as ``open_dataset``.
    """
    folder_of_set = ensure_on_disk(name, root)
    try:
        return _ON_DISK[name](folder_of_set, split).with_pixels(pixels)
    except OSError as error:
        raise unreadable_folder(error) from error


def split_or_next(name: str, root: Path | None, wanted: str) -> str:
    """The split to measure on: ``wanted`` where the data set has it, else ``val``, else every image of a folder.

    Raises:
        OptionError: no data set of files has that name, or its folder is not given.
        DataError: no such folder.
    """
    if name != "folder" or root is None:
        return wanted
    try:
        stored = stored_splits(ensure_on_disk(name, root))
    except OSError as error:
        raise unreadable_folder(error) from error
    return next(split for split in (wanted, "val", "all") if split in stored or split == "all")


def ensure_on_disk(name: str, root: Path | None) -> Path:
    """The root; ``OptionError`` if no data set of files has that name, ``DataError`` if the root is not a folder."""
    if as_text(name, "dataset") not in _ON_DISK:
        raise OptionError(f"unknown data set {name!r}", f"choose one of {', '.join(NAMES)}")
    if root is None:
        raise OptionError(
            f"data set {name} needs its folder", "give --root DIR, or use --dataset scenes, which needs none"
        )
    ensure_data_folder(root)
    return root


class SceneSet:
    """Frames of procedural drives, a few from each of many streets; needs no files.

    The splits use streets that no other split and no demo uses.
    """

    label_set = CAMVID
    size_hw = (360, 480)
    _STREETS: ClassVar = {"test": range(200, 220), "val": range(100, 120), "train": range(1000, 1400)}
    _FRAMES_A_STREET = 5
    _FRAMES_APART = 73

    def __init__(self, split: str, pixels: PixelFormat = DEFAULT_PIXELS) -> None:
        if as_text(split, "split") not in self._STREETS:
            raise OptionError(f"scenes has no split {split!r}", "choose train, val or test")
        if pixels.channels == 4:
            raise DataError("scenes has 3 channels", "give --dataset a set of images with four")
        self.pixels = pixels
        self._streets = self._STREETS[split]

    def __len__(self) -> int:
        return len(self._streets) * self._FRAMES_A_STREET

    def __getitem__(self, index: int) -> tuple[Image, Mask]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        seed, frame_index = self._place(index)
        frame = Drive(seed, self.size_hw).frame(frame_index)
        return self.pixels.frame(frame.image), frame.mask

    def image(self, index: int) -> Image:
        return self[index][0]

    def mask(self, index: int) -> Mask:
        return self[index][1]

    def name(self, index: int) -> str:
        seed, frame_index = self._place(index)
        return f"street{seed:04d}_frame{frame_index:04d}"

    def _place(self, index: int) -> tuple[int, int]:
        street, position = divmod(index, self._FRAMES_A_STREET)
        return self._streets[street], position * self._FRAMES_APART


def class_frequencies(dataset: Dataset) -> NDArray[np.float64]:
    """``float [classes]``: each class's share of the labelled pixels of the whole set."""
    counts = np.zeros(256, np.int64)
    for _, mask in iterate(dataset):
        counts += np.bincount(mask.ravel(), minlength=256)
    known = counts[: len(dataset.label_set)].astype(np.float64)
    return np.asarray(known / max(known.sum(), 1))


def iterate(dataset: Dataset) -> Iterator[tuple[Image, Mask]]:
    """The pairs in order."""
    for index in range(len(dataset)):
        yield dataset[index]

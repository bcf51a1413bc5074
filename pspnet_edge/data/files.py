"""The pairs of image and mask files that make a data set, and the folders and lists that name them.

Every error is one sentence with the file's path, the likely cause and the fix.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ..errors import DataError, OptionError
from ..labels import IGNORE, LabelSet
from ..pixels import PixelFormat, measured_range, sampled
from .exif import SWAPS_SIDES, orientation_of
from .image_file import DEFAULT_PIXELS, Image, as_frame, decode, may_be_deep, read_encoded, read_image
from .mask_file import Colours, Mask, read_mask
from .reading import read_text, reason_of

__all__ = [
    "FileSet",
    "Image",
    "Mask",
    "files_below",
    "is_litter",
    "parts_of",
    "pixels_of_files",
    "read_image",
    "read_lines",
    "read_mask",
    "size_problem",
    "unreadable_folder",
]

MEASURED_IMAGES = 64
"""How many images, evenly spaced, the range of a deep set is measured on."""
_MOST_FILES = 5_000_000
_LITTER = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin"})


@dataclass(frozen=True)
class FileSet:
    """Pairs of image and mask files."""

    label_set: LabelSet
    pairs: tuple[tuple[Path, Path], ...]
    void_id: int | None = None
    """An id in the files that means IGNORE."""
    id_table: tuple[int, ...] | None = None
    """The class id, or IGNORE, of each id in the files; None where the files hold class ids."""
    palette: Colours | None = None
    """The RGB colour of each id in the files; None where colours mean nothing."""
    note: str = ""
    """Which of several files was taken as masks, for people; empty where there is no choice."""
    wanted_pixels: PixelFormat = DEFAULT_PIXELS
    """The channels that images are read with, and the range of deep ones where it is known."""

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Image, Mask]:
        image, mask = self.image(index), self.mask(index)
        self.ensure_same_size(index, image, mask)
        return image, mask

    def name(self, index: int) -> str:
        """The file name of the image."""
        return self.pairs[index][0].name

    def image(self, index: int) -> Image:
        """The image of one pair, ``uint8 [H, W, C]`` in the set's pixel format."""
        path = self.pairs[index][0]
        decoded = decode(path, read_encoded(path), self.wanted_pixels.channels)
        return as_frame(path, decoded, self.pixels if decoded.dtype != np.uint8 else self.wanted_pixels)

    @cached_property
    def pixels(self) -> PixelFormat:
        """The pixel format with the range of a deep set measured, where none was given."""
        return pixels_of_files([image for image, _ in self.pairs], self.wanted_pixels)

    def with_pixels(self, pixels: PixelFormat) -> FileSet:
        """The same pairs, read in another pixel format."""
        return replace(self, wanted_pixels=pixels)

    def mask(self, index: int) -> Mask:
        """The mask of one pair."""
        ids = len(self.label_set) if self.id_table is None else len(self.id_table)
        mask = read_mask(self.pairs[index][1], ids, self.void_id, self.palette)
        if self.id_table is None:
            return mask
        table = np.full(256, IGNORE, np.uint8)
        table[:ids] = self.id_table
        return table[mask]

    def ensure_same_size(self, index: int, image: Image, mask: Mask) -> None:
        """Raise ``DataError`` if the mask of a pair has not the size of its image."""
        image_hw, mask_hw = (image.shape[0], image.shape[1]), (mask.shape[0], mask.shape[1])
        if image_hw != mask_hw:
            raise DataError(size_problem(*self.pairs[index], image_hw, mask_hw))

    def repeated(self) -> list[Path]:
        """The images that are in more than one pair, and the masks of more than one image."""
        images = Counter(image for image, _ in self.pairs)
        masks = Counter(mask for _, mask in dict.fromkeys(self.pairs))
        return [path for counts in (images, masks) for path, count in counts.items() if count > 1]


def size_problem(image: Path, mask: Path, image_hw: tuple[int, int], mask_hw: tuple[int, int]) -> str:
    """The sentence for a mask that does not have the size of its image, with the reason that fits."""
    (image_h, image_w), (mask_h, mask_w) = image_hw, mask_hw
    sizes = f"{mask} is {mask_h}×{mask_w} and its image {image.name} is {image_h}×{image_w}"
    if (mask_h, mask_w) == (image_w, image_h):
        orientation = orientation_of(read_encoded(image))
        if orientation in SWAPS_SIDES:
            return (
                f"{sizes}, because EXIF orientation {orientation} turns the image when it is read: turn the mask too, "
                f"or save the image upright without the EXIF tag"
            )
        return f"{sizes}, so the mask is transposed or turned: export it in the image's orientation"
    if max(abs(mask_h - image_h), abs(mask_w - image_w)) <= 2:
        return f"{sizes}, off by a pixel or two: a mask must have the size of its image, so export it again"
    return f"{sizes}: a mask must have the size of its image"


def pixels_of_files(paths: Sequence[Path], wanted: PixelFormat) -> PixelFormat:
    """``wanted`` with the range of a set of images that are deeper than 8 bits, measured if it has none.

    Files that cannot be read are passed over: reading them later reports it.
    """
    if wanted.pixel_range is not None:
        return wanted
    count = min(MEASURED_IMAGES, len(paths))
    samples = []
    for path in (paths[position * len(paths) // count] for position in range(count)):
        try:
            if path.is_file() and may_be_deep(_head(path)):
                samples.append(sampled(decode(path, read_encoded(path), wanted.channels)))
        except (DataError, OSError):
            continue
    return replace(wanted, pixel_range=measured_range(samples))


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(64)


def read_lines(listing: Path) -> list[str]:
    """The lines of a split list that hold something, stripped; UTF-8 or UTF-16, with any line ends.

    Raises:
        DataError: missing, unreadable or empty.
    """
    try:
        text = read_text(listing)
    except DataError as error:
        raise DataError(f"the split list {error}; --root must be the folder that holds it") from error
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        raise DataError(f"the split list {listing} is empty", "write one image per line, or remove the list")
    return lines


def is_litter(name: str) -> bool:
    """Whether a file or folder is one that operating systems leave behind: hidden, ``Thumbs.db``, ``__MACOSX``…"""
    return name.startswith(".") or name.lower() in _LITTER


def files_below(folder: Path) -> list[Path]:
    """Every file below ``folder``, sorted; hidden ones and what operating systems leave behind are skipped.

    Raises:
        DataError: the folder, or one in it, is missing or cannot be read.
    """
    found: list[Path] = []
    try:
        for place, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
            folders[:] = [name for name in folders if not is_litter(name)]
            found += [Path(place, name) for name in names if not is_litter(name)]
            if len(found) > _MOST_FILES:
                raise DataError(
                    f"{folder} holds more than {_MOST_FILES} files or a link to itself",
                    "give the data set its own folder",
                )
    except OSError as error:
        raise unreadable_folder(error) from error
    return sorted(found)


def unreadable_folder(error: OSError) -> DataError:
    """The sentence for a folder that the system would not open."""
    return DataError(
        f"the folder {error.filename} cannot be read ({reason_of(error)})",
        "restore it or its permissions, or give --root the folder that holds the data set",
    )


def parts_of(split: str, known: tuple[str, ...], data_set: str) -> tuple[str, ...]:
    """The stored splits that make ``split``; ``trainval`` is train and val.

    Raises:
        OptionError: ``split`` is neither in ``known`` nor ``trainval``.
    """
    if split == "trainval":
        return ("train", "val")
    if split not in known:
        raise OptionError(f"{data_set} has no split {split!r}", f"choose one of {', '.join((*known, 'trainval'))}")
    return (split,)


def _raise(error: OSError) -> None:
    raise error

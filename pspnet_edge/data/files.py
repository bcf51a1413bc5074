"""Image and mask files, the pairs of them that make a data set, and the lists that name the pairs.

Every error is one sentence with the file's path, the likely cause and the mend.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..labels import IGNORE, LabelSet
from .png import has_palette, indexed_image, is_cut_short

Image = NDArray[np.uint8]
Mask = NDArray[np.uint8]
Colours = Sequence[tuple[int, int, int]]


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
    """The RGB colours that a palette PNG must have for its ids; None where its palette means nothing."""

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
        """The image of one pair."""
        return read_image(self.pairs[index][0])

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
        if image.shape[:2] != mask.shape:
            image_path, mask_path = self.pairs[index]
            raise DataError(
                f"{mask_path} is {mask.shape[1]}×{mask.shape[0]} and its image {image_path.name} is "
                f"{image.shape[1]}×{image.shape[0]}: a mask must have the size of its image"
            )

    def repeated(self) -> list[Path]:
        """The images that stand in more than one pair, and the masks of more than one image."""
        images = Counter(image for image, _ in self.pairs)
        masks = Counter(mask for _, mask in dict.fromkeys(self.pairs))
        return [path for counts in (images, masks) for path, count in counts.items() if count > 1]


def read_image(path: Path) -> Image:
    """Read a colour image as BGR ``uint8 [H, W, 3]``.

    Raises:
        DataError: missing, cut short or not an image.
    """
    return _decoded(path, _read(path), cv2.IMREAD_COLOR)


def read_mask(path: Path, classes: int, void_id: int | None = None, palette: Colours | None = None) -> Mask:
    """Read a mask of class ids ``uint8 [H, W]`` from a grey image or a palette PNG, whose indices are the ids.

    Args:
        path: the file.
        classes: how many ids there are, from 0; 255 is IGNORE and always allowed.
        void_id: an id in the file that becomes IGNORE.
        palette: the RGB colour that each id must have in a palette PNG; None accepts any.

    Raises:
        DataError: unreadable, in colour, not 8-bit, another palette, or an id that the label set does not know.
    """
    encoded = _read(path)
    if has_palette(encoded):
        mask = _indices(path, encoded, classes, palette)
    else:
        mask = _decoded(path, encoded, cv2.IMREAD_UNCHANGED)
        if mask.ndim != 2:
            raise DataError(
                f"{path} is a colour image, and a mask holds one class id a pixel: "
                f"save it as an 8-bit grey or palette PNG"
            )
        if mask.dtype != np.uint8:
            raise DataError(f"{path} has 16 bits a pixel, and class ids need 8: save it as an 8-bit grey PNG")
    if void_id is not None:
        mask[mask == void_id] = IGNORE
    unknown = np.flatnonzero(np.bincount(mask.ravel(), minlength=256)[classes:IGNORE]) + classes
    if unknown.size:
        ids = ", ".join(map(str, unknown[:5])) + (", …" if unknown.size > 5 else "")
        raise DataError(
            f"{path} holds id {ids}, and the label set has ids 0 to {classes - 1}, and 255 for ignore: "
            f"correct the mask or the list of classes"
        )
    return mask


def read_lines(listing: Path) -> list[str]:
    """The lines of a split list that hold something, stripped.

    Raises:
        DataError: missing, unreadable or empty.
    """
    try:
        lines = [line.strip() for line in listing.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"the split list {listing} cannot be read ({_reason(error)}): --root must be the folder that holds it"
        ) from error
    lines = [line for line in lines if line]
    if not lines:
        raise DataError(f"the split list {listing} is empty: restore it from the data set's archive")
    return lines


def files_below(folder: Path) -> list[Path]:
    """Every file below ``folder``, sorted, hidden ones left out.

    Raises:
        DataError: the folder, or one in it, is missing or cannot be read.
    """
    found: list[Path] = []
    try:
        for place, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
            folders[:] = [name for name in folders if not name.startswith(".")]
            found += [Path(place, name) for name in names if not name.startswith(".")]
    except OSError as error:
        raise unreadable_folder(error) from error
    return sorted(found)


def unreadable_folder(error: OSError) -> DataError:
    """The sentence for a folder that the system would not open."""
    return DataError(
        f"the folder {error.filename} cannot be read ({_reason(error)}): restore it or its permissions, "
        f"or give --root the folder that holds the data set"
    )


def parts_of(split: str, known: tuple[str, ...], data_set: str) -> tuple[str, ...]:
    """The stored splits that make ``split``; ``trainval`` is train and val.

    Raises:
        DataError: ``split`` is neither in ``known`` nor ``trainval``.
    """
    if split == "trainval":
        return ("train", "val")
    if split not in known:
        raise DataError(f"{data_set} has no split {split!r}: choose one of {', '.join((*known, 'trainval'))}")
    return (split,)


def _read(path: Path) -> bytes:
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({_reason(error)}): restore it from the data set's archive") from error
    if not encoded or is_cut_short(encoded):
        raise DataError(f"{path} is cut short after {len(encoded)} bytes: restore it from the data set's archive")
    return encoded


def _decoded(path: Path, encoded: bytes, flags: int) -> NDArray[np.uint8]:
    try:
        decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except cv2.error:
        # OpenCV refuses a size that a damaged header declares.
        decoded = None
    if decoded is None:
        raise DataError(f"{path} is not an image that OpenCV can decode: restore it from the data set's archive")
    return np.asarray(decoded)


def _indices(path: Path, encoded: bytes, classes: int, palette: Colours | None) -> Mask:
    try:
        image = indexed_image(encoded)
    except (ValueError, cv2.error) as error:
        raise DataError(f"{path} is a damaged palette PNG ({error}): restore it from the data set's archive") from error
    if palette is not None:
        for index in np.unique(image.indices):
            if index < classes and tuple(image.palette[index]) != tuple(palette[index]):
                raise DataError(
                    f"{path} has another palette than its data set (id {index} is RGB {_triple(image.palette[index])}, "
                    f"not {_triple(palette[index])}), so its indices may not be class ids: "
                    f"restore it, or save the ids as an 8-bit grey PNG"
                )
    return image.indices


def _triple(colour: Sequence[int] | NDArray[np.uint8]) -> str:
    return ",".join(str(int(channel)) for channel in colour)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _raise(error: OSError) -> None:
    raise error

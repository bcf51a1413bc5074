"""What every reader of a foreign format gives: items with an image and a way to draw its mask."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ..class_list import ClassList
from ..files import files_below
from ..image_file import read_image
from ..layout import IMAGE_FOLDERS, IMAGE_SUFFIXES, MASK_ENDINGS, SPLITS
from ..mask_file import Colour

Ids = NDArray[Any]
BACKGROUND = "background"
_SILENT_FOLDERS = {*IMAGE_FOLDERS, "default", "data", "leftimg8bit", "imgsfine", "701_stillsraw_full"}
MOST_PIXELS = 1 << 28
"""Of one mask; more is a claim of a damaged file."""


@dataclass(frozen=True)
class Dropped:
    """Something of the source that is not in the data set, and why."""

    item: str
    reason: str


@dataclass(frozen=True)
class Item:
    """One image of the source.

    ``name`` is its path in the data set without suffix, ``image`` the file or its bytes, ``draw`` gives the mask:
    source ids ``[H, W]``, any unsigned type.
    """

    name: str
    image: Path | bytes
    suffix: str
    draw: Callable[[], Ids]
    split: str | None = None


@dataclass
class Source:
    """A foreign data set, opened.

    ``names`` is source id → class name; ids without a name are an error where they occur, except 255, which is ignored.
    """

    format: str
    names: dict[int, str]
    colours: dict[int, Colour] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    ignored: set[int] = field(default_factory=set)

    def drop(self, item: object, reason: str) -> None:
        """Leave something out."""
        self.dropped.append(Dropped(str(item), reason))


@dataclass(frozen=True)
class ReadOptions:
    """What the user gives beside the source."""

    images: Path | None = None
    classes: ClassList | None = None
    ignore_id: int | None = None


class ImageIndex:
    """The images below some folders, to be found by the names that annotations use."""

    def __init__(self, folders: Iterable[Path], leave_out: Callable[[Path], bool] = lambda path: False) -> None:
        self.folders = [folder for folder in folders if folder.is_dir()]
        self._by_path: dict[str, tuple[Path, Path]] = {}
        self._by_name: dict[str, list[tuple[Path, Path]]] = {}
        self._by_stem: dict[str, list[tuple[Path, Path]]] = {}
        for folder in self.folders:
            for path in files_below(folder):
                if path.suffix.lower() in IMAGE_SUFFIXES and not leave_out(path):
                    entry = (path, folder)
                    self._by_path.setdefault(path.relative_to(folder).as_posix().lower(), entry)
                    self._by_name.setdefault(path.name.lower(), []).append(entry)
                    self._by_stem.setdefault(path.stem.lower(), []).append(entry)

    def __len__(self) -> int:
        return len(self._by_path)

    def find(self, name: str, near: Path | None = None) -> Path | None:
        """The image that an annotation calls ``name``: by its path, else its file name, else without suffix.

        Of several, the one that shares most of its folders with ``near``.
        """
        wanted = PurePosixPath(name.replace("\\", "/").lstrip("/"))
        if str(wanted).lower() in self._by_path:
            return self._by_path[str(wanted).lower()][0]
        found = self._by_name.get(wanted.name.lower())
        if not found:
            stem = wanted.stem if wanted.suffix.lower() in IMAGE_SUFFIXES else wanted.name
            found = self._by_stem.get(stem.lower())
        if not found:
            return None
        if len(found) == 1 or near is None:
            return found[0][0]
        folders = set(near.parts)
        return max(found, key=lambda entry: len(folders & set(entry[0].parts)))[0]


def image_of_mask(mask: Path, images: ImageIndex) -> Path | None:
    """The image that a mask belongs to: of the same name, with or without an ending such as ``_mask``."""
    stem = mask.stem
    for ending in ("", *MASK_ENDINGS):
        if stem.endswith(ending):
            found = images.find(f"{stem.removesuffix(ending)}.png", mask.parent)
            if found is not None and found != mask:
                return found
    return None


def item_name(path: Path, *roots: Path | None) -> str:
    """A name in the data set for an image: its path below the first root that holds it, without suffix.

    Folders that say nothing, such as ``images`` and ``default``, are left out.
    """
    below = next(
        (path.relative_to(root) for root in roots if root is not None and root in path.parents), Path(path.name)
    )
    parts = [part for part in below.parts[:-1] if part.lower() not in _SILENT_FOLDERS]
    return PurePosixPath(*parts, below.with_suffix("").name).as_posix()


def split_of(text: str) -> str | None:
    """The split that a folder or file name means: ``train``, ``valid``, ``instances_val2017``; None for others."""
    lowered = text.lower()
    for split, names in SPLITS.items():
        if any(lowered == name for name in names):
            return split
    for split, names in SPLITS.items():
        for name in names:
            rest = lowered.removeprefix("instances_").removeprefix("annotations_")
            if rest.startswith(name) and not rest[len(name) :].strip("0123456789_-."):
                return split
            if rest in (f"{name}annot", f"{name}_labels", f"{name}_images", f"{name}_masks"):
                return split
    return None


def split_of_path(path: Path, root: Path) -> str | None:
    """The split that a folder on the way to a file means."""
    try:
        parts = path.relative_to(root).parts[:-1]
    except ValueError:
        return None
    return next((split for part in parts if (split := split_of(part)) is not None), None)


def with_background(names: Iterable[str]) -> dict[int, str]:
    """Ids for formats in which what no shape covers is background: 0, then the names in order."""
    ordered = [name for name in dict.fromkeys(names) if not is_background(name)]
    return {0: BACKGROUND} | dict(enumerate(ordered, 1))


def is_background(name: str) -> bool:
    """Whether a class is what no shape covers."""
    return name.strip("_").lower() == BACKGROUND


def id_of(names: Mapping[int, str], name: str) -> int | None:
    """The source id of a class name."""
    if is_background(name):
        name = BACKGROUND
    return next((number for number, known in names.items() if known == name), None)


def empty_mask(height: object, width: object, what: str) -> NDArray[np.uint16]:
    """A mask of background, after a look at the size that a file claims.

    Raises:
        DataError: the size is not two sensible numbers.
    """
    if not all(
        isinstance(side, (int, float)) and math.isfinite(side) and 1 <= side < 1 << 20 for side in (height, width)
    ):
        raise DataError(f"{what} says that its image has {width}×{height} pixels", "export it again")
    shape = (int(height), int(width))  # type: ignore[call-overload]
    if shape[0] * shape[1] > MOST_PIXELS:
        raise DataError(f"{what} says that its image has {width}×{height} pixels, which is too many", "export it again")
    return np.zeros(shape, np.uint16)


def size_of_image(image: Path | bytes) -> tuple[int, int]:
    """Height and width of an image, upright."""
    if isinstance(image, bytes):
        from ..image_file import decode

        height, width = decode(Path("imageData"), image).shape[:2]
        return height, width
    height, width = read_image(image).shape[:2]
    return height, width

"""What every reader of a foreign format gives: items with an image and a way to draw its mask."""

from __future__ import annotations

import os
import re
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
from ..layout import (
    IMAGE_FOLDERS,
    IMAGE_SUFFIXES,
    MASK_ENDINGS,
    MASK_FOLDERS,
    ROLE_WORDS,
    SPLITS,
    bare_name,
    composed,
)
from ..mask_file import Colour

NOT_THERE = "its image is not there, or several have its name (--images DIR says where images are)"
"""Why an annotation without an image is dropped."""
Ids = NDArray[Any]
Trail = tuple[str, ...]
"""The folders on the way to a file that tell it from others of its name."""
BACKGROUND = "background"
_SILENT_FOLDERS = {*IMAGE_FOLDERS, "default", "data", "leftimg8bit", "imgsfine", "701_stillsraw_full"}
_KINDS = {*_SILENT_FOLDERS, *MASK_FOLDERS, "segmentationclasspng", "ann", "gtfine", "obj_train_data"}
_LISTED = 100
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
    listing: Path | None = None
    """The list beside the data that the classes were read from."""
    only_background: int = 0
    """How many of the images that were written have nothing drawn in them."""
    images: ImageIndex | None = None
    """The images that the annotations were looked up in."""
    roots: tuple[Path | None, ...] = ()
    """The folder of the source, and the one of images that the user named."""

    def add(self, image: Path, draw: Callable[[], Ids], split: str | None = None) -> None:
        """Take an image in, under its path below the root; its folders tell the split where ``split`` does not."""
        name = item_name(image, *self.roots)
        own = split or (split_of_path(image, self.roots[0]) if self.roots[0] else None)
        self.items.append(Item(name, image, image.suffix, draw, own))

    def drop(self, item: object, reason: str) -> None:
        """Leave something out."""
        self.dropped.append(Dropped(str(item), reason))

    def index_images(
        self, root: Path, options: ReadOptions, leave_out: Callable[[Path], bool] = lambda path: False
    ) -> ImageIndex:
        """Look for images in the folder that the user named, if any, and below ``root``."""
        self.roots = (root, options.images)
        self.images = ImageIndex([place for place in (options.images, root) if place], leave_out)
        return self.images

    def take_colours(self, colours: Iterable[tuple[str, str]]) -> None:
        """Colours ``#rrggbb`` by class name; the background is black where every other class has one."""
        for name, colour in colours:
            number = id_of(self.names, name)
            if number is not None and re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
                self.colours[number] = (int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16))
        if len(self.colours) == len(self.names) - 1:
            self.colours.setdefault(0, (0, 0, 0))

    def drop_unlabelled(self) -> None:
        """Leave out the images that no annotation names."""
        if self.images is None:
            return
        dropped = {entry.item for entry in self.dropped}
        used = {item.image for item in self.items}
        left = [path for path in self.images.paths if path not in used and str(path) not in dropped]
        if len(left) > _LISTED:
            self.drop(left[0], f"nothing labels it, nor {len(left) - 1} other images")
            return
        for path in left:
            self.drop(path, "nothing labels it")


@dataclass(frozen=True)
class ReadOptions:
    """What the user gives beside the source."""

    images: Path | None = None
    classes: ClassList | None = None
    ignore_id: int | None = None
    listing: Path | None = None
    """The file that ``classes`` were read from."""
    document: Path | None = None
    """The only JSON file to read, where the source is one."""


class ImageIndex:
    """The images below some folders, to be found by the names that annotations use."""

    def __init__(self, folders: Iterable[Path], leave_out: Callable[[Path], bool] = lambda path: False) -> None:
        self.folders = [folder for folder in folders if folder.is_dir()]
        self._by_path: dict[str, Path] = {}
        self._by_name: dict[str, list[Path]] = {}
        self._by_stem: dict[str, list[Path]] = {}
        self._by_bare_name: dict[str, list[Path]] = {}
        self._trails: dict[Path, Trail] = {}
        for folder in self.folders:
            for path in files_below(folder):
                if path.suffix.lower() in IMAGE_SUFFIXES and not leave_out(path) and path not in self._trails:
                    self._by_path.setdefault(_folded(path.relative_to(folder).as_posix()), path)
                    self._by_name.setdefault(_folded(path.name), []).append(path)
                    self._by_stem.setdefault(_folded(path.stem), []).append(path)
                    self._by_bare_name.setdefault(bare_name(path.stem, ROLE_WORDS), []).append(path)
                    self._trails[path] = self._trail(path.parent)
        self._folder_names = {part for trail in self._trails.values() for part in trail}

    @property
    def paths(self) -> list[Path]:
        """All of them."""
        return list(self._trails)

    def find(self, name: str, near: Path | None = None) -> Path | None:
        """The image that an annotation calls ``name``: by its path, else its file name, else without suffix.

        Of several, the one in the same folder, or one of the same name, as ``near``, the annotation's own. None where
        there is no such image, or where it cannot be told which one is meant: a wrong image is worse than none.
        """
        wanted = PurePosixPath(name.replace("\\", "/").lstrip("/"))
        if near is not None:
            beside = Path(os.path.normpath(near / wanted))
            if beside in self._trails:
                return beside
        if len(wanted.parts) > 1 and _folded(str(wanted)) in self._by_path:
            return self._by_path[_folded(str(wanted))]
        trail = (*(self._trail(near) if near is not None else ()), *_telling(wanted.parts[:-1]))
        stem = wanted.stem if wanted.suffix.lower() in IMAGE_SUFFIXES else wanted.name
        return self._of_several(self._by_name.get(_folded(wanted.name), []), trail) or self._of_several(
            self._by_stem.get(_folded(stem), []), trail
        )

    def find_bare(self, stem: str, near: Path) -> Path | None:
        """The image whose name is the same without words such as ``image`` and ``mask``."""
        return self._of_several(self._by_bare_name.get(bare_name(stem, ROLE_WORDS), []), self._trail(near))

    def _of_several(self, found: list[Path], trail: Trail) -> Path | None:
        found = [path for path in found if self._trails[path] == trail] or found
        if len(found) == 1:
            # Its own folder may hold images, and lack this one.
            elsewhere = trail and trail[-1] not in self._trails[found[0]] and trail[-1] in self._folder_names
            return None if elsewhere else found[0]
        if not found:
            return None
        ends = [path for path in found if _ends_alike(self._trails[path], trail)]
        best = max((len(self._trails[path]) for path in ends), default=0)
        alike = [path for path in ends if len(self._trails[path]) == best]
        if alike and len({path.parent for path in alike}) == 1:
            return alike[0]  # a.jpg and a.png in one folder
        shared = [len(set(trail) & set(self._trails[path])) for path in found]
        return found[shared.index(max(shared))] if max(shared) and shared.count(max(shared)) == 1 else None

    def _trail(self, folder: Path) -> Trail:
        for root in self.folders:
            if root == folder or root in folder.parents:
                return _telling(folder.relative_to(root).parts)
        return _telling(folder.parts[1:])


def _folded(name: str) -> str:
    """A name whose case and whose way of storing accents do not matter."""
    return composed(name).lower()


def _telling(parts: Iterable[str]) -> Trail:
    """The folders of a path that tell images of one name apart: ``labels/train2017/a`` → ``train``, ``a``."""
    lowered = (part.lower() for part in parts)
    return tuple(split_of(part) or part for part in lowered if part not in _KINDS and part != "..")


def _ends_alike(one: Trail, other: Trail) -> bool:
    shorter = min(len(one), len(other))
    return one[len(one) - shorter :] == other[len(other) - shorter :]


def images_of_masks(masks: Iterable[Path], images: ImageIndex) -> dict[Path, Path | None]:
    """The image that each mask belongs to: of the same name, with its suffix or an ending such as ``_mask`` or without.

    Masks that are left go to images that are left, by the names without words of their role: ``mask_1``, ``img_1``.
    """
    found = {mask: _image_of_mask(mask, images) for mask in masks}
    used = set(found.values())
    for mask, image in found.items():
        if image is None:
            bare = images.find_bare(mask.stem, mask.parent)
            found[mask] = bare if bare not in used else None
    return found


def _image_of_mask(mask: Path, images: ImageIndex) -> Path | None:
    stem = mask.stem
    for ending in ("", *MASK_ENDINGS):
        if stem.endswith(ending):
            found = images.find(stem.removesuffix(ending), mask.parent)
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
    if not all(isinstance(side, (int, float)) and 1 <= side < 1 << 20 for side in (height, width)):
        raise DataError(f"{what} says that its image has {height}×{width} pixels", "export it again")
    shape = (int(height), int(width))  # type: ignore[call-overload]
    if shape[0] * shape[1] > MOST_PIXELS:
        raise DataError(f"{what} says that its image has {height}×{width} pixels, which is too many", "export it again")
    return np.zeros(shape, np.uint16)


def size_of_image(image: Path | bytes) -> tuple[int, int]:
    """Height and width of an image, upright."""
    if isinstance(image, bytes):
        from ..image_file import decode

        height, width = decode(Path("imageData"), image).shape[:2]
        return height, width
    height, width = read_image(image).shape[:2]
    return height, width

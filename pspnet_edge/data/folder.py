"""Your own data set: a folder with ``images/``, ``masks/`` and a file of classes.

::

    root/
      classes.txt            one class a line, in id order: `road` or `road, 128, 64, 128`
      images/0001.jpg        any name and any depth of folders
      masks/0001.png         the same path with .png: ids as an 8-bit grey or palette PNG, 255 = ignore
      train.txt, val.txt     optional: images of a split, one a line, relative to images/, with or without suffix

Instead of lists, ``images/train/`` and ``images/val/`` may make the splits. ``classes.json`` may stand for
``classes.txt``: a list of names, or ``{"classes": [names], "palette": [[r, g, b], …]}`` as in the sidecars.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import DataError
from ..labels import LabelSet, bright_palette
from .files import FileSet, files_below, read_lines

SPLITS = ("train", "val", "test")
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def folder(root: Path, split: str) -> FileSet:
    """Open a folder data set.

    Args:
        root: the folder of the layout above.
        split: ``train``, ``val`` or ``test``, from a list or else a subfolder of that name; ``trainval``, which joins
            two; or ``all``, every image.

    Raises:
        DataError: no such split, no images, or a classes file that is missing or damaged.
    """
    label_set, has_colours = _classes(root)
    images = _Images(root / "images")
    parts = ("train", "val") if split == "trainval" else (split,)
    pairs = [pair for part in parts for pair in _pairs(root, part, images)]
    return FileSet(label_set, tuple(pairs), palette=label_set.palette if has_colours else None)


def stored_splits(root: Path) -> tuple[str, ...]:
    """The splits that the folder has as lists or subfolders; ``("all",)`` where it has none."""
    return tuple(split for split in SPLITS if _has_list(root, split) or _has_subfolder(root, split)) or ("all",)


def masks_without_image(root: Path) -> list[Path]:
    """The masks that no image shares its name with.

    Raises:
        DataError: the folder of images or of masks cannot be read, or there are no images.
    """
    images, masks = _Images(root / "images"), root / "masks"
    return [path for path in files_below(masks) if _key(path.relative_to(masks)) not in images]


class _Images:
    """The images of the folder by their path below it without suffix, which is what a mask shares with its image."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._paths: dict[str, list[Path]] = {}
        for path in files_below(place):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                self._paths.setdefault(_key(path.relative_to(place)), []).append(path)
        if not self._paths:
            raise DataError(f"{place} holds no images: put files there that end in {', '.join(IMAGE_SUFFIXES)}")

    def __contains__(self, key: str) -> bool:
        return key in self._paths

    def keys(self, below: str = "") -> list[str]:
        return [key for key in self._paths if key.startswith(below)]

    def paths(self, key: str) -> list[Path]:
        # A path that is not there: reading it says so by name.
        return self._paths.get(key, [self.place / key])


def _pairs(root: Path, split: str, images: _Images) -> list[tuple[Path, Path]]:
    masks = root / "masks"
    if split == "all":
        keys = images.keys()
    elif _has_list(root, split):
        return [pair for line in read_lines(root / f"{split}.txt") for pair in _listed_pairs(line, masks, images)]
    elif _has_subfolder(root, split):
        keys = images.keys(f"{split}/")
    else:
        raise DataError(
            f"{root} has no split {split!r} (it has {', '.join(stored_splits(root))}): "
            f"write {split}.txt with one image a line, make images/{split}, or give --split all for every image"
        )
    if not keys:
        raise DataError(f"{images.place / split} holds no images: put the split's images there")
    return [(path, masks / f"{key}.png") for key in keys for path in images.paths(key)]


def _listed_pairs(line: str, masks: Path, images: _Images) -> list[tuple[Path, Path]]:
    entry = PurePosixPath(line)
    if entry.is_absolute() or ".." in entry.parts:
        raise DataError(f"the list entry {line!r} leaves the folder images: name images relative to it")
    if entry.suffix.lower() in IMAGE_SUFFIXES:
        return [(images.place / entry, masks / f"{_key(entry)}.png")]
    return [(path, masks / f"{line}.png") for path in images.paths(line)]


def _key(path: PurePosixPath | Path) -> str:
    return path.with_suffix("").as_posix()


def _has_list(root: Path, split: str) -> bool:
    return (root / f"{split}.txt").is_file()


def _has_subfolder(root: Path, split: str) -> bool:
    return (root / "images" / split).is_dir()


def _classes(root: Path) -> tuple[LabelSet, bool]:
    """The label set, and whether its colours were given."""
    text, structured = root / "classes.txt", root / "classes.json"
    if text.is_file() and structured.is_file():
        raise DataError(f"{root} has both classes.txt and classes.json: keep one")
    if not text.is_file() and not structured.is_file():
        raise DataError(f"{root} has no classes.txt: write one class a line, in the order of the ids in the masks")
    path = text if text.is_file() else structured
    try:
        names, colours = _from_text(path) if path == text else _from_json(path)
        if len(set(names)) != len(names):
            raise ValueError("a class is named twice")
        return LabelSet("folder", tuple(names), tuple(colours) if colours else bright_palette(names)), bool(colours)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} is not a list of classes ({error}): "
            f"name each class once, and give all of them an RGB colour or none"
        ) from error


_Named = tuple[list[str], list[tuple[int, int, int]]]


def _from_text(path: Path) -> _Named:
    rows = [[cell.strip() for cell in line.split(",")] for line in path.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row != [""]]
    if not {len(row) for row in rows} <= {1, 4} or not all(row[0] for row in rows):
        raise ValueError("a line is neither `name` nor `name, red, green, blue`")
    return [row[0] for row in rows], [_colour([int(cell) for cell in row[1:]]) for row in rows if len(row) == 4]


def _from_json(path: Path) -> _Named:
    content: Any = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, list):
        content = {"classes": content}
    names, colours = (content.get("classes"), content.get("palette", [])) if isinstance(content, dict) else (None, [])
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ValueError('it is neither a list of names nor {"classes": […], "palette": […]}')
    if not isinstance(colours, list):
        raise ValueError("its palette is not a list of [red, green, blue]")
    return names, [_colour(colour) for colour in colours]


def _colour(channels: Any) -> tuple[int, int, int]:
    if not (isinstance(channels, list) and len(channels) == 3 and all(c in range(256) for c in channels)):
        raise ValueError(f"{channels} is not three numbers from 0 to 255")
    return int(channels[0]), int(channels[1]), int(channels[2])

"""Lists of a split in the forms that people bring: one column or two, of several tools and systems.

A line names an image, alone or with its mask: relative to the images' folder or to the root, with or without suffix,
with a leading slash or an absolute path of another machine, with backslashes; columns are parted by a tab, ``|``,
``,``, ``;`` or blanks (semseg, PaddleSeg, DeepLab).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import DataError
from .files import read_lines
from .layout import IMAGE_SUFFIXES, Layout, composed, key_of

_HEADING = {"", "id", "image", "images", "image_path", "img", "file", "filename", "file_name", "path", "name", "mask",
            "masks", "mask_path", "label", "label_path", "annotation"}  # fmt: skip
_SEPARATORS = re.compile(r"\t|\||;|,")


@dataclass(frozen=True)
class _Entry:
    """What a piece of a line names: existing files, or none."""

    keys: tuple[str, ...]
    paths: tuple[Path, ...]


def listed_pairs(listing: Path, layout: Layout) -> list[tuple[Path, Path]]:
    """The pairs that a list names; a file that is not there is in a pair too, so that reading it reports it.

    Raises:
        DataError: the list cannot be read, or an entry leads out of the root.
    """
    lines = read_lines(listing)
    if _SEPARATORS.search(lines[0]) and {cell.strip().lower() for cell in _SEPARATORS.split(lines[0])} <= _HEADING:
        lines = lines[1:]
    return [pair for line in lines for pair in _pairs(line, listing, layout)]


def _pairs(line: str, listing: Path, layout: Layout) -> Iterator[tuple[Path, Path]]:
    text = line.replace("\\", "/").strip().strip('"')
    whole = _images(text, listing, layout)
    if whole.paths:
        for key, path in zip(whole.keys, whole.paths):
            yield path, layout.mask_of(key)
        return
    for image_text, mask_text in _columns(text):
        images = _images(image_text, listing, layout)
        if images.paths:
            mask = _mask(mask_text, listing, layout)
            yield images.paths[0], mask if mask is not None else layout.mask_of(images.keys[0])
            return
    if not text.startswith("#"):  # a remark
        yield _missing(text, layout)


def _columns(text: str) -> Iterator[tuple[str, str]]:
    """The ways to part a line into an image and a mask."""
    if _SEPARATORS.search(text):
        cells = [cell.strip() for cell in _SEPARATORS.split(text) if cell.strip()]
        if len(cells) >= 2:
            yield cells[0], cells[1]
    for match in re.finditer(r"\s+", text):
        yield text[: match.start()], text[match.end() :]


def _images(text: str, listing: Path, layout: Layout) -> _Entry:
    for candidate in _candidates(text, listing):
        for prefix, folder in layout.image_folders.items():
            key = _below(candidate, folder, prefix, layout)
            suffix = candidate.suffix.lower()
            if suffix in IMAGE_SUFFIXES:
                found = [path for path in layout.images.get(key_of(key), ()) if path.suffix == candidate.suffix]
                found = found or [path for path in layout.images.get(key_of(key), ()) if path.suffix.lower() == suffix]
                if found:
                    return _Entry((key_of(key),), (found[0],))
            elif paths := layout.images.get(key.as_posix()):
                return _Entry((key.as_posix(),) * len(paths), tuple(paths))
    return _Entry((), ())


def _mask(text: str, listing: Path, layout: Layout) -> Path | None:
    for candidate in _candidates(text, listing):
        for prefix, folder in layout.mask_folders.items():
            key = _below(candidate, folder, prefix, layout)
            for name in (key_of(key), composed(key.as_posix())):
                same = [path for path in layout.masks.get(name, ()) if path.name == candidate.name]
                if found := same or layout.masks.get(name, []):
                    return found[0]
    return None


def _candidates(text: str, listing: Path) -> Iterator[PurePosixPath]:
    """A path as it is written, then, where it is absolute, what is left of it without its first folders."""
    path = PurePosixPath(re.sub(r"^[A-Za-z]:/", "/", text))
    if ".." in path.parts:
        raise DataError(f"the entry {text!r} of {listing} leaves the folder of the data set", "name files below it")
    if not path.is_absolute():
        yield PurePosixPath(*[part for part in path.parts if part != "."])
        return
    parts = path.parts[1:]
    for first in range(len(parts)):
        yield PurePosixPath(*parts[first:])


def _below(candidate: PurePosixPath, folder: Path, prefix: str, layout: Layout) -> PurePosixPath:
    """The key, suffix included, that a path would have in a folder: the folder's own name in front is dropped."""
    own = folder.relative_to(layout.root).as_posix().lower()
    lower = candidate.as_posix().lower()
    rest = PurePosixPath(candidate.as_posix()[len(own) + 1 :]) if lower.startswith(f"{own}/") else candidate
    return PurePosixPath(prefix + rest.as_posix()) if rest is not candidate else candidate


def _missing(text: str, layout: Layout) -> tuple[Path, Path]:
    """The pair of a line that names no image that is there."""
    columns = next(_columns(text), None)
    image = text
    if columns and PurePosixPath(columns[0]).suffix.lower() in IMAGE_SUFFIXES:
        image = columns[0]
    image = image.lstrip("/")
    folder = next(iter(layout.image_folders.values()), layout.root)
    place = layout.root / image if image.lower().startswith(f"{folder.name.lower()}/") else folder / image
    key = key_of(PurePosixPath(image)) if PurePosixPath(image).suffix.lower() in IMAGE_SUFFIXES else composed(image)
    return place, layout.mask_of(key)

"""YOLO's text files of polygons."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ..files import files_below
from ..layout import layout_of
from ..reading import is_whole_number, read_text
from .colour_list import read_names
from .entries import attempt
from .mask_formats import paired
from .shapes import as_points, fill_inclusive
from .source import (
    NOT_THERE,
    Ids,
    ReadOptions,
    Source,
    empty_mask,
    id_of,
    size_of_image,
    with_background,
)


def read_yolo(root: Path, options: ReadOptions) -> Source:
    """YOLO polygons: one text file per image, ``class x y x y …`` in shares of the image's size."""
    listing = next(
        (path for name in ("data.yaml", "data.yml", "dataset.yaml") if (path := root / name).is_file()), None
    )
    if options.classes:
        names = list(options.classes.names)
    elif listing is not None:
        names = yaml_names(read_text(listing))
    elif (root / "classes.txt").is_file():
        names = read_names(root / "classes.txt")
    else:
        names = []
    if not names:
        raise DataError(f"{root} does not name its classes", "restore data.yaml, or give --classes FILE")
    layout = layout_of(root)
    if layout.masks and not any((root / name / "labels").is_dir() for name in ("", "train", "val", "valid")):
        # Ultralytics' semantic sets: PNGs of ids in place of polygons.
        return paired(
            Source("yolo", dict(enumerate(names))),
            root,
            sorted(path for paths in layout.masks.values() for path in paths),
            options,
        )
    source = Source("yolo", with_background(names))
    images = source.index_images(root, options)
    not_labels = {
        "classes.txt",
        "train.txt",
        "val.txt",
        "test.txt",
        "readme.txt",
        "readme.roboflow.txt",
        "readme.dataset.txt",
    }
    for path in files_below(root):
        if path.suffix.lower() != ".txt" or path.name.lower() in not_labels or path.parent == root:
            continue
        image = images.find(path.stem, path.parent) or images.find(f"{path.stem}.jpg", path.parent)
        if image is None:
            source.drop(path, NOT_THERE)
            continue
        source.add(image, partial(_draw_yolo, source, names, image, path))
    return source


def _draw_yolo(source: Source, names: list[str], image: Path, path: Path) -> Ids:
    height, width = size_of_image(image)
    mask = empty_mask(height, width, str(path))
    for number, line in enumerate(read_text(path).splitlines(), 1):
        cells, what = line.split(), f"line {number} of {path}"
        if not cells:
            continue
        if len(cells) < 7 or len(cells) % 2 == 0 or not is_whole_number(cells[0]):
            boxes = "it is a box, and a box is not an area" if len(cells) == 5 else "it is not `class x y x y …`"
            source.drop(what, boxes)
        elif int(cells[0]) >= len(names) or (value := id_of(source.names, names[int(cells[0])])) is None:
            source.drop(what, f"its class {cells[0]} is not among the {len(names)} names")
        else:
            attempt(source, what, partial(_fill_yolo, mask, cells[1:], value))
    return mask


def _fill_yolo(mask: NDArray[Any], cells: list[str], value: int) -> None:
    points = as_points([float(cell) for cell in cells]) * (mask.shape[1], mask.shape[0])
    # Converters write contours, whose corners are pixels of the object.
    limit = np.array([mask.shape[1] - 1, mask.shape[0] - 1])
    fill_inclusive(mask, [np.minimum(points, limit)], value)


def yaml_names(text: str) -> list[str]:
    """The class names of a YOLO ``data.yaml`` in the order of their numbers: a list or numbered entries, in line or
    below each other.

    Raises:
        DataError: the numbers are not 0, 1, 2 and so on, or ``nc`` says that there are more or fewer.
    """
    lines = text.splitlines()
    entries: list[str] = []
    for position, line in enumerate(lines):
        if not re.match(r"names\s*:", line):
            continue
        rest = line.partition(":")[2].partition(" #")[0].strip()
        entries = _block_entries(lines[position + 1 :]) if not rest else _inline_entries(rest, lines[position + 1 :])
    numbered = [re.fullmatch(r"(\d+)\s*:\s*(.+)", entry) for entry in entries]
    names = [_bare(entry) for entry in entries]
    if entries and all(numbered):
        by_number = {int(match[1]): _bare(match[2]) for match in numbered if match}
        if sorted(by_number) != list(range(len(entries))):
            raise DataError(f"the classes of data.yaml have the numbers {sorted(by_number)}", "number them from 0 on")
        names = [by_number[number] for number in range(len(entries))]
    count = re.search(r"^nc\s*:\s*(\d+)", text, re.MULTILINE)
    if names and count and int(count[1]) != len(names):
        raise DataError(f"data.yaml has nc: {count[1]} and {len(names)} names", "correct it")
    return names


def _inline_entries(rest: str, following: list[str]) -> list[str]:
    """The parts of ``[a, 'b, c']`` or ``{0: a, 1: b}``, which may go on in the following lines."""
    for more in following:
        if rest.count("[") <= rest.count("]") and rest.count("{") <= rest.count("}"):
            break
        rest += " " + more.strip()
    parts = re.findall(r"""(?:'[^']*'|"[^"]*"|[^,'"])+""", rest.strip().removesuffix(",")[1:-1])
    return [part.strip() for part in parts if part.strip()]


def _block_entries(lines: list[str]) -> list[str]:
    """The parts of a list below its key, ``- a`` or ``0: a`` per line."""
    entries = []
    for line in lines:
        text = line.partition(" #")[0].strip()
        match = re.fullmatch(r"-\s*(.+)|(\d+\s*:\s*.+)", text)
        if match:
            entries.append(match[1] or match[2])
        elif text and not text.startswith("#"):
            break
    return entries


def _bare(text: str) -> str:
    return text.strip().strip("'\"").strip()

"""Lists of classes in the forms of several tools."""

from __future__ import annotations

import re
from pathlib import Path

from ...errors import DataError
from ...inputs import is_file
from ...labels import voc_palette
from ..class_list import ClassList, read_class_list
from ..mask_file import Colour
from ..reading import is_whole_number, read_text

_LIMIT_BYTES = 1 << 20
COLOUR_LISTS = ("class_dict.csv", "class_dict_seg.csv", "label_colors.txt", "colors.txt", "palette.txt")


def read_labelmap(path: Path) -> list[tuple[str, Colour]]:
    """CVAT's ``labelmap.txt``: ``label:r,g,b:parts:actions`` per line; without any colour, VOC's in their order.

    Raises:
        DataError: unreadable, or a line is not of that form.
    """
    entries: list[tuple[str, Colour]] = []
    if all(re.fullmatch(r"[^:]+:::", line) for line in _lines(path)):
        return _in_vocs_colours([line.rstrip(":") for line in _lines(path)], path)
    for line in _lines(path):
        name, _, rest = line.partition(":")
        numbers = re.findall(r"\d+", rest.partition(":")[0])
        if len(numbers) != 3:
            raise DataError(f"the line {line!r} of {path} is not `label:r,g,b:parts:actions`", "export it again")
        entries.append((name.strip(), _colour(numbers, path)))
    return _not_empty(entries, path)


def read_colour_list(path: Path) -> list[tuple[str, Colour]]:
    """A list with a name and three numbers per line, in either order, parted by commas, colons or blanks.

    ``label_colors.txt`` without any number has VOC's colours in their order, with which Datumaro writes it.

    Raises:
        DataError: unreadable, or a line has not three numbers.
    """
    if path.name == "labelmap.txt":
        return read_labelmap(path)
    if path.name == "label_colors.txt" and not any(re.search(r"\d", line) for line in _lines(path)):
        return _in_vocs_colours(_lines(path), path)
    entries: list[tuple[str, Colour]] = []
    for position, line in enumerate(_lines(path)):
        cells = [cell for cell in re.split(r"[\s,;:]+", line) if cell]
        numbers, words = (
            [cell for cell in cells if is_whole_number(cell)],
            [cell for cell in cells if not is_whole_number(cell)],
        )
        if len(numbers) < 3 or not words:
            if position == 0:
                continue  # a heading, as in class_dict.csv
            raise DataError(f"the line {line!r} of {path} is not a name and an RGB colour", "correct it")
        # `name r g b`, `r g b name`, or `id name r g b`: the colour is the last or the first three numbers together.
        triple = numbers[-3:] if not is_whole_number(cells[0]) or len(numbers) > 3 else numbers[:3]
        entries.append((" ".join(words), _colour(triple, path)))
    return _not_empty(entries, path)


def read_any_list(path: Path) -> ClassList:
    """A list of classes of any form, with the colours and numbers that it gives.

    Raises:
        DataError: unreadable.
    """
    try:
        return read_class_list(path, any_numbers=True)
    except DataError:
        if path.suffix.lower() in (".json", ".yaml") or path.name == "classes.txt" or not is_file(path):
            raise
    try:
        entries = read_colour_list(path)
    except DataError:
        return ClassList(tuple(read_names(path)), None)
    return ClassList(tuple(name for name, _ in entries), tuple(colour for _, colour in entries))


def read_names(path: Path) -> list[str]:
    """The names of a class list of any form, in id order.

    Raises:
        DataError: unreadable.
    """
    if path.suffix.lower() == ".json" or path.name == "classes.txt":
        return list(read_class_list(path).names)
    return _not_empty([line.split(",")[0].strip() for line in _lines(path)], path)


def _lines(path: Path) -> list[str]:
    lines = [line.strip() for line in read_text(path, _LIMIT_BYTES).splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _in_vocs_colours(names: list[str], path: Path) -> list[tuple[str, Colour]]:
    return _not_empty(list(zip(names, voc_palette(len(names)))), path)


def _colour(numbers: list[str], path: Path) -> Colour:
    values = [int(number) for number in numbers]
    if max(values) > 255:
        raise DataError(f"{path} has the colour {','.join(numbers)}", "give three numbers from 0 to 255")
    return values[0], values[1], values[2]


def _not_empty(entries: list, path: Path) -> list:  # type: ignore[type-arg]
    if not entries:
        raise DataError(f"{path} names no class", "export it again")
    return entries

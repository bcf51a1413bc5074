"""The classes of a folder data set: ``classes.txt`` or ``classes.json`` → names, colours, and ids that are ignored."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..document import parse_json
from ..errors import DataError
from ..inputs import check_file
from ..labels import IGNORE, LONGEST_CLASS_NAME, LabelSet, bright_palette
from .mask_file import Colour
from .reading import read_text

IGNORE_NAME = "ignore"
"""A line of this name, in any case, is an id that masks use for pixels without a label."""
PUBLISHED = (
    "id2label.json",
    "config_v1.2.json",
    "config_v2.0.json",
    "class_list.json",
    "RUGD_annotation-colormap.txt",
    "ontology.yaml",
)
"""Lists as transformers, Mapillary Vistas, A2D2, RUGD and RELLIS-3D publish them."""
_LIMIT_BYTES = 1 << 20
_NUMBERED = re.compile(r"(\d+)\s*[:.,;=\s]\s*(\D.*)")
_MOST_DIGITS = 9
_HEX = re.compile(r"(.*?\S)[\s,;:]*#([0-9a-fA-F]{6})")
_BRACKETS = re.compile(r"(.*?\S)[\s,;:]*[\[(]\s*(\d+)[\s,;]+(\d+)[\s,;]+(\d+)\s*[\])]")
_NAME_IN_YAML = re.compile(r"""(\d+)\s*:\s*["']?([^\W\d][^"'\n,}]*)""")
_COLOUR_IN_YAML = re.compile(r"(\d+)\s*:\s*\[\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\]")
_SPACED = re.compile(r"(.*\S)[\s:;]+(\d+)[\s;]+(\d+)[\s;]+(\d+)")


@dataclass(frozen=True)
class ClassList:
    """The classes in the order of the ids in the files.

    ``names`` and ``colours`` include ignored ids; ``colours`` is None where the file gives none.
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...] | None
    numbers: tuple[int, ...] | None = None
    """The ids that the file gives, where they are not 0, 1, 2 and so on."""

    @property
    def label_set(self) -> LabelSet:
        """The classes without the ignored ids."""
        kept = [index for index, name in enumerate(self.names) if not is_ignore(name)]
        names = [self.names[index] for index in kept]
        palette = [self.colours[index] for index in kept] if self.colours else bright_palette(names)
        return LabelSet("folder", tuple(names), tuple(palette))

    @property
    def id_table(self) -> tuple[int, ...] | None:
        """The class id, or IGNORE, of each id in the files; None where nothing is ignored."""
        if not any(is_ignore(name) for name in self.names):
            return None
        classes = self.label_set.classes
        return tuple(IGNORE if is_ignore(name) else classes.index(name) for name in self.names)


def is_ignore(name: str) -> bool:
    """Whether a line of a class list is not a class but an id that is ignored."""
    return name.lower() == IGNORE_NAME


def published_list(root: Path) -> Path | None:
    """The list that a public data set came with, in its folder or one below.

    Raises:
        DataError: there are several, as of Mapillary Vistas' two versions, and masks belong to one of them.
    """
    folders = [root, *sorted(entry for entry in root.iterdir() if entry.is_dir())]
    found = [path for folder in folders for name in PUBLISHED if (path := folder / name).is_file()]
    if len(found) > 1:
        raise DataError(
            f"{root} has several lists of classes ({found[0].name}, {found[1].name})",
            "convert it with `pspnet-edge data import --classes FILE` and the one that the masks follow",
        )
    return found[0] if found else None


def read_class_list(path: Path, *, any_numbers: bool = False) -> ClassList:
    """Read ``classes.txt``, one class per line as ``name`` or ``name, red, green, blue``, ``classes.json``, or one of
    ``PUBLISHED``.

    Args:
        path: the file.
        any_numbers: allow ids with gaps, or that begin at 1, which only an import can make into ids from 0 on.

    Raises:
        DataError: unreadable, no class, a class twice, colours that are not RGB or given to some classes only.
    """
    check_file(path, "list of classes", DataError, "give a text file with one class name per line")
    text = read_text(path, _LIMIT_BYTES)
    try:
        read = {".json": _from_json, ".yaml": _from_yaml}.get(path.suffix.lower(), _from_text)
        names, colours, numbers = read(text)
        if len(set(names)) != len(names):
            raise ValueError("a class is named twice")
        if any(len(name) > LONGEST_CLASS_NAME for name in names):
            raise ValueError(f"a class name has more than {LONGEST_CLASS_NAME} characters")
        if colours and len(colours) != len(names):
            raise ValueError(f"it has {len(names)} classes and {len(colours)} colours")
        classes = ClassList(tuple(names), tuple(colours) if colours else None, tuple(numbers) if numbers else None)
        _ = classes.label_set
        if numbers and not any_numbers:
            listed = ", ".join(map(str, numbers[:4])) + (", …" if len(numbers) > 4 else "")
            raise DataError(
                f"{path} numbers its classes {listed}, and ids must be 0, 1, 2 and so on",
                "convert masks and list",
                f"pspnet-edge data import {shlex.quote(str(path.parent))} --format folder -o my_data",
            )
        return classes
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is not a list of classes ({error})",
            "name each class once, and give all of them an RGB colour or none",
        ) from error


_Named = tuple[list[str], list[Colour], list[int]]
_HEADING = {"id", "ids", "index", "class", "classes", "class_id", "classid", "name", "names", "label", "labels",
            "value", "pixel value", "r", "g", "b", "red", "green", "blue", "color", "colour"}  # fmt: skip


def _from_text(text: str) -> _Named:
    lines = [_plain_numbers(line.strip().rstrip(",;").rstrip()) for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if len(lines) > 1 and {cell.strip().lower() for cell in re.split("[,;\t]", lines[0])} <= _HEADING:
        first = [cell.strip() for cell in re.split("[,;\t]", lines[0])]
        lines = lines[1:] if len(first) > 1 or first[0].lower() in ("name", "names", "classes") else lines
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    numbers: list[int] = []
    if all(numbered):
        numbers = [int(match[1][:_MOST_DIGITS]) for match in numbered if match]
    if len(set(numbers)) == len(lines):
        lines = [match[2] for match in numbered if match]
    else:
        numbers = []
    rows = [[_unquoted(cell) for cell in line.split(",")] for line in lines]
    spaced = [_SPACED.fullmatch(line) for line in lines]
    if lines and all(spaced) and all(len(row) == 1 for row in rows):
        rows = [[_unquoted(match[1]), match[2], match[3], match[4]] for match in spaced if match]
    if len(rows) == 1 and len(rows[0]) > 1 and not any(cell.isdigit() for cell in rows[0]):
        rows = [[cell] for cell in rows[0]]
    if not {len(row) for row in rows} <= {1, 4} or not all(row[0] for row in rows):
        raise ValueError("a line is neither `name` nor `name, red, green, blue`")
    if numbers == list(range(len(rows))):
        numbers = []
    return (
        [row[0] for row in rows],
        [_colour([int(cell) for cell in row[1:]]) for row in rows if len(row) == 4],
        numbers,
    )


def _plain_numbers(line: str) -> str:
    """A line with its colour as ``name, red, green, blue``, where it is written ``#ff8000`` or in brackets."""
    if match := _HEX.fullmatch(line):
        return f"{match[1]}, {int(match[2][:2], 16)}, {int(match[2][2:4], 16)}, {int(match[2][4:], 16)}"
    if match := _BRACKETS.fullmatch(line):
        return f"{match[1]}, {match[2]}, {match[3]}, {match[4]}"
    return line


def _unquoted(cell: str) -> str:
    cell = cell.strip()
    quoted = len(cell) > 1 and cell[0] == cell[-1] and cell[0] in "\"'"
    return cell[1:-1].strip() if quoted else cell


def _from_yaml(text: str) -> _Named:
    """RELLIS-3D's ontology: the names of the ids, then their colours."""
    names = {int(number[:_MOST_DIGITS]): name.strip() for number, name in _NAME_IN_YAML.findall(text)}
    colours = {
        int(number[:_MOST_DIGITS]): [int(level) for level in rgb] for number, *rgb in _COLOUR_IN_YAML.findall(text)
    }
    if not names:
        return _from_text(text)
    if colours and colours.keys() != names.keys():
        raise ValueError("the ids of its names and of its colours differ")
    numbers = sorted(names)
    listed = [_colour(colours[number]) for number in numbers] if colours else []
    return [names[number] for number in numbers], listed, [] if numbers == list(range(len(numbers))) else numbers


def _of_labels(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """The names, and the colours where all have one, of labels as CVAT, Mapillary Vistas and others list them."""
    colours = [entry.get("color") for entry in entries]
    palette = [
        list(bytes.fromhex(colour[1:])) if isinstance(colour, str) else colour
        for colour in colours
        if isinstance(colour, list) or re.fullmatch(r"#[0-9a-fA-F]{6}", str(colour))
    ]
    readable = [entry.get("readable") for entry in entries]
    unique = len({str(name) for name in readable if name}) == len(entries)
    names = readable if unique else [entry.get("name") for entry in entries]
    return {"classes": names, "palette": palette if len(palette) == len(entries) else []}


def _from_json(text: str) -> _Named:
    content: Any = parse_json(text, strict=False)
    numbers: list[int] = []
    if isinstance(content, dict) and "classes" not in content:
        content = content.get("id2label") or content.get("labels") or content
    if isinstance(content, dict) and content and all(re.fullmatch("#[0-9a-fA-F]{6}", key) for key in content):
        content = [{"name": name, "color": colour} for colour, name in content.items()]
    if isinstance(content, dict) and content and all(key.isascii() and key.isdigit() for key in content):
        by_number = sorted((int(key[:_MOST_DIGITS]), name) for key, name in content.items())
        numbers = [number for number, _ in by_number]
        numbers = [] if numbers == list(range(len(numbers))) else numbers
        content = [name for _, name in by_number]
    if isinstance(content, list) and content and all(isinstance(entry, dict) for entry in content):
        content = _of_labels(content)
    elif isinstance(content, list):
        content = {"classes": content}
    names, colours = (content.get("classes"), content.get("palette", [])) if isinstance(content, dict) else (None, [])
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ValueError('it is neither a list of names nor {"classes": […], "palette": […]}')
    if not isinstance(colours, list):
        raise ValueError("its palette is not a list of [red, green, blue]")
    return names, [_colour(colour) for colour in colours], numbers


def _colour(channels: Any) -> Colour:
    if not (
        isinstance(channels, list)
        and len(channels) == 3
        and all(isinstance(channel, int) and 0 <= channel <= 255 for channel in channels)
    ):
        raise ValueError(f"{channels} is not three numbers from 0 to 255")
    return channels[0], channels[1], channels[2]

"""The classes of a folder data set: ``classes.txt`` or ``classes.json`` → names, colours, and ids that are ignored."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..labels import IGNORE, LabelSet, bright_palette
from .mask_file import Colour
from .reading import read_text

IGNORE_NAME = "ignore"
"""A line of this name, in any case, is an id that masks use for pixels without a label."""
_LIMIT_BYTES = 1 << 20
_NUMBERED = re.compile(r"(\d+)\s*[:.,;=\s]\s*(\D.*)")
_SPACED = re.compile(r"(.*\S)[\s:;]+(\d+)[\s;]+(\d+)[\s;]+(\d+)")


@dataclass(frozen=True)
class ClassList:
    """The classes in the order of the ids in the files.

    ``names`` and ``colours`` include ignored ids; ``colours`` is None where the file gives none.
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...] | None

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


def read_class_list(path: Path) -> ClassList:
    """Read ``classes.txt``, one class per line as ``name`` or ``name, red, green, blue``, or ``classes.json``.

    Raises:
        DataError: unreadable, no class, a class twice, colours that are not RGB or given to some classes only.
    """
    text = read_text(path, _LIMIT_BYTES)
    try:
        names, colours = _from_json(text) if path.suffix.lower() == ".json" else _from_text(text)
        if len(set(names)) != len(names):
            raise ValueError("a class is named twice")
        if colours and len(colours) != len(names):
            raise ValueError(f"it has {len(names)} classes and {len(colours)} colours")
        classes = ClassList(tuple(names), tuple(colours) if colours else None)
        _ = classes.label_set
        return classes
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is not a list of classes ({error})",
            "name each class once, and give all of them an RGB colour or none",
        ) from error


_Named = tuple[list[str], list[Colour]]


def _from_text(text: str) -> _Named:
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    if lines and all(match and int(match[1]) == index for index, match in enumerate(numbered)):
        lines = [match[2] for match in numbered if match]
    rows = [[cell.strip() for cell in line.split(",")] for line in lines]
    spaced = [_SPACED.fullmatch(line) for line in lines]
    if lines and all(spaced) and all(len(row) == 1 for row in rows):
        rows = [[match[1].strip(), match[2], match[3], match[4]] for match in spaced if match]
    if not {len(row) for row in rows} <= {1, 4} or not all(row[0] for row in rows):
        raise ValueError("a line is neither `name` nor `name, red, green, blue`")
    return [row[0] for row in rows], [_colour([int(cell) for cell in row[1:]]) for row in rows if len(row) == 4]


def _from_json(text: str) -> _Named:
    content: Any = json.loads(text)
    if isinstance(content, list):
        content = {"classes": content}
    names, colours = (content.get("classes"), content.get("palette", [])) if isinstance(content, dict) else (None, [])
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ValueError('it is neither a list of names nor {"classes": […], "palette": […]}')
    if not isinstance(colours, list):
        raise ValueError("its palette is not a list of [red, green, blue]")
    return names, [_colour(colour) for colour in colours]


def _colour(channels: Any) -> Colour:
    if not (
        isinstance(channels, list)
        and len(channels) == 3
        and all(isinstance(channel, int) and 0 <= channel <= 255 for channel in channels)
    ):
        raise ValueError(f"{channels} is not three numbers from 0 to 255")
    return channels[0], channels[1], channels[2]

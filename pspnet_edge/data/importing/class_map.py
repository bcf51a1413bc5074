"""Which class every id of a source becomes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import DataError, OptionError
from ...labels import IGNORE, LONGEST_CLASS_NAME, LabelSet, bright_palette
from ..mask_file import Mask
from ..reading import is_whole_number
from .source import Ids, Source

_MOST_IDS = 1 << 16
_NO_LABEL = ("ignore", "__ignore__", "_ignore_", "void", "unlabeled", "unlabelled")


@dataclass(frozen=True)
class ClassMap:
    """The classes of the data set, and source id → class id or IGNORE; ids without an entry are an error."""

    label_set: LabelSet
    table: dict[int, int]

    def apply(self, ids: Ids) -> Mask:
        """Source ids → mask ``uint8 [H, W]``.

        Raises:
            DataError: an id that no class has.
        """
        lookup = np.full(_MOST_IDS, -1, np.int32)
        for source_id, class_id in self.table.items():
            lookup[source_id] = class_id
        mask = lookup[ids]
        if (mask < 0).any():
            y, x = (int(axis[0]) for axis in np.nonzero(mask < 0))
            number = int(ids[y, x])
            raise DataError(
                f"it holds id {number} at pixel x={x}, y={y}, which no class has",
                f"map it to a class with --map {number}=NAME, or ignore it with --map {number}=ignore",
            )
        return np.asarray(mask, np.uint8)


def parse_map(text: str | None) -> dict[str, str]:
    """``truck=car,void=ignore`` → {source class or id: class}.

    Raises:
        OptionError: a part is not of the form ``a=b``, or a class is mapped twice.
    """
    pairs: dict[str, str] = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        name, equals, target = (piece.strip() for piece in part.partition("="))
        if not equals or not name or not target:
            raise OptionError(
                f"{part.strip()!r} is not of the form class=class", "write truck=car,void=ignore", parameter="mapping"
            )
        if name in pairs:
            raise OptionError(f"class {name} is mapped twice", "map it once", parameter="mapping")
        pairs[name] = target
    return pairs


def class_map(source: Source, mapping: dict[str, str], ignore_id: int | None) -> ClassMap:
    """Decide the classes of the data set.

    A source class keeps its name unless it is mapped. ``ignore`` as a target, ``ignore_id``, 255, and classes called
    void, ignore or unlabelled have no label, unless they are mapped to a class. Classes come in the order of their
    first id.

    Raises:
        OptionError: the map names a class or id that the source does not have.
        DataError: no class is left, or more than 254.
    """
    source.names = {number: _printable(name) for number, name in source.names.items()}
    if beyond := [number for number in source.names if not 0 <= number < _MOST_IDS]:
        raise DataError(f"the source has a class of id {beyond[0]}", f"give ids from 0 to {_MOST_IDS - 1}")
    known = set(source.names.values())
    for name in mapping:
        if name not in known and not (is_whole_number(name) and int(name) < _MOST_IDS):
            raise OptionError(
                f"the source has no class {name!r} (it has {', '.join(sorted(known)) or 'only ids'})",
                "name one of its classes or an id",
                parameter="mapping",
            )
    ignored = source.ignored | ({ignore_id} if ignore_id is not None else set())
    numbers = sorted({*source.names, *(int(name) for name in mapping if is_whole_number(name)), *ignored, IGNORE})
    targets = {number: _target(number, source.names.get(number), mapping, ignored) for number in numbers}
    classes = list(dict.fromkeys(target for target in targets.values() if target is not None))
    if not classes:
        raise DataError(
            f"the source ({source.format}) does not name its classes",
            "give --classes FILE, one class per line in id order",
        )
    if len(classes) == 1:
        number = next(number for number, target in targets.items() if target == classes[0])
        other = next((name for each, name in source.names.items() if targets[each] is None), "0" if number else "1")
        raise DataError(
            f"only the class {classes[0]} is left, and every pixel would be {classes[0]}",
            f"keep another: `--map {other}=background,{source.names.get(number, number)}={classes[0]}`, "
            "or `--classes FILE` with two lines",
        )
    if len(classes) >= IGNORE:
        raise DataError(f"{len(classes)} classes are more than the 254 of a mask", "merge some with --map")
    table = {number: IGNORE if target is None else classes.index(target) for number, target in targets.items()}
    return ClassMap(LabelSet("folder", tuple(classes), _palette(classes, targets, source)), table)


def _printable(name: str) -> str:
    """A class name that a line of UTF-8 text can hold."""
    return " ".join(name.encode("utf-8", "replace").decode().split())[:LONGEST_CLASS_NAME] or "unnamed"


def _target(number: int, name: str | None, mapping: dict[str, str], ignored: set[int]) -> str | None:
    """The class that a source id becomes; None for no label."""
    target = mapping.get(str(number)) or (mapping.get(name) if name is not None else None)
    if target is not None:
        return None if target.lower() == "ignore" else target
    no_label = name is None or number in ignored or name.strip().lower() in _NO_LABEL
    return None if no_label else name


def _palette(classes: list[str], targets: dict[int, str | None], source: Source) -> tuple[tuple[int, int, int], ...]:
    """The source's colours where it has one for each class, and no colour twice; else bright ones."""
    colours = []
    for name in classes:
        own = [number for number, target in targets.items() if target == name and number in source.colours]
        same_name = [number for number in own if source.names.get(number) == name]
        colours += [source.colours[(same_name or own)[0]]] if own else []
    if len(colours) == len(classes) == len(set(colours)):
        return tuple(colours)
    return bright_palette(classes)

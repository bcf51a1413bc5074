"""The classes of an imported checkpoint: their names, and the order that our label sets have them in."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import OptionError
from ...inputs import as_text
from ...labels import CAMVID, CITYSCAPES, VOC, LabelSet, bright_palette

LABEL_SETS = {label_set.name: label_set for label_set in (CAMVID, CITYSCAPES, VOC)}

# What other lists call CamVid's classes.
_OTHER_NAMES = {"signsymbol": "sign", "sign symbol": "sign", "sidewalk": "pavement"}


def find_label_set(name: str) -> LabelSet:
    """A label set by its name.

    Raises:
        OptionError: there is none of this name.
    """
    if as_text(name, "label_set") not in LABEL_SETS:
        raise OptionError(f"there is no label set {name!r}: choose one of {', '.join(LABEL_SETS)}")
    return LABEL_SETS[name]


def named_classes(
    count: int, label_set: LabelSet | None, names: Sequence[str] | None
) -> tuple[LabelSet, tuple[int, ...] | None]:
    """The label set of a checkpoint, and which of its logits belongs to each class where their order differs.

    Args:
        count: how many classes the checkpoint has.
        label_set: the one it was trained for, if that is known.
        names: its classes in the order of its logits, if they are known.

    Raises:
        OptionError: the names or the label set do not fit the checkpoint or each other.
    """
    if names is not None and len(names) != count:
        raise OptionError(f"the checkpoint has {count} classes and {len(names)} names were given: give one a class")
    if label_set is None:
        return (_numbered(count) if names is None else _from_names(names)), None
    if len(label_set) != count:
        raise OptionError(
            f"the checkpoint has {count} classes and label set {label_set.name} has {len(label_set)}: "
            "give another --label-set, or the names with --classes"
        )
    if names is None:
        return label_set, None
    order = _order(label_set, names)
    return label_set, None if order == tuple(range(count)) else order


def _order(label_set: LabelSet, names: Sequence[str]) -> tuple[int, ...]:
    """For each class of the label set its place among the names."""
    places = {_plain(name): place for place, name in enumerate(names)}
    places |= {_OTHER_NAMES[name]: place for name, place in places.items() if name in _OTHER_NAMES}
    missing = [name for name in label_set.classes if name not in places]
    if missing:
        raise OptionError(
            f"the classes of the checkpoint lack {missing[0]!r} of label set {label_set.name}: "
            "leave --label-set out to keep their own names"
        )
    return tuple(places[name] for name in label_set.classes)


def _from_names(names: Sequence[str]) -> LabelSet:
    plain = tuple(_plain(name) for name in names)
    known = next((label_set for label_set in LABEL_SETS.values() if label_set.classes == plain), None)
    return known or LabelSet("imported", tuple(names), bright_palette(names))


def _numbered(count: int) -> LabelSet:
    names = tuple(f"class {index}" for index in range(count))
    return LabelSet("imported", names, bright_palette(names))


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ").replace("-", " ")

"""JSON that this package wrote and that may have been changed: read with its size, depth, types and ranges checked.

A shape describes a value: ``Number``, ``Text``, ``List``, ``Map``, ``Record`` and so on. ``read_document`` checks a
whole file, ``check_value`` a value that is read already, such as the metadata of a checkpoint.
"""

from __future__ import annotations

import json
import math
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from .errors import ModelError, PspnetEdgeError
from .labels import LONGEST_CLASS_NAME

LARGEST_BYTES = 64 << 20
DEEPEST = 32
_MOST_DIGITS = 300
"""Of a whole number, so that a float can hold it."""


class Unfit(ValueError):
    """A value that is not what its shape says."""


@dataclass(frozen=True)
class Number:
    """A finite number in a closed range."""

    least: float = -math.inf
    most: float = math.inf
    whole: bool = False

    def check(self, value: Any, where: str) -> None:
        """Raise ``Unfit`` where it is not one."""
        kinds = (int,) if self.whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise Unfit(f"{where} is not a {'whole ' if self.whole else ''}number")
        if not (self.least <= value <= self.most) or not math.isfinite(value):
            raise Unfit(f"{where} is {_shown(value)}, not between {self.least:g} and {self.most:g}")


@dataclass(frozen=True)
class Text:
    """UTF-8 text without control characters, of a limited length; where ``among`` is given, one of those."""

    longest: int = 10_000
    among: tuple[str, ...] = ()
    pattern: str = ""

    def check(self, value: Any, where: str) -> None:
        """Raise ``Unfit`` where it is not."""
        if not isinstance(value, str):
            raise Unfit(f"{where} is not text")
        if len(value) > self.longest:
            raise Unfit(f"{where} is longer than {self.longest} characters")
        if self.among and value not in self.among:
            raise Unfit(f"{where} is {_shown(value)}, not one of {', '.join(self.among)}")
        if self.pattern and not re.fullmatch(self.pattern, value):
            raise Unfit(f"{where} is {_shown(value)}, not of the form {self.pattern}")


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def check(self, value: Any, where: str) -> None:
        """Raise ``Unfit`` where it is neither."""
        if not isinstance(value, bool):
            raise Unfit(f"{where} is not true or false")


@dataclass(frozen=True)
class Anything:
    """Any JSON value; its text, numbers and depth are checked all the same."""

    def check(self, value: Any, where: str) -> None:
        """Accept it."""


@dataclass(frozen=True)
class Optional:
    """Null, or a value of a shape."""

    of: Shape

    def check(self, value: Any, where: str) -> None:
        """Raise ``Unfit`` where it is neither."""
        if value is not None:
            self.of.check(value, where)


@dataclass(frozen=True)
class List:
    """A list of values of one shape."""

    of: Shape
    least: int = 0
    most: int = 1_000_000

    def check(self, value: Any, where: str) -> None:
        """Raise ``Unfit`` where it is not one."""
        if not isinstance(value, (list, tuple)):
            raise Unfit(f"{where} is not a list")
        if not self.least <= len(value) <= self.most:
            raise Unfit(f"{where} has {len(value)} entries, not between {self.least} and {self.most}")
        for index, entry in enumerate(value):
            self.of.check(entry, f"{where}[{index}]")


@dataclass(frozen=True)
class Map:
    """Names that are not known before, each with a value of one shape."""

    of: Shape
    most: int = 100_000

    def check(self, value: Any, where: str) -> None:
        """Raise ``Unfit`` where it is not one."""
        if not isinstance(value, dict):
            raise Unfit(f"{where} is not an object")
        if len(value) > self.most:
            raise Unfit(f"{where} has {len(value)} entries, more than {self.most}")
        for name, entry in value.items():
            Text(longest=1000).check(name, f"a name in {where}")
            self.of.check(entry, f"{where}.{_shown(name)}")


@dataclass(frozen=True)
class Record:
    """Known names with a shape each; other names may be there unless ``closed``."""

    needed: Mapping[str, Shape]
    optional: Mapping[str, Shape] = field(default_factory=dict)
    closed: bool = False

    def check(self, value: Any, where: str) -> None:
        """Raise ``Unfit`` where it is not one."""
        if not isinstance(value, dict):
            raise Unfit(f"{where} is not an object")
        for name, shape in self.needed.items():
            if name not in value:
                raise Unfit(f"{where} lacks {name}")
            shape.check(value[name], f"{where}.{name}")
        for name, shape in self.optional.items():
            if name in value:
                shape.check(value[name], f"{where}.{name}")
        if self.closed and (unknown := set(value) - set(self.needed) - set(self.optional)):
            raise Unfit(f"{where} has an unknown name {_shown(sorted(map(str, unknown))[0])}")


Shape: TypeAlias = "Number | Text | Flag | Anything | Optional | List | Map | Record"

SHA256 = Text(64, pattern="[0-9a-f]{64}")
LABEL_SET = Record(
    {
        "name": Text(200),
        "classes": List(Text(LONGEST_CLASS_NAME), 1, 254),
        "palette": List(List(Number(0, 255, whole=True), 3, 3), 1, 254),
    }
)
SHAPE_NHW = List(Number(1, 65_536, whole=True), 3, 3)


def check_value(value: Any, shape: Shape, where: str) -> None:
    """Check a value and everything in it.

    Args:
        value: dictionaries, lists, text, numbers, true, false and None.
        shape: what it must be.
        where: what errors call it.

    Raises:
        Unfit: naming the place and what is wrong there.
    """
    _check_all(value, where, DEEPEST)
    shape.check(value, where)


def parse_json(text: str | bytes, *, strict: bool = True) -> Any:
    """A JSON value. Whole numbers that no float can hold are refused: arithmetic with them would overflow.

    Args:
        text: the JSON.
        strict: whether NaN and infinity are refused, which JSON does not have and many programs write.

    Raises:
        ValueError: it is not JSON, or not UTF-8, or nested too deep, or has a number of hundreds of digits.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant if strict else None, parse_int=_whole_number)
    except RecursionError:
        raise ValueError("nested too deep") from None


def read_document(
    path: Path,
    *,
    what: str,
    shape: Shape,
    remake: str,
    kind: str | None = None,
    version: int | tuple[int, ...] | None = None,
    error: type[PspnetEdgeError] = ModelError,
) -> Any:
    """Read a JSON file that this package wrote.

    Args:
        path: the file.
        what: what errors call it, such as ``"calibration table"``.
        shape: of its content.
        remake: the command that makes such a file, quoted in errors.
        kind: what its ``kind`` must be.
        version: what its ``format_version`` must be, or one of them.
        error: the class of what is raised.

    Raises:
        error: missing, unreadable, too large, not JSON, of another kind or version, or of another shape.
    """
    shown = _shown_path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise error(f"{shown} is not an ordinary file", f"give the file of a {what}")
        if status.st_size > LARGEST_BYTES:
            raise error(f"the {what} {shown} is larger than {LARGEST_BYTES >> 20} MiB", "recreate it", remake)
        content = parse_json(path.read_bytes())
    except FileNotFoundError:
        raise error(f"there is no {what} {shown}", "make it", remake) from None
    except (OSError, ValueError) as reason:
        text = getattr(reason, "strerror", None) or str(reason)
        raise error(f"the {what} {shown} cannot be read ({text})", "recreate it", remake) from reason
    if not isinstance(content, dict) or (kind is not None and content.get("kind") != kind):
        raise error(f"{shown} is not a {what} of pspnet-edge", "make one", remake)
    found = content.get("format_version")
    versions = version if isinstance(version, tuple) else (version,)
    if version is not None and (found not in versions or isinstance(found, bool)):
        raise error(
            f"{shown} has format version {_shown(found)}, this package reads {' and '.join(map(str, versions))}",
            "recreate it",
            remake,
        )
    try:
        check_value(content, shape, "it")
    except Unfit as reason:
        raise error(f"the {what} {shown} is damaged ({reason})", "recreate it", remake) from reason
    return content


def _check_all(value: Any, where: str, depth: int) -> None:
    """What holds for every value, known or not: depth, text, numbers that C can hold."""
    if depth == 0:
        raise Unfit(f"{where} is nested too deep")
    if isinstance(value, dict):
        for name, entry in value.items():
            if not isinstance(name, str):
                raise Unfit(f"{where} has a name that is not text")
            _check_text(name, f"a name in {where}")
            _check_all(entry, f"{where}.{name}", depth - 1)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            _check_all(entry, where, depth - 1)
    elif isinstance(value, str):
        _check_text(value, where)
    elif isinstance(value, (int, float)) and not abs(value) < 2**63:
        raise Unfit(f"{where} is {_shown(value)}, which is out of range")


def _check_text(text: str, where: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Unfit("text that is not UTF-8") from None
    if "\0" in text:
        raise Unfit(f"{where} holds a NUL character")


def _whole_number(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _shown(value: Any) -> str:
    """A value for an error: short and printable, whatever it is."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        text = "a number of thousands of digits"
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 60 else f"{text[:60]}…"


def _shown_path(path: Path) -> str:
    text = str(path).encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return text if len(text) <= 200 else f"{text[:80]}…"

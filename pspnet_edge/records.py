"""Values on their way out: into JSON, and into sentences."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

# Escape sequences, and marks that turn the direction of writing; line breaks and tabs are text.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class JsonRecord:
    """What a function returns: a frozen dataclass that becomes JSON values."""

    def to_dict(self) -> dict[str, object]:
        """The record as JSON values: paths as text, NaN as None."""
        values: dict[str, object] = finite(asdict(self))  # type: ignore[call-overload]
        return values


def finite(value: Any) -> Any:
    """The same value with None for every NaN and infinity, because JSON has neither, and with paths as text."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def to_json(value: Any, *, indent: int | None = None) -> str:
    """``value`` as JSON that every reader takes: no NaN, and text that is not UTF-8 written with escapes."""
    return json.dumps(_in_utf8(finite(value)), indent=indent)


def printable(text: str) -> str:
    r"""The text for a terminal or a log, with controls as ``\x1b``: no name of a stranger steers a terminal."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), utf8(text))


def utf8(text: str) -> str:
    r"""The text with ``\udcff`` in place of what is not UTF-8, such as bytes of a file name in another encoding."""
    return text.encode("utf-8", "backslashreplace").decode()


def first_line(error: BaseException) -> str:
    """What an error of another library says first, at most 200 characters; its type where it says nothing.

    Without the colon that announces what it lists below.
    """
    lines = [line.rstrip(": ").strip() for line in utf8(str(error)).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}…"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """``counted(1, "frame")`` → ``"1 frame"``, ``counted(1234, "class", "classes")`` → ``"1234 classes"``."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def listed(names: Sequence[str]) -> str:
    """``listed(["a", "b", "c"])`` → ``"a, b and c"``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _in_utf8(value: Any) -> Any:
    if isinstance(value, dict):
        return {_in_utf8(key): _in_utf8(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_in_utf8(entry) for entry in value]
    return utf8(value) if isinstance(value, str) else value

"""Values on their way out: into JSON, and into sentences."""

from __future__ import annotations

import json
import math
from typing import Any


def finite(value: Any) -> Any:
    """The same value with None for every NaN and infinity, because JSON has neither."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def to_json(value: Any, *, indent: int | None = None) -> str:
    """``value`` as JSON that every reader takes: no NaN, and text that is not UTF-8 written with escapes."""
    return json.dumps(_printable(finite(value)), indent=indent)


def printable(text: str) -> str:
    r"""The text with ``\udcff`` in place of what is not UTF-8, such as bytes of a file name in another encoding."""
    return text.encode("utf-8", "backslashreplace").decode()


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """``counted(1, "frame")`` → ``"1 frame"``, ``counted(1234, "class", "classes")`` → ``"1234 classes"``."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def _printable(value: Any) -> Any:
    if isinstance(value, dict):
        return {_printable(key): _printable(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_printable(entry) for entry in value]
    return printable(value) if isinstance(value, str) else value

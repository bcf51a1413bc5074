"""What the readers of JSON formats share: documents, bitmaps in text, and entries that are dropped one by one."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ...document import parse_json
from ...errors import DataError
from ..files import files_below
from ..peek import head_of
from ..png import decoded
from ..reading import read_text
from .source import Source, id_of

_JSON_LIMIT_BYTES = 4 << 30


def documents_below(root: Path, *lists: str) -> list[tuple[Path, dict[str, Any]]]:
    """The JSON objects in the files below a folder that hold these lists, each with its file."""
    return [
        (path, content)
        for path in json_files(root)
        if isinstance(content := load_json(path), dict) and all(isinstance(content.get(name), list) for name in lists)
    ]


def json_files(root: Path) -> list[Path]:
    """The JSON files below a folder."""
    if root.is_file():
        return [root]
    return [path for path in files_below(root) if path.suffix.lower() == ".json" and head_of(path).lstrip()[:1] in "[{"]


def load_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: it is not valid JSON.
    """
    try:
        return parse_json(read_text(path, _JSON_LIMIT_BYTES), strict=False)
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON ({error})", "export it again") from error


def dictionaries(values: Any) -> list[dict[str, Any]]:
    """The dictionaries in a list; nothing where it is not a list."""
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def number_or_zero(value: Any) -> float:
    """A number, or 0 for anything else."""
    return float(value) if isinstance(value, (int, float)) else 0.0


def from_base64(text: Any) -> bytes:
    """The bytes of base64 text.

    Raises:
        ValueError: it is not base64.
    """
    if not isinstance(text, str):
        raise ValueError("its bitmap is not base64 text")
    try:
        return base64.b64decode(text, validate=False)
    except binascii.Error as error:
        raise ValueError(f"its bitmap is not base64 ({error})") from error


def decode_bitmap(encoded: bytes) -> NDArray[np.bool_]:
    """The set pixels of a small PNG: grey above 0, or opaque ones."""
    try:
        bitmap = decoded(encoded)
    except ValueError as error:
        raise ValueError(f"its bitmap cannot be read: {error}") from error
    if bitmap.ndim == 3:
        bitmap = bitmap[..., 3] if bitmap.shape[2] == 4 else bitmap.max(axis=2)
    return np.asarray(bitmap > 0)


def place_bitmap(mask: NDArray[Any], bitmap: NDArray[np.bool_], corner: NDArray[Any], value: int) -> None:
    """Write a value where a bitmap is set whose top left pixel lies at ``corner`` (x, y).

    Raises:
        ValueError: it begins outside of the mask.
    """
    x, y = int(corner[0]), int(corner[1])
    if x < 0 or y < 0 or x >= mask.shape[1] or y >= mask.shape[0]:
        raise ValueError(f"its bitmap begins at {x}, {y}, outside of the image")
    part = mask[y : y + bitmap.shape[0], x : x + bitmap.shape[1]]
    part[bitmap[: part.shape[0], : part.shape[1]]] = value


def fill_class(source: Source, what: object, name: str, fill: Callable[[int], Any], kind: str = "class") -> None:
    """Fill an area with the id of its class; one of an unknown class, or that is wrong, is dropped.

    Args:
        source: whose class it is.
        what: the area, for people.
        name: of the class.
        fill: called with the id.
        kind: what the format calls a class.
    """
    value = id_of(source.names, name)
    if value is None:
        source.drop(what, f"its {kind} {name!r} is not in the list of classes")
    else:
        attempt(source, what, partial(fill, value))


def attempt(source: Source, what: object, work: Callable[[], Any]) -> Any:
    """Do something with one entry of the source; what is wrong with it drops it and nothing else."""
    try:
        return work()
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, zlib.error, cv2.error, DataError) as error:
        source.drop(what, str(error).split("\n")[0])
    except AttributeError as error:  # of a value that is null, or a list where the format has an object
        source.drop(what, f"it is not written as the format has it ({error})")
    return None

"""What a user names or gives: checked before anything reads it or computes with it.

A device, FIFO or socket where a file is meant would be read without end, so it is refused here, once for every reader.
"""

from __future__ import annotations

import math
import os
import shlex
import stat
from collections.abc import Iterable
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

from .errors import DataError, OptionError, PspnetEdgeError
from .records import printable

LONGEST_TEXT_BYTES = 16 << 20
_MODELS = ("checkpoint", "model", "engine")
"""What the checkpoint in a run's folder serves as."""
_BESIDE_DATA = ("model", "engine")
"""What is named beside a data set in one command line, and exchanged with it."""

Kind = TypeVar("Kind")


def check_file(
    path: Path,
    what: str,
    error: type[PspnetEdgeError] = DataError,
    fix: str | None = None,
    command: str | None = None,
    *,
    most_bytes: int | None = None,
) -> None:
    """Raise ``error`` unless ``path`` is an ordinary file that can be read, or a link to one.

    Args:
        path: what the user named.
        what: what errors call it, such as ``"checkpoint"``.
        error: the class of the error.
        fix: what to do where there is no such file.
        command: a command that does it.
        most_bytes: how large it may be.
    """
    status = _status(path, what, error, fix, command)
    shown = _shown(path)
    named = _with_article(what)
    if stat.S_ISDIR(status.st_mode):
        inside = checkpoint_of_run(path) if what in _MODELS else None
        fix = f"give {_shown(inside)}" if inside else f"give the file of {named}"
        if not inside and what in _BESIDE_DATA:
            fix = f"give {named}, and a data set's folder as --root {shlex.quote(str(path))}"
        raise error(f"{shown} is a folder, not {named}", fix)
    if not stat.S_ISREG(status.st_mode):
        raise error(f"{shown} is a device, FIFO or socket, not {named}", f"give the file of {named}")
    if not os.access(path, os.R_OK):
        raise error(f"the {what} {shown} cannot be read (permission denied)", "change its permissions")
    if most_bytes is not None and status.st_size > most_bytes:
        raise error(f"the {what} {shown} is larger than {most_bytes >> 20} MiB", f"give {named} of a usual size")


def refuse_run(path: Path, what: str, error: type[PspnetEdgeError]) -> None:
    """Raise ``error`` where the folder of a training run is given and other folders are taken."""
    inside = checkpoint_of_run(path)
    if inside is not None or is_file(path / "recipe.json"):
        fix = "train until it has saved one" if inside is None else f"give {_shown(inside)}"
        raise error(f"{_shown(path)} is the folder of a training run, not {_with_article(what)}", fix)


def checkpoint_of_run(folder: Path) -> Path | None:
    """The best checkpoint in the folder of a training run; None where there is none."""
    return next((folder / name for name in ("best.pt", "final.pt", "last.pt") if is_file(folder / name)), None)


def check_folder(path: Path, what: str, error: type[PspnetEdgeError] = DataError, fix: str | None = None) -> None:
    """Raise ``error`` unless ``path`` is a folder, or a link to one."""
    status = _status(path, what, error, fix, None)
    if not stat.S_ISDIR(status.st_mode):
        raise error(f"{_shown(path)} is not a folder", f"give the folder of the {what}")


def as_path(given: Any, parameter: str) -> Path:
    """The path that a caller of the Python API gave.

    Raises:
        OptionError: it is not a path.
    """
    if not isinstance(given, (str, os.PathLike)):
        raise OptionError(f"{_kind_of(given)} is not a path", "give one str or Path", parameter=parameter)
    return Path(given)


def as_path_or_none(given: Any, parameter: str) -> Path | None:
    """The same for a path that may be left out."""
    return None if given is None else as_path(given, parameter)


def as_several(given: Any, parameter: str) -> list[Any]:
    """The list that a caller of the Python API gave; a single text, whose letters would be taken for it, is refused.

    Raises:
        OptionError: it is one value.
    """
    if isinstance(given, (str, bytes, os.PathLike)) or not isinstance(given, Iterable):
        fix = f"give [{given!r}]" if isinstance(given, str) else "give a list"
        raise OptionError(f"{_kind_of(given)} is not a list", fix, parameter=parameter)
    return list(given)


def as_text(given: Any, parameter: str) -> str:
    """The name that a caller of the Python API gave.

    Raises:
        OptionError: it is not a text.
    """
    if not isinstance(given, str):
        raise OptionError(f"{_kind_of(given)} is not a name", "give a text", parameter=parameter)
    return given


def as_number(given: Any, parameter: str, least: float = -math.inf, most: float = math.inf) -> float:
    """The finite number that a caller of the Python API gave.

    Raises:
        OptionError: it is not one, or outside its limits.
    """
    return float(_in_range(given, parameter, Real, "a number", least, most))


def as_whole(given: Any, parameter: str, least: float = -math.inf, most: float = math.inf) -> int:
    """The same for a whole number."""
    return int(_in_range(given, parameter, Integral, "a whole number", least, most))


def _in_range(given: Any, parameter: str, kind: type, what: str, least: float, most: float) -> Any:
    fix = f"give {what}"
    if least > -math.inf:
        fix += f" of at least {least:g}" if most == math.inf else f" from {least:g} to {most:.9g}"
    if not isinstance(given, kind) or isinstance(given, bool) or not abs(given) < math.inf:  # type: ignore[arg-type]
        raise OptionError(f"{_kind_of(given)} is not {what}", fix, parameter=parameter)
    if not least <= given <= most:  # type: ignore[operator]
        raise OptionError(f"{given} is out of range", fix, parameter=parameter)
    return given


def as_size(given: Any, parameter: str) -> tuple[int, int]:
    """The height and width that a caller of the Python API gave.

    Raises:
        OptionError: they are not two whole numbers from 1 on.
    """
    fix = "give (height, width) in pixels, such as (384, 480)"
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise OptionError(f"{_kind_of(given)} is not a size", fix, parameter=parameter)
    height, width = (as_whole(side, parameter, least=1) for side in given)
    return height, width


def size_of_text(text: str) -> tuple[int, int] | None:
    """``"384x480"`` → ``(384, 480)``, height and width; None where it is not a size, or is too large."""
    height, cross, width = text.lower().replace("×", "x").partition("x")
    return (int(height), int(width)) if cross and _is_side(height) and _is_side(width) else None


def as_instance(given: Any, kind: type[Kind], parameter: str, example: str) -> Kind:
    """The object of a class of this package that a caller of the Python API gave.

    Raises:
        OptionError: it is another; ``example`` is one.
    """
    if not isinstance(given, kind):
        fix = f"give one, such as {example}"
        raise OptionError(f"{_kind_of(given)} is not a {kind.__name__}", fix, parameter=parameter)
    return given


def _is_side(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 5 and 1 <= int(text) <= 65_536


def _kind_of(given: object) -> str:
    shown = given is None or isinstance(given, (int, float, str))
    return f"{given!r:.60}" if shown else f"a {type(given).__name__}"


def is_file(path: Path) -> bool:
    """Whether it is a file, or a link to one; unlike ``Path.is_file`` no for a name that no file can have."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """The same for a folder."""
    return os.path.isdir(path)  # noqa: PTH112


def is_there(path: Path) -> bool:
    """The same for anything that no broken link leads to."""
    return os.path.exists(path)  # noqa: PTH110


def read_text(
    path: Path,
    what: str,
    error: type[PspnetEdgeError] = DataError,
    fix: str | None = None,
    *,
    most_bytes: int = LONGEST_TEXT_BYTES,
) -> str:
    """The content of a UTF-8 text file; a byte order mark at its beginning is left out.

    Raises:
        error: it is missing, not an ordinary file, too large, or not UTF-8 text.
    """
    check_file(path, what, error, fix, most_bytes=most_bytes)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as reason:
        raise error(f"the {what} {_shown(path)} cannot be read ({reason})", fix or "give a UTF-8 text file") from reason
    if "\0" in text:
        raise error(f"the {what} {_shown(path)} is not text", fix or "give a UTF-8 text file")
    return text


def _status(
    path: Path, what: str, error: type[PspnetEdgeError], fix: str | None, command: str | None
) -> os.stat_result:
    shown = _shown(path)
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise error(f"there is no {what} {shown}", fix, command) from None
    except (OSError, ValueError, RuntimeError) as reason:
        text = getattr(reason, "strerror", None) or str(reason)
        raise error(f"the {what} {shown} cannot be read ({text})", fix, command) from reason


def _with_article(what: str) -> str:
    return f"{'an' if what[:1].lower() in 'aeio' else 'a'} {what}"


def _shown(path: Path) -> str:
    text = printable(str(path).replace("\0", "\\0"))
    return text if len(text) <= 200 else f"{text[:80]}…"

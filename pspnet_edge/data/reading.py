"""Files of a data set as bytes and as text, read with distrust: plain files only, of a sensible size."""

from __future__ import annotations

import stat
from pathlib import Path

from ..errors import DataError

IMAGE_LIMIT_BYTES = 2 << 30
TEXT_LIMIT_BYTES = 256 << 20
_MOST_DIGITS = 18
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


def read_file(path: Path, limit_bytes: int = IMAGE_LIMIT_BYTES) -> bytes:
    """The content of a plain file.

    Raises:
        DataError: missing, unreadable, not a plain file, or larger than ``limit_bytes``.
    """
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            kind = _KINDS.get(stat.S_IFMT(facts.st_mode), "something else")
            raise DataError(f"{path} is {kind}, not a file", "remove it from the data set, or name a file")
        if facts.st_size > limit_bytes:
            raise DataError(
                f"{path} has {facts.st_size / 1e9:.1f} GB, and {limit_bytes / 1e9:.1f} GB is the most that is read",
                "check that it is the file you mean",
            )
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read ({reason_of(error)})", "restore it, or correct the list that names it"
        ) from error


def read_text(path: Path, limit_bytes: int = TEXT_LIMIT_BYTES) -> str:
    """The text of a list or class file in UTF-8 or UTF-16, with or without a byte order mark.

    Raises:
        DataError: it cannot be read, or is not text.
    """
    content = read_file(path, limit_bytes)
    encoding = "utf-8-sig"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif content[1:2] == b"\0":
        encoding = "utf-16-le"
    elif content[:1] == b"\0":
        encoding = "utf-16-be"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise DataError(f"{path} is not a text file in UTF-8 or UTF-16", "save it as UTF-8")
    return text


def is_whole_number(text: str) -> bool:
    """Whether ``int`` takes it: plain digits, and not thousands of them. ``str.isdigit`` is true of ``²`` too."""
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def reason_of(error: Exception) -> str:
    """What the system says of an error, in a few words."""
    return getattr(error, "strerror", None) or str(error)

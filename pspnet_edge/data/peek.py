"""A first look into folders and files of unknown kind, at a limited cost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from .files import is_litter

_LOOKED_AT = 2000
"""Most entries that are looked at to recognize a folder."""
_HEAD_BYTES = 1 << 16


def entries_below(root: Path, depth: int = 3) -> Iterator[Path]:
    """Files at most ``depth`` folders down, at most 2000 entries in all, in no order that matters."""

    def walk(folder: Path, left: int) -> Iterator[Path]:
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            return
        for entry in entries:
            if is_litter(entry.name):
                continue
            if entry.is_dir():
                if left:
                    yield from walk(entry, left - 1)
            else:
                yield entry

    return itertools.islice(walk(root, depth), _LOOKED_AT)


def head_of(path: Path) -> str:
    """The beginning of a file as text; empty where it cannot be read."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
        wide = head.startswith((b"\xff\xfe", b"\xfe\xff"))
        return head.decode("utf-16" if wide else "utf-8-sig", "replace")
    except OSError:
        return ""

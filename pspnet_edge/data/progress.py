"""How long work in this folder shows how far it is, without knowing a terminal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

Advance = Callable[[int, str], None]
"""Called with how much is done and a few words on how it goes."""
Progress = Callable[[str, int | None], AbstractContextManager[Advance]]
"""Called with what is done and how much of it there is, if known; ``cli.output.progress`` is one."""


def silent(what: str, total: int | None) -> AbstractContextManager[Advance]:
    """A ``Progress`` that shows nothing."""
    return nullcontext(lambda done, note: None)

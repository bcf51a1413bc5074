"""Signals that end a command: it cleans up what it has begun, says why it ends, and exits with 128 and their number."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "ended by SIGTERM", signal.SIGHUP: "ended by SIGHUP"}
_CLEANS_UP_S = 2.0
"""Signals that come within it belong to the first one; a later one ends the process at once."""

_asked: float | None = None


class Ended(SystemExit):
    """The command was told to end; ``words`` say how, and ``status`` is what it exits with.

    A command that can be continued says with ``fix`` and ``command`` how, as in ``PspnetEdgeError``.
    """

    fix: str | None = None
    command: str | None = None

    def __init__(self, number: int) -> None:
        self.status = 128 + number
        super().__init__(self.status)
        self.words = _WORDS[signal.Signals(number)]


@contextlib.contextmanager
def end_on_signals() -> Iterator[None]:
    """Raise ``Ended`` in the main thread for Ctrl-C, SIGTERM and SIGHUP; nohup still works."""
    global _asked
    _asked = None
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: handler for number in _WORDS if (handler := signal.getsignal(number)) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def die_quietly() -> None:
    """From now on a signal ends the process as the system does: what is to be said has been said."""
    for number in _WORDS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> None:
    global _asked
    if _asked is None:
        _asked = time.monotonic()
        raise Ended(number)
    if time.monotonic() - _asked > _CLEANS_UP_S:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

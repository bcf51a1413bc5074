"""The loop's figures as JSON lines, one per second, for as long as the loop runs."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..artifact import ensure_writable, open_for_append
from ..errors import OutputError
from ..records import finite


class StatsFile:
    """Appends what the loop says of itself, from its own thread, so that a slow disk holds up nothing.

    The file is opened for each line: it may be moved or deleted at any time, and a full disk costs the lines that do
    not fit and nothing else.

    Args:
        path: made when it is not there, else appended to.
        summary: gives the figures; called on the thread.
        every_s: seconds between lines.
        inputs: files that are read meanwhile.

    Raises:
        OptionError: ``path`` is one of ``inputs``.
        OutputError: the place cannot be written.
    """

    def __init__(
        self, path: Path, summary: Callable[[], Mapping[str, object]], every_s: float = 1.0, inputs: Sequence[Path] = ()
    ) -> None:
        ensure_writable(path, inputs=inputs, parameter="stats")
        self.lost = 0
        """Lines that could not be written."""
        self._path = path
        self._summary = summary
        self._every_s = every_s
        self._is_torn = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stats", daemon=True)

    def __enter__(self) -> StatsFile:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        self._append()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self._append()

    def _append(self) -> None:
        facts = {"time": round(time.time(), 3), **finite(self._summary())}
        line = json.dumps(facts, separators=(",", ":")).encode() + b"\n"
        if self._is_torn:
            line = b"\n" + line
        try:
            descriptor = open_for_append(self._path)
            try:
                written = os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except (OSError, OutputError):
            self.lost += 1
            return
        self._is_torn = written < len(line)
        self.lost += self._is_torn

"""Files that play like a camera: again and again, or at their own frame rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .sources import Source


class Playback:
    """A source that is not live, played as asked.

    Args:
        source: what is played; closed with this.
        reopen: opens it again from the start, for ``loop``.
        loop: begin again at the end, for ever.
        realtime: give each frame when it is due. Frames that the loop is too slow for are dropped, as of a camera.
    """

    def __init__(self, source: Source, reopen: Callable[[], Source], *, loop: bool, realtime: bool) -> None:
        self.name, self.fps = source.name, source.fps
        self.live = realtime
        self._source, self._reopen = source, reopen
        self._loop = loop
        self._before = self._read = self._lost = 0
        self._damage = ""
        self._due = 0.0
        self._closed = threading.Event()
        paths = getattr(source, "paths", None)
        if paths is not None:
            self.paths = paths
        length = getattr(source, "length", None)
        if length is not None and not loop:
            self.length = length

    @property
    def position(self) -> int:
        """How many frames were read in all turns; of images, those that were left out included."""
        return self._before + int(getattr(self._source, "position", self._read))

    @property
    def lost(self) -> int:
        """Frames that could not be read or decoded in the present turn, or else in the one before."""
        return int(getattr(self._source, "lost", 0)) or self._lost

    @property
    def damage(self) -> str:
        """What is damaged in the file; empty when nothing is."""
        return str(getattr(self._source, "damage", "")) or self._damage

    def read(self) -> NDArray[np.uint8] | None:
        """See ``Source``."""
        frame = self._source.read()
        if frame is None and self._loop and not self._closed.is_set():
            self._before, self._read = self.position, 0
            self._lost, self._damage = self.lost, self.damage
            self._source.close()
            self._source = self._reopen()
            frame = self._source.read()
        self._read += frame is not None
        if frame is not None and self.live:
            self._wait()
        return frame

    def close(self) -> None:
        """See ``Source``."""
        self._closed.set()
        self._source.close()

    def _wait(self) -> None:
        now = time.perf_counter()
        # After a pause, such as the engine's first run, frames are not hurried to catch up.
        self._due = now if self._due == 0.0 or now - self._due > 1.0 else self._due
        self._closed.wait(max(0.0, self._due - now))
        self._due += 1 / self.fps

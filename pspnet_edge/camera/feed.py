"""One source on a thread of its own: reading, and getting a live source back when it is lost."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.geometry import frame_at
from ..errors import SourceError
from .lanes import Lanes
from .sources import LiveSource, Source
from .timing import Durations

STALE_S = 1.0
"""A live source that gave nothing for so long, and for five of its frames, is stale."""
_FIRST_PAUSE_S = 0.1
"""Before the first attempt to reopen; it doubles up to the source's ``longest_pause_s``."""
_GOOD_S = 1.0
"""A source that gave frames for so long is hurried again when it fails."""


@dataclass(slots=True, eq=False)
class Captured:
    """A frame on its way to inference."""

    camera: int
    index: int
    frame: NDArray[np.uint8]
    captured: float
    prepared: NDArray[np.uint8] | None = None
    """The frame at the engine's size, when that was made already."""


class Feed:
    """Reads a source into its lane until it ends or is stopped.

    Args:
        camera: its number, and that of its lane.
        source: what to read. A ``LiveSource`` that fails is opened again, for ever; another failure ends the feed.
        lanes: where frames go.
        size_hw: the engine's. Frames of a file are stretched to it here, beside inference; of a live source many are
            never segmented, and stretching those would be work for nothing.
    """

    def __init__(self, camera: int, source: Source, lanes: Lanes[Captured], size_hw: tuple[int, int]) -> None:
        self.camera = camera
        self.source = source
        self.frames = 0
        self.reopened = 0
        self.trouble = ""
        self.ended = False
        self.failure: BaseException | None = None
        self.capture, self.prepare = Durations(), Durations()
        self.progressed = self.latest = time.perf_counter()
        self._lanes = lanes
        self._size_hw = size_hw
        self._pause_s, self._back_since = _FIRST_PAUSE_S, 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"capture {camera}", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self.progressed = self.latest = time.perf_counter()
        self._thread.start()

    def stop(self, wait_s: float = 5.0) -> None:
        """End the thread. One that hangs in a driver is left behind; it ends with the process."""
        self._stop.set()
        if isinstance(self.source, LiveSource):
            self.source.interrupt()
        self._thread.join(wait_s)

    @property
    def is_stale(self) -> bool:
        """Whether a live source is lost, or silent for too long."""
        if self.ended or not self.source.live:
            return False
        return bool(self.trouble) or time.perf_counter() - self.latest > max(STALE_S, 5 / max(self.source.fps, 0.1))

    def facts(self) -> dict[str, Any]:
        """For the summary."""
        return {
            "name": self.source.name,
            "state": "ended" if self.ended else "stale" if self.is_stale else "live",
            "age_ms": round(1000 * (time.perf_counter() - self.latest), 1),
            "frames": self.frames,
            "dropped": self.dropped,
            "reopened": self.reopened,
            "format": self.source.format if isinstance(self.source, LiveSource) else None,
            "trouble": self.trouble or None,
        }

    @property
    def dropped(self) -> int:
        """Frames that were captured and not segmented, here and in the source."""
        before = self.source.dropped if isinstance(self.source, LiveSource) else 0
        return self._lanes.dropped[self.camera] + before

    def _run(self) -> None:
        """The thread; its end, good or bad, is the end of the lane."""
        try:
            while not self._stop.is_set() and self._pass_one():
                pass
        except BaseException as error:  # handed to the main thread, which raises it
            self.failure = error
        finally:
            self.ended = True
            self._lanes.finish(self.camera)

    def _pass_one(self) -> bool:
        start = time.perf_counter()
        try:
            frame = self.source.read()
        except SourceError as error:
            return self._get_back(str(error))
        if frame is None:
            return isinstance(self.source, LiveSource) and self._get_back(f"{self.source.name} ended")
        now = time.perf_counter()
        captured = self.source.captured if isinstance(self.source, LiveSource) else now
        self.capture.add(now - start)
        prepared = None
        if not self.source.live:
            prepared = frame_at(frame, self._size_hw)
            self.prepare.add(time.perf_counter() - now)
        self.trouble, self.progressed, self.latest = "", now, captured
        if now - self._back_since > _GOOD_S:
            self._pause_s = _FIRST_PAUSE_S
        self.frames += 1
        return self._lanes.put(self.camera, Captured(self.camera, self.frames - 1, frame, captured, prepared))

    def _get_back(self, trouble: str) -> bool:
        """Reopen a live source, with ever longer pauses; True when it is back, False when stopped.

        Raises:
            SourceError: it is not a source that can be reopened.
        """
        if not isinstance(self.source, LiveSource):
            raise SourceError(trouble)
        self.trouble = trouble
        # A source that comes back only to fail again is not hurried: the pause starts over after a good second.
        while not self._stop.wait(self._pause_s):
            self._pause_s = min(2 * self._pause_s, self.source.longest_pause_s)
            try:
                self.source.reopen()
            except SourceError as error:
                self.trouble = str(error)
                continue
            finally:
                self.progressed = time.perf_counter()
            self.reopened += 1
            self._back_since = time.perf_counter()
            return True
        return False

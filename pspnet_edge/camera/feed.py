"""One source on its own thread: reading, preparing for the engine, and getting a live source back when it is lost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import SourceError
from .lanes import Lanes
from .sources import LiveSource, ScaledSource, Source
from .timing import Clock, Durations, Rate

_log = logging.getLogger(__name__)

WARM_UP = 3
"""Frames at the start whose times are reported apart: runtimes and caches are slow at first."""
LOST_S = 1.0
"""A live source that gave nothing for this long, and for five of its frames, is lost. Whether the *output* of a camera
is late is another question, which the web view answers."""
_FIRST_PAUSE_S = 0.1
"""Before the first attempt to reopen; it doubles up to the source's ``longest_pause_s``."""
_GOOD_S = 1.0
"""A source that gave frames for this long is reopened quickly again when it fails."""


@dataclass(slots=True, eq=False)
class Captured:
    """A frame on its way to inference."""

    camera: int
    index: int
    frame: NDArray[np.uint8]
    captured: float
    prepared: NDArray[np.uint8] | None = None
    """The engine's input; None where inference makes it."""


@dataclass(frozen=True)
class SourceSummary:
    """What came of one source."""

    name: str
    state: str
    """``live``, ``stale`` while a live source is waited for, ``ended``."""
    age_ms: float
    """Of the newest frame captured."""
    frames: int
    """Frames captured."""
    dropped: int
    """Frames captured and not segmented."""
    lost: int
    """Frames of a damaged file that could not be decoded, or images of a folder that could not be read."""
    reopened: int
    format: str | None
    """What a live source really gives."""
    trouble: str | None
    """Why a live source is waited for, or what is damaged in a file."""
    fps_recent: float
    """Frames shown per second over the last 5 s."""
    shown_age_ms: dict[str, float]
    """From the end of capture to the end of output: p50, p95, p99."""
    stages_ms: dict[str, float]
    """Medians of ``capture``, ``prepare``, ``overlay`` and ``output``."""

    def to_dict(self) -> dict[str, object]:
        """As JSON values."""
        return asdict(self)


class Feed:
    """Reads a source into its lane until it ends or is stopped.

    Args:
        camera: its number, and that of its lane.
        source: what to read. A ``LiveSource`` that fails is opened again, for ever; another failure ends the feed.
        lanes: where frames go.
        prepare: makes the engine's input of a frame, on this thread, beside inference; None where inference does.
        clock: what times are measured with.
    """

    def __init__(
        self,
        camera: int,
        source: Source,
        lanes: Lanes[Captured],
        prepare: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.camera = camera
        self.source = source
        self.frames = 0
        self.reopened = 0
        self.trouble = ""
        self.ended = False
        self.failure: BaseException | None = None
        self.capture, self.prepare = Durations(WARM_UP), Durations(WARM_UP)
        self.age, self.drawing, self.output = Durations(WARM_UP), Durations(WARM_UP), Durations(WARM_UP)
        self.rate = Rate(clock)
        self.progressed = self.latest = clock()
        # Once: asking a protocol tries every member each time.
        self._live = source if isinstance(source, LiveSource) else None
        self._scaled = source if isinstance(source, ScaledSource) else None
        self._lanes = lanes
        self._make_input = prepare
        self._clock = clock
        self._pause_s, self._back_since = _FIRST_PAUSE_S, 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"capture {camera}", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self.progressed = self.latest = self._clock()
        self._thread.start()

    def stop(self, wait_s: float = 5.0) -> None:
        """End the thread. One that hangs in a driver is left behind; it ends with the process."""
        self._stop.set()
        if self._live is not None:
            self._live.interrupt()
        self._thread.join(wait_s)

    @property
    def is_lost(self) -> bool:
        """Whether a live source failed, or is silent for too long."""
        if self.ended or not self.source.live:
            return False
        return bool(self.trouble) or self._clock() - self.latest > max(LOST_S, 5 / max(self.source.fps, 0.1))

    def summary(self) -> SourceSummary:
        """What came of this source so far."""
        return SourceSummary(
            name=self.source.name,
            state="ended" if self.ended else "stale" if self.is_lost else "live",
            age_ms=round(1000 * (self._clock() - self.latest), 1),
            frames=self.frames,
            dropped=self.dropped,
            lost=getattr(self.source, "lost", 0),
            reopened=self.reopened,
            format=self._live.format if self._live else None,
            trouble=self.trouble or getattr(self.source, "damage", "") or None,
            fps_recent=round(self.rate.per_second(), 3),
            shown_age_ms=self.age.percentiles(),
            stages_ms={
                "capture": self.capture.median(),
                "prepare": self.prepare.median(),
                "overlay": self.drawing.median(),
                "output": self.output.median(),
            },
        )

    @property
    def dropped(self) -> int:
        """Frames that were captured and not segmented, here and in the source."""
        before = self._live.dropped if self._live else 0
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
        start = self._clock()
        try:
            frame = self.source.read()
        except SourceError as error:
            return self._get_back(error)
        if frame is None:
            return self._live is not None and self._get_back(SourceError(f"{self.source.name} ended"))
        now = self._clock()
        captured = self._live.captured if self._live else now
        self.capture.add(now - start)
        prepared = self._prepared(frame)
        self.prepare.add(self._clock() - now)
        self.trouble, self.progressed, self.latest = "", now, captured
        if now - self._back_since > _GOOD_S:
            self._pause_s = _FIRST_PAUSE_S
        self.frames += 1
        # Images that were left out have a place too, or those behind them would be saved under their names.
        index = getattr(self.source, "position", self.frames) - 1
        return self._lanes.put(self.camera, Captured(self.camera, index, frame, captured, prepared))

    def _prepared(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        if self._scaled is not None and self._scaled.prepared is not None:
            return self._scaled.prepared
        return None if self._make_input is None else self._make_input(frame)

    def _get_back(self, trouble: SourceError) -> bool:
        """Reopen a live source, with ever longer pauses; True when it is back, False when stopped.

        Raises:
            SourceError: it is not a source that can be reopened.
        """
        if self._live is None:
            raise trouble
        self.trouble = str(trouble)
        _log.info("%s is lost: %s", self.source.name, trouble)
        # A source that comes back only to fail again is not hurried: the pause starts over after a good second.
        while not self._stop.wait(self._pause_s):
            self._pause_s = min(2 * self._pause_s, self._live.longest_pause_s)
            try:
                self._live.reopen()
            except SourceError as error:
                self.trouble = str(error)
                continue
            finally:
                self.progressed = self._clock()
            self.reopened += 1
            self._back_since = self._clock()
            _log.info("%s is back", self.source.name)
            return True
        return False

"""The loop: capture, inference and output overlap, each on a thread of its own.

    source ──► capture thread ──► newest frame (live) ──► inference thread ──► queue ──► main thread: overlay, sinks
                                  or queue (files)

A live source overwrites a frame that inference has not taken yet, so what is segmented is always the newest one and
the age of the picture cannot grow. A file waits, so every frame comes through, once and in order.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.geometry import frame_at
from ..engine.base import Engine
from .overlay import Overlay
from .sinks import Sink
from .sources import Source
from .timing import Durations

_DEPTH = 2
"""Frames that may wait between two stages: one being made while one is taken."""
STAGES = ("capture", "prepare", "infer", "overlay", "output")


@dataclass(frozen=True)
class _Shot:
    frame: NDArray[np.uint8]
    captured: float
    mask: NDArray[np.uint8] | None = None


class Loop:
    """One run from a source through an engine into sinks.

    Args:
        source: where frames come from.
        engine: an opened engine of batch 1.
        sinks: where pictures go; with none, nothing is drawn.
        frames: stop after so many; None runs to the end of the source.
    """

    def __init__(self, source: Source, engine: Engine, sinks: Sequence[Sink], frames: int | None = None) -> None:
        self._source = source
        self._engine = engine
        self._sinks = sinks
        self._limit = frames
        self._overlay = Overlay(engine.info.label_set)
        self._stop = threading.Event()
        self._captured = _Handover(live=source.live)
        self._segmented = _Handover(live=False)
        self._failures: list[BaseException] = []
        self._stages = {stage: Durations() for stage in STAGES}
        self._latency, self._age = Durations(), Durations()
        self._done = 0
        self._started = self._ended = 0.0

    def stop(self) -> None:
        """End the run after the frame in hand; safe from a signal handler or another thread."""
        self._stop.set()

    def run(self, on_frame: Callable[[int], None] = lambda done: None) -> dict[str, Any]:
        """Run to the end and give the summary.

        ``latency_ms`` is compute: from the moment inference takes a frame to its mask. ``age_ms`` is end to end: from
        the end of capture to the end of output. Percentiles are of the last 10 000 frames.

        Raises:
            SourceError, EngineError, OutputError: what a stage raised.
        """
        threads = [
            threading.Thread(target=self._guarded, args=(stage, handover), name=name, daemon=True)
            for stage, handover, name in (
                (self._capture, self._captured, "capture"),
                (self._infer, self._segmented, "infer"),
            )
        ]
        self._started = time.perf_counter()
        for thread in threads:
            thread.start()
        try:
            while (shot := self._segmented.take()) is not None:
                if not self._show(shot):
                    break
                on_frame(self._done)
        finally:
            self._ended = time.perf_counter()
            self._stop.set()
            self._captured.close()
            self._segmented.close()
            for thread in threads:
                thread.join()
        if self._failures:
            raise self._failures[0]
        return self.summary()

    def summary(self) -> dict[str, Any]:
        """Frames, drops, FPS and times so far."""
        elapsed = (self._ended or time.perf_counter()) - self._started
        return {
            "frames": self._done,
            "dropped": self._captured.dropped,
            "fps": round(self._done / elapsed, 3) if elapsed > 0 else 0.0,
            "latency_ms": self._latency.percentiles(),
            "age_ms": self._age.percentiles(),
            "stages_ms": {stage: durations.median() for stage, durations in self._stages.items()},
            "elapsed_s": round(elapsed, 3),
        }

    def _guarded(self, stage: Callable[[], None], handover: _Handover) -> None:
        """Run a stage on its thread; its end, good or bad, is the end of the stages after it."""
        try:
            stage()
        except BaseException as error:  # handed to the main thread, which raises it
            self._failures.append(error)
        finally:
            handover.finish()

    def _capture(self) -> None:
        taken = 0
        while not self._stop.is_set() and (self._limit is None or taken < self._limit or self._source.live):
            start = time.perf_counter()
            frame = self._source.read()
            if frame is None:
                return
            now = time.perf_counter()
            self._stages["capture"].add(now - start)
            taken += 1
            self._captured.put(_Shot(frame, now))

    def _infer(self) -> None:
        # A batch of one: the resized frame is written into the same array each time.
        batch = np.empty((1, *self._engine.size_hw, 3), np.uint8)
        while not self._stop.is_set() and (shot := self._captured.take()) is not None:
            start = time.perf_counter()
            batch[0] = frame_at(shot.frame, self._engine.size_hw)
            prepared = time.perf_counter()
            mask = self._engine.infer(batch)[0]
            if self._engine.output_is_reused:
                mask = mask.copy()
            end = time.perf_counter()
            self._stages["prepare"].add(prepared - start)
            self._stages["infer"].add(end - prepared)
            self._latency.add(end - start)
            self._segmented.put(_Shot(shot.frame, shot.captured, mask))

    def _show(self, shot: _Shot) -> bool:
        start = drawn = time.perf_counter()
        wanted = True
        if self._sinks:
            assert shot.mask is not None
            picture = self._overlay.draw(shot.frame, shot.mask, self._caption(shot))
            drawn = time.perf_counter()
            answers = [sink.show(picture) for sink in self._sinks]
            wanted = all(answers)
        end = time.perf_counter()
        self._stages["overlay"].add(drawn - start)
        self._stages["output"].add(end - drawn)
        self._age.add(end - shot.captured)
        self._done += 1
        return wanted and not self._stop.is_set() and (self._limit is None or self._done < self._limit)

    def _caption(self, shot: _Shot) -> str:
        now = time.perf_counter()
        fps = (self._done + 1) / (now - self._started)
        info = self._engine.info
        return f"{fps:5.1f} FPS   age {1000 * (now - shot.captured):4.0f} ms   {info.precision} {info.runtime}"


class _Handover:
    """Passes shots from one thread to the next: the newest alone when live, all in order otherwise."""

    def __init__(self, live: bool) -> None:
        self._live = live
        self._queue: queue.Queue[_Shot | None] = queue.Queue(maxsize=0 if live else _DEPTH)
        self._closed = threading.Event()
        self.dropped = 0

    def put(self, shot: _Shot) -> None:
        """Hand over; a live handover throws away what was not taken, another one waits for room."""
        if self._live:
            self._drain()
            self._queue.put(shot)
            return
        while not self._closed.is_set():
            try:
                self._queue.put(shot, timeout=0.1)
                return
            except queue.Full:
                continue

    def take(self) -> _Shot | None:
        """Wait for a shot; None at the end."""
        while not self._closed.is_set():
            try:
                return self._queue.get(timeout=0.1)
            except queue.Empty:
                continue
        return None

    def finish(self) -> None:
        """No more shots will come: what waits is still taken, then None."""
        while not self._closed.is_set():
            try:
                self._queue.put(None, timeout=0.1)
                return
            except queue.Full:
                continue

    def close(self) -> None:
        """Nobody will take any more: wake both sides."""
        self._closed.set()

    def _drain(self) -> None:
        while True:
            try:
                self._queue.get_nowait()
            except queue.Empty:
                return
            self.dropped += 1

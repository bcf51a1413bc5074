"""Frames in, shots out: the thread on which the engine works."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..data.geometry import Geometry
from ..engine.engine import Engine
from ..engine.segment import segment_frame, view_of
from ..engine.session import IN_FLIGHT, View
from .feed import WARM_UP, Captured
from .lanes import Lanes
from .shot import Shot
from .timing import Durations

Given = TypeVar("Given")


class Inference:
    """Takes captured frames, as many as the engine's batch holds, and gives shots in the same order.

    Args:
        engine: what segments.
        inbox: where frames come from.
        outbox: where shots go, on lane 0; finished at the end.
        geometry: how frames go into the engine.
        limit: stop after this number of frames; None never.
        overlaps: whether to keep two batches in flight where the engine can. More frames per second, each of them
            later: for files.
    """

    def __init__(
        self,
        engine: Engine,
        inbox: Lanes[Captured],
        outbox: Lanes[Shot],
        geometry: Geometry,
        limit: int | None,
        overlaps: bool,
    ) -> None:
        self.failure: BaseException | None = None
        self.busy_since: float | None = None
        """When the engine was given what it has not finished; None while it waits for frames."""
        self.infer, self.latency = Durations(WARM_UP), Durations(WARM_UP)
        self._engine = engine
        self._inbox, self._outbox = inbox, outbox
        self._geometry = geometry
        self._limit = limit
        self._batch = engine.info.shape_nhw[0]
        # Allocated once; every frame is written into the same array.
        self._frames = np.zeros((*engine.info.shape_nhw, engine.info.channels), np.uint8)
        self._given = 0
        work = self._overlapped if overlaps and engine.overlaps else self._one_by_one
        if geometry.tiles:
            work = self._tiled
        self._thread = threading.Thread(target=self._run, args=(work,), name="infer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the end, which comes when the inbox ends or is closed."""
        self._thread.join()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # handed to the main thread, which raises it
            self.failure = error
        finally:
            self.busy_since = None
            self._outbox.finish(0)
            # No more frames are taken: let the feeds end.
            self._inbox.close()

    def _one_by_one(self) -> None:
        while taken := self._taken(None):
            self.busy_since = start = time.perf_counter()
            prepared, masks = self._give(taken, self._engine.infer, self._engine.infer_views)
            self.busy_since = None
            self._hand_on(taken, masks, start, prepared)

    def _tiled(self) -> None:
        """Many passes through the engine for each frame."""
        while taken := self._taken(None):
            for each in taken:
                start = time.perf_counter()
                mask = segment_frame(self._engine, each.frame, self._geometry, self._is_busy)
                self.busy_since = None
                self._count(start, start)
                self._outbox.put(0, Shot(each.camera, each.index, each.frame, mask, each.captured))

    def _is_busy(self) -> None:
        self.busy_since = time.perf_counter()

    def _overlapped(self) -> None:
        """While the engine works on one batch the next is prepared and the last is handed on."""
        flying: deque[tuple[list[Captured], float, float]] = deque()
        ended = False
        while not ended or flying:
            # With a batch in flight nothing is waited for here: its masks come first.
            taken = None if ended else self._taken(0.0 if flying else None)
            ended = taken is None
            if taken:
                self.busy_since = start = time.perf_counter()
                prepared, _ = self._give(taken, self._engine.submit, self._engine.submit_views)
                flying.append((taken, start, prepared))
            if flying and (not taken or len(flying) == IN_FLIGHT):
                oldest, start, prepared = flying.popleft()
                masks = self._engine.take()
                self.busy_since = flying[0][1] if flying else None
                self._hand_on(oldest, masks, start, prepared)

    def _taken(self, timeout_s: float | None) -> list[Captured] | None:
        """The next frames; empty when there is none in time, None at the end."""
        most = self._batch if self._limit is None else min(self._batch, self._limit - self._given)
        taken = self._inbox.take(most, timeout_s) if most else None
        self._given += len(taken or ())
        return taken

    def _give(
        self,
        taken: list[Captured],
        of_frames: Callable[[NDArray[np.uint8]], Given],
        of_views: Callable[[Sequence[View]], Given],
    ) -> tuple[float, Given]:
        """Call the engine with what it takes; the time when that was prepared, and what the engine returned."""
        if self._engine.fits:
            views = self._views(taken)
            return time.perf_counter(), of_views(views)
        for row, each in zip(self._frames, taken, strict=False):
            assert each.prepared is not None
            row[:] = each.prepared
        return time.perf_counter(), of_frames(self._frames)

    def _views(self, taken: list[Captured]) -> list[View]:
        """What the engine sees of each: the frame, or what its source has brought to the engine's size."""
        return [
            view_of(self._engine, each.frame, self._geometry)
            if each.prepared is None
            else view_of(self._engine, each.prepared)
            for each in taken
        ]

    def _hand_on(self, taken: list[Captured], masks: NDArray[np.uint8], start: float, prepared: float) -> None:
        self._count(start, prepared)
        for each, mask in zip(taken, masks, strict=False):
            # Always a copy: a shot of a batch must not keep the other masks alive, nor lose its own to the next call.
            layout = self._geometry.layout((each.frame.shape[0], each.frame.shape[1]), self._engine.size_hw)
            self._outbox.put(0, Shot(each.camera, each.index, each.frame, layout.mask([mask]), each.captured))

    def _count(self, start: float, prepared: float) -> None:
        end = time.perf_counter()
        self.infer.add(end - prepared)
        self.latency.add(end - start)

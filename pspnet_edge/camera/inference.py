"""Frames in, shots out: the thread on which the engine works."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..data.geometry import frame_at
from ..engine.engine import Engine
from ..engine.session import IN_FLIGHT
from .feed import Captured
from .lanes import Lanes
from .overlay import Overlay
from .shot import Shot
from .timing import Durations


class Inference:
    """Takes captured frames, as many as the engine's batch holds, and gives shots in the same order.

    Args:
        engine: what segments.
        inbox: where frames come from.
        outbox: where shots go, on lane 0; finished at the end.
        overlays: what draws the shots of each camera.
        limit: stop after so many frames; None never.
        overlaps: whether to keep two batches in flight where the engine can. More frames a second, each of them later:
            for files.
    """

    def __init__(
        self,
        engine: Engine,
        inbox: Lanes[Captured],
        outbox: Lanes[Shot],
        overlays: Sequence[Overlay],
        limit: int | None,
        overlaps: bool,
    ) -> None:
        self.failure: BaseException | None = None
        self.busy_since: float | None = None
        """When the engine was given what it has not finished; None while it waits for frames."""
        self.prepare, self.infer, self.latency = Durations(), Durations(), Durations()
        self._engine = engine
        self._inbox, self._outbox = inbox, outbox
        self._overlays = overlays
        self._limit = limit
        self._batch = engine.info.shape_nhw[0]
        # Allocated once; every frame is written into the same array.
        self._frames = np.zeros((self._batch, *engine.size_hw, 3), np.uint8)
        self._given = 0
        work = self._overlapped if overlaps and engine.overlaps else self._one_by_one
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
            # Nobody takes frames any more: let the feeds end.
            self._inbox.close()

    def _one_by_one(self) -> None:
        while taken := self._taken(None):
            self.busy_since = start = time.perf_counter()
            prepared = self._prepare(taken, start)
            masks = self._engine.infer(self._frames)
            self.busy_since = None
            self._hand_on(taken, masks, start, prepared)

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
                prepared = self._prepare(taken, start)
                self._engine.submit(self._frames)
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

    def _prepare(self, taken: list[Captured], start: float) -> float:
        for row, each in zip(self._frames, taken):
            row[:] = frame_at(each.frame, self._engine.size_hw) if each.prepared is None else each.prepared
        now = time.perf_counter()
        self.prepare.add(now - start)
        return now

    def _hand_on(self, taken: list[Captured], masks: NDArray[np.uint8], start: float, prepared: float) -> None:
        end = time.perf_counter()
        self.infer.add(end - prepared)
        self.latency.add(end - start)
        for each, mask in zip(taken, masks):
            # Always a copy: a shot of a batch must not keep the other masks alive, nor lose its own to the next call.
            overlay = self._overlays[each.camera]
            self._outbox.put(0, Shot(each.camera, each.index, each.frame, mask.copy(), each.captured, overlay))

"""How long an engine takes, alone and from a decoded video to masks, in slices short enough to take turns.

A slice runs in its own process (``worker``), so each round of a benchmark starts afresh: what differs from one
start of a process to the next is then inside the spread that is reported, not hidden from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..camera.sources import Source
from ..data.geometry import frame_at, mask_at
from ..engine.engine import Engine
from ..errors import SourceError
from .facts import Percentiles, SliceFacts

PERCENTILES = (50, 95, 99)
_WARM_UP_S = 0.4
_WARM_UP_LEAST = 4
_LEAST = 8
"""Measured at least so often, however slow the engine is."""
_REFERENCE_EVERY_S = 0.04


@dataclass(frozen=True)
class Slice:
    """What one process measured of one engine."""

    ms: tuple[float, ...]
    """One batch each, in the order in which they ran."""
    reference_ms: tuple[float, ...]
    """The reference workload between them."""
    began: float
    ended: float
    """``time.monotonic()``, which all processes of a machine share."""

    def facts(self) -> SliceFacts:
        """As JSON values."""
        return {
            "ms": [round(value, 3) for value in self.ms],
            "reference_ms": [round(value, 3) for value in self.reference_ms],
            "window": [self.began, self.ended],
        }


class Reference:
    """A fixed piece of arithmetic on two threads, which no change to an engine can slow down.

    When the machine is slower in one run than in another (a lower clock, a neighbour that steals time), this is slower
    too, and ``compare`` can tell the machine's doing from the engine's. Nothing in it spins when it waits, as BLAS
    does, so the engine that runs next is not disturbed.
    """

    _THREADS = 2
    _REPEATS = 48

    def __init__(self) -> None:
        # 256 KiB an array: larger than a first-level cache, smaller than a second-level one.
        self._values = np.ones((self._THREADS, 1 << 16), np.float32)
        self._factors = self._values * np.float32(1.0001)
        self._results = np.empty_like(self._values)
        self._pool = ThreadPoolExecutor(self._THREADS)

    def milliseconds(self) -> float:
        """Run it once."""
        start = time.perf_counter()
        list(self._pool.map(self._work, range(self._THREADS)))
        return 1000 * (time.perf_counter() - start)

    def close(self) -> None:
        """End its threads."""
        self._pool.shutdown()

    def _work(self, row: int) -> None:
        for _ in range(self._REPEATS):
            np.multiply(self._values[row], self._factors[row], out=self._results[row])
            np.add(self._results[row], self._values[row], out=self._results[row])


def engine_slice(engine: Engine, frames: Sequence[NDArray[np.uint8]], seconds: float) -> Slice:
    """Time the engine alone, from uint8 frames to uint8 masks, on frames of its size in turn.

    Args:
        engine: an opened engine.
        frames: one array ``uint8 [N, H, W, 3]`` of the engine's shape each.
        seconds: how long to go on, warm-up left out.
    """
    turn = 0

    def once() -> float:
        nonlocal turn
        batch = frames[turn % len(frames)]
        turn += 1
        start = time.perf_counter()
        engine.infer(batch)
        return time.perf_counter() - start

    return _slice(once, seconds)


def loop_slice(engine: Engine, opened: Callable[[], Source], seconds: float) -> Slice:
    """Time the way of one frame from the encoded video to a mask at the size of the frame, one frame at a time.

    That is decoding, stretching to the engine's size, the engine, and stretching the mask back. ``run`` does the same
    on several threads at once, so its frames a second are at least these.

    Args:
        engine: an opened engine of batch 1.
        opened: opens the source; called again when it is at its end.
        seconds: how long to go on, warm-up left out.

    Raises:
        SourceError: the source gives no frame.
    """
    source = opened()
    batch = np.empty((1, *engine.size_hw, engine.info.channels), np.uint8)

    def once() -> float:
        nonlocal source
        start = time.perf_counter()
        frame = source.read()
        if frame is None:
            source.close()
            source = opened()
            start = time.perf_counter()
            frame = source.read()
            if frame is None:
                raise SourceError(f"{source.name} delivered no frame: give another video or folder with --input")
        batch[0] = frame_at(engine.with_channels(frame), engine.size_hw)
        mask_at(engine.infer(batch)[0], (frame.shape[0], frame.shape[1]))
        return time.perf_counter() - start

    try:
        return _slice(once, seconds)
    finally:
        source.close()


def percentiles(ms: Sequence[float]) -> Percentiles:
    """Percentiles of times in milliseconds."""
    p50, p95, p99 = (round(float(np.percentile(ms, share)), 3) for share in PERCENTILES)
    return {"p50": p50, "p95": p95, "p99": p99}


def undisturbed(ms: Sequence[float]) -> float:
    """The time that a tenth of a round's frames stay below: what else runs on the machine only ever adds to a time."""
    return float(np.percentile(ms, 10))


def over_rounds(rounds: Sequence[Sequence[float]]) -> tuple[Percentiles, dict[str, float]]:
    """Join the rounds of one configuration.

    Args:
        rounds: for each round the times in milliseconds.

    Returns:
        ``{"p50", "p95", "p99"}``: p50 is the median of the rounds' medians, the others are of all frames. And the
        spread of the rounds' medians: ``{"q25", "q75", "least", "most"}``.
    """
    medians = [float(np.median(values)) for values in rounds]
    latency = percentiles([value for values in rounds for value in values])
    latency["p50"] = round(float(np.median(medians)), 3)
    quartiles = np.percentile(medians, (25, 75))
    spread = {"q25": quartiles[0], "q75": quartiles[1], "least": min(medians), "most": max(medians)}
    return latency, {name: round(float(value), 3) for name, value in spread.items()}


def _slice(once: Callable[[], float], seconds: float) -> Slice:
    reference = Reference()
    try:
        _warm_up(once, reference)
        times: list[float] = []
        references: list[float] = []
        began = time.monotonic()
        next_reference = began
        while (now := time.monotonic()) < began + seconds or len(times) < _LEAST:
            if now >= next_reference:
                references.append(reference.milliseconds())
                next_reference = time.monotonic() + _REFERENCE_EVERY_S
            times.append(1000 * once())
        return Slice(tuple(times), tuple(references), began, time.monotonic())
    finally:
        reference.close()


def _warm_up(once: Callable[[], float], reference: Reference) -> None:
    end, done = time.monotonic() + _WARM_UP_S, 0
    while time.monotonic() < end or done < _WARM_UP_LEAST:
        once()
        done += 1
    reference.milliseconds()

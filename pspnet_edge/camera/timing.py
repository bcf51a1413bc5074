"""How long things take in the loop and how often they happen, in fixed memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Clock = Callable[[], float]
"""Gives seconds that only grow; ``time.perf_counter``, or a test's own."""
_USUAL_FPS = 30.0
_WINDOW = 10_000
_RECENT = 256
_RECENT_S = 5.0


def believable_fps(told: float | None) -> float:
    """The frames per second that a video or a camera tells, or 30 where that is nothing, or no rate that there is."""
    return float(told) if told is not None and 0.01 <= told <= 1000 else _USUAL_FPS


class Durations:
    """Milliseconds of one stage over the last 10 000 frames. One thread adds, any thread reads.

    Args:
        warm_up: how many of the first are kept apart: a runtime is slow at first. They count as long as there are no
            others.
    """

    def __init__(self, warm_up: int = 0) -> None:
        self._values = np.zeros(_WINDOW)
        self._warm_up = warm_up
        self.first: list[float] = []
        """Milliseconds of the warm-up, in order."""
        self.count = 0
        """How many came after it."""

    def add(self, seconds: float) -> None:
        """Count one duration."""
        if len(self.first) < self._warm_up:
            self.first.append(round(seconds * 1000, 3))
            return
        self._values[self.count % _WINDOW] = seconds * 1000
        self.count += 1

    def values(self) -> NDArray[np.float64]:
        """Those that count, in no order."""
        return self._values[: self.count].copy() if self.count else np.array(self.first, np.float64)

    def percentiles(self) -> dict[str, float]:
        """``{"p50", "p95", "p99"}`` in milliseconds; NaN when nothing was counted."""
        values = self.values()
        found = np.percentile(values if len(values) else np.array([np.nan]), (50, 95, 99))
        return {f"p{share}": round(float(value), 3) for share, value in zip((50, 95, 99), found, strict=True)}

    def median(self) -> float:
        """In milliseconds; NaN when nothing was counted."""
        return median_of([self])


def median_of(durations: Sequence[Durations]) -> float:
    """The median of several stages' durations together, in milliseconds; NaN when nothing was counted."""
    values = np.concatenate([each.values() for each in durations])
    return round(float(np.median(values)), 3) if len(values) else float("nan")


class Rate:
    """How often something happened lately. One thread adds, any thread reads.

    Args:
        clock: the one that the times of ``add`` are of.
    """

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self._clock = clock
        self._times = np.zeros(_RECENT)
        self.count = 0

    def add(self, now: float) -> None:
        """It happened, at a time of the clock."""
        self._times[self.count % _RECENT] = now
        self.count += 1

    def per_second(self) -> float:
        """Over the last 5 s, at most the last 256 times; it falls when nothing more happens."""
        now = self._clock()
        lately = self._times[: self.count]
        lately = lately[lately > now - _RECENT_S]
        if len(lately) < 2:
            return 0.0
        # When it has stopped, the silence since the last time counts too.
        silence = max(now - float(lately.max()) - 1.0, 0.0)
        return (len(lately) - 1) / (float(lately.max() - lately.min()) + silence)

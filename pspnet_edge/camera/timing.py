"""How long things take in the loop and how often they happen, in fixed memory."""

from __future__ import annotations

import time

import numpy as np

_WINDOW = 10_000
_RECENT = 256
_RECENT_S = 5.0


class Durations:
    """Milliseconds of one stage over the last 10 000 frames. One thread adds, any thread reads."""

    def __init__(self) -> None:
        self._values = np.zeros(_WINDOW)
        self.count = 0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self._values[self.count % _WINDOW] = seconds * 1000
        self.count += 1

    def percentiles(self) -> dict[str, float]:
        """``{"p50", "p95", "p99"}`` in milliseconds; NaN when nothing was counted."""
        values = self._values[: self.count] if self.count else np.array([np.nan])
        found = np.percentile(values, (50, 95, 99))
        return {f"p{share}": round(float(value), 3) for share, value in zip((50, 95, 99), found)}

    def median(self) -> float:
        """In milliseconds; NaN when nothing was counted."""
        return round(float(np.median(self._values[: self.count])), 3) if self.count else float("nan")


class Rate:
    """How often something happened lately. One thread adds, any thread reads."""

    def __init__(self) -> None:
        self._times = np.zeros(_RECENT)
        self.count = 0

    def add(self, now: float) -> None:
        """It happened, at ``time.perf_counter()``."""
        self._times[self.count % _RECENT] = now
        self.count += 1

    def per_second(self) -> float:
        """Over the last 5 s, at most the last 256 times; it falls when nothing more happens."""
        now = time.perf_counter()
        lately = self._times[: self.count]
        lately = lately[lately > now - _RECENT_S]
        if len(lately) < 2:
            return 0.0
        # When it has stopped, the silence since the last time counts too.
        silence = max(now - float(lately.max()) - 1.0, 0.0)
        return (len(lately) - 1) / (float(lately.max() - lately.min()) + silence)

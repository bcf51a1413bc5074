"""How long things take in the loop, in fixed memory."""

from __future__ import annotations

from collections import deque

import numpy as np

_WINDOW = 10_000


class Durations:
    """Milliseconds of one stage over the last 10 000 frames."""

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=_WINDOW)

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self._values.append(seconds * 1000)

    def percentiles(self) -> dict[str, float]:
        """``{"p50", "p95", "p99"}`` in milliseconds; NaN when nothing was counted."""
        values = np.asarray(self._values) if self._values else np.array([np.nan])
        return {f"p{share}": round(float(np.percentile(values, share)), 3) for share in (50, 95, 99)}

    def median(self) -> float:
        """In milliseconds; NaN when nothing was counted."""
        return self.percentiles()["p50"]

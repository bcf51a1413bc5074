"""What one camera gives the web view: its newest shot, and what is counted of all of them.

``Channel.take`` runs on the loop's thread and does nothing but keep and count; everything else runs on the server's.
"""

from __future__ import annotations

import asyncio
import bisect
import math
import time
from collections import deque
from dataclasses import dataclass

from ..shot import Shot

AGE_BUCKETS_S = (0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of the age histogram; above the last one is one more bucket."""
_STALE_S = 2.0
_HISTORY = 120


@dataclass(frozen=True)
class Second:
    """What one second of a camera was like."""

    fps: float
    age_ms: float | None
    """Median age of the frames shown in it; without any, how old the newest one had become; None before the first."""
    worst_age_ms: float | None

    def values(self) -> list[float | None]:
        """As the page's charts take them: FPS, median age, worst age."""
        return [self.fps, self.age_ms, self.worst_age_ms]


class Channel:
    """One camera.

    Args:
        camera: its number.
    """

    def __init__(self, camera: int) -> None:
        self.camera = camera
        self.newest: Shot | None = None
        self.taken_at = -math.inf
        """When the newest frame came; showing an old one again does not count."""
        self.frames = 0
        self.age_counts = [0] * (len(AGE_BUCKETS_S) + 1)
        self.age_sum_s = 0.0
        self.history: deque[Second] = deque(maxlen=_HISTORY)
        self.changed = asyncio.Event()
        """Something changed that the encoder of this camera may act on."""
        self.encoded: Shot | None = None
        self.message = b""
        self.published, self.published_at = 0, 0.0
        self._ages: deque[float] = deque(maxlen=1024)
        self._ticked_at, self._ticked_frames = time.perf_counter(), 0

    def take(self, shot: Shot) -> bool:
        """Keep ``shot`` and count it; False when it is a frame that was shown before."""
        before, self.newest = self.newest, shot
        if before is not None and before.captured == shot.captured:
            return False
        self.taken_at = time.perf_counter()
        age = self.taken_at - shot.captured
        self.frames += 1
        self.age_counts[bisect.bisect_left(AGE_BUCKETS_S, age)] += 1
        self.age_sum_s += age
        self._ages.append(age)
        return True

    def publish(self, shot: Shot, message: bytes) -> None:
        """Keep what viewers are sent for ``shot``."""
        self.encoded, self.message = shot, message
        self.published += 1
        self.published_at = time.perf_counter()

    def tick(self) -> None:
        """Close a second of history."""
        now, frames = time.perf_counter(), self.frames
        # One by one from the left, which is safe while the loop appends on the right.
        ages = sorted(self._ages.popleft() for _ in range(len(self._ages)))
        if not ages and self.newest is not None:
            ages = [now - self.newest.captured]
        fps = (frames - self._ticked_frames) / max(now - self._ticked_at, 1e-6)
        self._ticked_at, self._ticked_frames = now, frames
        if ages:
            median, worst = (round(1000 * age, 1) for age in (ages[len(ages) // 2], ages[-1]))
            self.history.append(Second(round(fps, 2), median, worst))
        else:
            self.history.append(Second(0.0, None, None))

    def age_s(self) -> float | None:
        """How old the newest frame is now; None before the first."""
        return None if self.newest is None else time.perf_counter() - self.newest.captured

    def stale(self) -> bool:
        """Whether no frame has come for 2 s, or for three times as long as frames have been taking if that is more."""
        rates = [second.fps for second in self.history if second.fps > 0]
        usual = len(rates) / sum(rates) if rates else 0.0
        return time.perf_counter() - self.taken_at > max(_STALE_S, 3 * usual)

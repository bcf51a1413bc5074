from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest

from pspnet_edge.errors import SourceError
from pspnet_edge.measure.latency import Reference, engine_slice, loop_slice, over_rounds, percentiles


class Sleeper:
    """Stands for an engine of a known speed."""

    size_hw = (4, 6)
    info = SimpleNamespace(channels=3)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.frames: list[int] = []

    def with_channels(self, frame: np.ndarray) -> np.ndarray:
        return frame

    def infer(self, frames: np.ndarray) -> np.ndarray:
        self.frames.append(int(frames[0, 0, 0, 0]))
        time.sleep(self.seconds)
        return np.zeros(frames.shape[:3], np.uint8)


class Film:
    name = "film"

    def __init__(self, frames: int) -> None:
        self.left = frames
        self.closed = False

    def read(self) -> np.ndarray | None:
        self.left -= 1
        return None if self.left < 0 else np.zeros((8, 12, 3), np.uint8)

    def close(self) -> None:
        self.closed = True


def test_a_slice_measures_the_engine_and_not_the_reference() -> None:
    frames = [np.full((1, 4, 6, 3), value, np.uint8) for value in (7, 8)]
    engine = Sleeper(0.005)
    taken = engine_slice(engine, frames, 0.3)  # type: ignore[arg-type]
    assert 5.0 <= np.median(taken.ms) < 8
    assert 20 <= len(taken.ms) <= 61
    assert 2 <= len(taken.reference_ms) < len(taken.ms)
    assert set(engine.frames) == {7, 8}
    assert taken.ended - taken.began == pytest.approx(0.3, abs=0.2)


def test_a_slow_engine_is_still_measured_some_times() -> None:
    taken = engine_slice(Sleeper(0.02), [np.zeros((1, 4, 6, 3), np.uint8)], 0.01)  # type: ignore[arg-type]
    assert len(taken.ms) == 8


def test_the_loop_opens_a_short_film_again() -> None:
    films: list[Film] = []

    def opened() -> Film:
        films.append(Film(5))
        return films[-1]

    taken = loop_slice(Sleeper(0.001), opened, 0.05)  # type: ignore[arg-type]
    assert len(taken.ms) > 8
    assert len(films) > 2
    assert all(film.closed for film in films)


def test_an_empty_film_is_refused() -> None:
    with pytest.raises(SourceError, match="film delivered no frame"):
        loop_slice(Sleeper(0), lambda: Film(0), 0.01)  # type: ignore[arg-type]


def test_the_reference_takes_about_a_millisecond_and_ends_its_threads() -> None:
    reference = Reference()
    assert 0.1 < np.median([reference.milliseconds() for _ in range(9)]) < 100
    reference.close()


def test_p50_is_the_median_of_rounds_and_tails_are_of_all_frames() -> None:
    latency, spread = over_rounds([[1, 2, 3], [2, 3, 4], [9, 9, 90]])
    assert latency["p50"] == 3
    assert latency["p99"] == pytest.approx(np.percentile([1, 2, 3, 2, 3, 4, 9, 9, 90], 99), abs=1e-3)
    assert spread == {"q25": 2.5, "q75": 6.0, "least": 2.0, "most": 9.0}
    assert percentiles([5.0]) == {"p50": 5.0, "p95": 5.0, "p99": 5.0}

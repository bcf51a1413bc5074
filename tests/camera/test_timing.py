from __future__ import annotations

import math
import time

import pytest

from pspnet_edge.camera.timing import Durations, Rate, believable_fps


def test_percentiles_are_of_the_last_ten_thousand() -> None:
    durations = Durations()
    assert math.isnan(durations.median())
    assert math.isnan(durations.percentiles()["p99"])
    for _ in range(500):
        durations.add(9.0)
    for number in range(10_000):
        durations.add(number / 1e6)
    found = durations.percentiles()
    assert abs(found["p50"] - 5) < 0.01
    assert abs(found["p99"] - 9.9) < 0.01
    assert durations.median() == found["p50"]


def test_a_rate_is_of_lately_and_falls_when_nothing_happens() -> None:
    rate = Rate()
    assert rate.per_second() == 0
    now = time.perf_counter()
    for number in range(50):
        rate.add(now - 60 + number * 0.01)
    assert rate.per_second() == 0, "a minute ago is not lately"
    for number in range(11):
        rate.add(now - 1 + number * 0.1)
    assert abs(rate.per_second() - 10) < 0.5
    silent = Rate()
    for number in range(11):
        silent.add(now - 4 + number * 0.1)
    assert silent.per_second() < 5


@pytest.mark.parametrize(
    ("told", "fps"),
    [(25, 25.0), (0.01, 0.01), (None, 30.0), (0, 30.0), (1e-6, 30.0), (1e9, 30.0), (math.inf, 30.0), (math.nan, 30.0)],
)
def test_a_rate_that_no_camera_has_is_not_believed(told: float | None, fps: float) -> None:
    assert believable_fps(told) == fps

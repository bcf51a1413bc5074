from __future__ import annotations

import numpy as np
import pytest

from pspnet_edge.errors import CalibrationError, OptionError
from pspnet_edge.histogram import METHODS, Histogram


def filled(*batches: np.ndarray) -> Histogram:
    histogram = Histogram()
    for batch in batches:
        histogram.add(batch.astype(np.float32))
    return histogram


def test_no_value_is_lost_when_the_range_grows() -> None:
    rng = np.random.default_rng(0)
    batches = [rng.normal(0, 10.0**power, 1000) for power in range(-3, 3)]
    histogram = filled(*batches)
    assert histogram.counts.sum() == 6000
    assert histogram.largest == pytest.approx(max(np.abs(batch).max() for batch in batches), rel=1e-6)
    values = np.abs(np.concatenate(batches))
    halfway = histogram.limit / 2
    assert histogram.counts[: len(histogram.counts) // 2].sum() == pytest.approx((values < halfway).sum(), abs=2)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_range_within_the_values(method: str) -> None:
    values = np.random.default_rng(1).laplace(0, 1, 100_000)
    amax = filled(values).amax(method)
    assert 0 < amax <= np.abs(values).max() * 1.001


def test_one_outlier_moves_minmax_and_hardly_the_others() -> None:
    values = np.random.default_rng(2).normal(0, 1, 100_000)
    spoilt = np.append(values, 200.0)
    assert filled(spoilt).amax("minmax") == pytest.approx(200)
    for method in ("percentile", "entropy"):
        assert filled(spoilt).amax(method) < 20, method
    assert filled(spoilt).amax("mse") < 180


def test_mse_is_close_to_the_best_range_by_direct_search() -> None:
    values = np.random.default_rng(3).laplace(0, 1, 20_000).astype(np.float32)

    def error(amax: float) -> float:
        scale = amax / 127
        return float(((np.clip(np.round(values / scale), -127, 127) * scale - values) ** 2).sum())

    best = min(error(amax) for amax in np.linspace(2, np.abs(values).max(), 300))
    assert error(filled(values).amax("mse")) < 1.05 * best


def test_a_tensor_of_zeros_has_a_harmless_range() -> None:
    assert filled(np.zeros(10)).amax("mse") > 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(CalibrationError, match="NaN or infinite"):
        filled(np.array([1.0, bad]))


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(OptionError, match="choose one of minmax"):
        filled(np.ones(3)).amax("kl")

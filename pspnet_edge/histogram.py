"""Histograms of activations that take any number of values in fixed memory, and ranges chosen from them."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from .errors import CalibrationError, one_of

METHODS = ("minmax", "percentile", "entropy", "mse")
_BINS = 2048
_LEVELS = 127
_PERCENTILE = 0.99995
_COST_OF_LOST = 20
"""Nats per value whose group came out empty, for which the divergence is infinite."""


class Histogram:
    """Counts of absolute values. The range doubles when a larger value comes, so no value is ever lost."""

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(_BINS, np.int64)
        self.limit = 0.0
        """Upper edge of the last bin."""
        self.largest = 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Count values of any shape.

        Raises:
            CalibrationError: a value is NaN or infinite.
        """
        magnitudes = np.abs(values).reshape(1, -1)
        largest = float(magnitudes.max())
        if not np.isfinite(largest):
            raise CalibrationError("an activation is NaN or infinite: the model is damaged, export it again")
        self.largest = max(self.largest, largest)
        if self.limit == 0.0:
            if largest == 0.0:
                self.counts[0] += magnitudes.size
                return
            self.limit = largest * (1 + 1e-6)
        while largest >= self.limit:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(1), np.zeros(_BINS // 2, np.int64)])
            self.limit *= 2
        counted = cv2.calcHist([magnitudes], [0], None, [_BINS], [0.0, self.limit])
        self.counts += counted.ravel().astype(np.int64)

    def amax(self, method: str) -> float:
        """The absolute value that the largest of 127 steps should represent; never zero.

        ``minmax``: the largest value seen. ``percentile``: the value that 99.995 % do not exceed. ``entropy``: least
        Kullback-Leibler divergence between the histogram and its quantized form (S. Migacz, 8-bit Inference with
        TensorRT, GTC 2017). ``mse``: least squared error of rounding and clipping.
        """
        one_of(method, METHODS, "calibration method")
        if self.limit == 0.0:
            return 1.0
        if method == "minmax":
            return self.largest
        if method == "percentile":
            reached = np.cumsum(self.counts) / self.counts.sum()
            edge = int(np.searchsorted(reached, _PERCENTILE)) + 1
            return min(edge * self.limit / _BINS, self.largest)
        return min(self._least(_divergence if method == "entropy" else _squared_error), self.largest)

    def _least(self, cost: Callable[[NDArray[np.float64], int], float]) -> float:
        occupied = int(np.flatnonzero(self.counts)[-1]) + 1
        edges = np.unique(np.linspace(min(_LEVELS + 1, occupied), occupied, 200).astype(int))
        costs = [cost(self.counts[:occupied].astype(np.float64), int(edge)) for edge in edges]
        return float(edges[int(np.argmin(costs))] * self.limit / _BINS)


def _squared_error(counts: NDArray[np.float64], edge: int) -> float:
    """Sum of squared errors, in bins², of clipping at ``edge`` and rounding to 127 steps."""
    centres = np.arange(len(counts)) + 0.5
    step = edge / _LEVELS
    rounded = np.minimum(np.round(centres / step), _LEVELS) * step
    # Within a step that is finer than a bin the bin's own width is the error that remains: equal for all edges.
    return float((counts * (rounded - centres) ** 2).sum())


def _divergence(counts: NDArray[np.float64], edge: int) -> float:
    """Kullback-Leibler divergence between the clipped histogram and its form in 128 groups."""
    counts = counts.copy()
    # Zeros, half of all values after a ReLU, are exact at any scale: counted, they would drown what clipping costs.
    counts[0] = counts[1]
    reference = counts[:edge].copy()
    reference[-1] += counts[edge:].sum()
    groups = np.minimum(np.arange(edge) * (_LEVELS + 1) // edge, _LEVELS)
    occupied = counts[:edge] > 0
    sums = np.bincount(groups, weights=counts[:edge], minlength=_LEVELS + 1)
    places = np.bincount(groups, weights=occupied, minlength=_LEVELS + 1)
    quantized = np.where(occupied, sums[groups] / np.maximum(places[groups], 1), 0)
    p, q = reference / reference.sum(), quantized / max(quantized.sum(), 1e-12)
    both = (p > 0) & (q > 0)
    lost = p[(p > 0) & (q == 0)].sum()
    return float((p[both] * np.log(p[both] / q[both])).sum() + lost * _COST_OF_LOST)

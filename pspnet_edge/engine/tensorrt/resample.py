"""Which pixels of a picture each row and column of another size takes, as a table for the head's kernel.

The arithmetic is OpenCV's, as ``data.geometry.frame_at`` uses it; on x86 every pixel is the same (docs/tensorrt.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...data.geometry import is_averaged

BILINEAR, AREA, MEAN = 0, 1, 2
"""``HeadMethod`` of ``head.h``: two pixels a side; weighted means; means of whole pixels."""
_UNIT = 2048
"""One, in the whole numbers that bilinear weights are."""
_NEGLIGIBLE = 1e-3
"""Share of a pixel that a mean leaves out."""


@dataclass(frozen=True)
class Resample:
    """How a picture is brought to another size."""

    method: int
    """``BILINEAR``, ``AREA`` or ``MEAN``."""
    table: NDArray[np.int32]
    """``HeadTaps`` of the columns, then of the rows, then weights as FP32."""


def resample(source_hw: tuple[int, int], target_hw: tuple[int, int]) -> Resample:
    """The table that brings pictures of one size to another, as ``frame_at`` does.

    Args:
        source_hw: rows and columns of the picture.
        target_hw: rows and columns that are wanted.
    """
    averaged = is_averaged(source_hw, target_hw)
    factors = [_whole_factor(source, target) for source, target in zip(source_hw, target_hw, strict=True)]
    (height, width), (rows, columns) = source_hw, target_hw
    if all(factors) and (averaged or factors == [2, 2]):
        taps = [_whole(factors[1], columns), _whole(factors[0], rows)]
        return Resample(MEAN, np.concatenate(taps).ravel())
    if averaged and height >= rows and width >= columns:
        across, down = _means(width, columns), _means(height, rows)
        taps = [across[0], down[0]]
        before = 4 * (columns + rows)
        taps[0][:, 2] += before
        taps[1][:, 2] += before + across[1].size
        weights = np.concatenate([across[1], down[1]]).view(np.int32)
        return Resample(AREA, np.concatenate([np.concatenate(taps).ravel(), weights]))
    taps = [_columns(width, columns, averaged), _rows(height, rows, averaged)]
    return Resample(BILINEAR, np.concatenate(taps).ravel())


def _scale(source: int, target: int) -> float:
    return 1.0 / (target / source)  # not source / target, which may differ in its last bit


def _whole_factor(source: int, target: int) -> int:
    """How many source pixels an output pixel takes, where they are whole ones; else 0."""
    scale = _scale(source, target)
    return round(scale) if abs(scale - round(scale)) < np.finfo(np.float64).eps else 0


def _whole(factor: int, target: int) -> NDArray[np.int32]:
    taps = np.zeros((target, 4), np.int32)
    taps[:, 0], taps[:, 1] = factor * np.arange(target), factor
    return taps


def _means(source: int, target: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Taps and weights of means over parts of pixels; where the weights begin is counted from the first of them."""
    taps, weights = np.zeros((target, 4), np.int32), list[float]()
    scale = _scale(source, target)
    for index in range(target):
        begin, end = index * scale, index * scale + scale
        span = min(scale, source - begin)
        last = min(math.floor(end), source - 1)
        first = min(math.ceil(begin), last)
        taps[index] = first, last - first, len(weights), 0
        if first - begin > _NEGLIGIBLE:
            taps[index, :2] += (-1, 1)
            weights.append((first - begin) / span)
        weights += [1.0 / span] * (last - first)
        if end - last > _NEGLIGIBLE:
            taps[index, 1] += 1
            weights.append(min(end - last, 1.0, span) / span)
    return taps, np.array(weights, np.float32)


def _places(source: int, target: int, averaged: bool) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The first of the two pixels and the share of the second."""
    index, scale = np.arange(target), _scale(source, target)
    if averaged:
        first = np.floor(index * scale)
        share = ((index + 1) - (first + 1) * (target / source)).astype(np.float32)
        share = np.where(share <= 0, np.float32(0), share - np.floor(share))
    else:
        place = ((index + 0.5) * scale - 0.5).astype(np.float32)
        first = np.floor(place)
        share = place - first
    return first.astype(np.int32), share.astype(np.float32)


def _taps(first: NDArray[np.int32], second: NDArray[np.int32], share: NDArray[np.float32]) -> NDArray[np.int32]:
    weights = [np.rint(part * np.float32(_UNIT)).astype(np.int32) for part in (np.float32(1) - share, share)]
    return np.stack([first, second, *weights], 1)


def _columns(source: int, target: int, averaged: bool) -> NDArray[np.int32]:
    first, share = _places(source, target, averaged)
    share[(first < 0) | (first >= source - 1)] = 0
    first = np.clip(first, 0, source - 1)
    return _taps(first, np.minimum(first + 1, source - 1), share)


def _rows(source: int, target: int, averaged: bool) -> NDArray[np.int32]:
    """Like columns, but at the border one row is taken twice, and both products are rounded."""
    first, share = _places(source, target, averaged)
    return _taps(np.clip(first, 0, source - 1), np.clip(first + 1, 0, source - 1), share)

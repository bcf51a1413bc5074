"""Tail and head in NumPy, by the definitions of ONNX and OpenCV: what the kernels are compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...data.geometry import MARGIN, Box

_F = np.float32


def reference_masks(logits: NDArray[np.floating], size_hw: tuple[int, int], align_corners: bool) -> NDArray[np.uint8]:
    """Logits ``[N, classes, h, w]`` → class ids ``uint8 [N, H, W]``: linear Resize, then ArgMax, all in FP32."""
    rows, columns = logits.shape[2:]
    top, bottom, of_top, of_bottom = _axis(rows, size_hw[0], align_corners)
    left, right, of_left, of_right = _axis(columns, size_hw[1], align_corners)
    weights = [of_x * of_y[:, None] for of_y in (of_top, of_bottom) for of_x in (of_left, of_right)]
    best = np.zeros((len(logits), *size_hw), np.uint8)
    largest = np.full(best.shape, -np.inf, _F)
    # One class after another, because all scores of a large mask at once do not fit a board's memory.
    for index in range(logits.shape[1]):
        values = logits[:, index].astype(_F)
        parts = [line[..., x] for line in (values[:, top], values[:, bottom]) for x in (left, right)]
        terms = [weight * part for weight, part in zip(weights, parts, strict=True)]
        # In ONNX Runtime's order of sums: each rounds once.
        scores = terms[0] + terms[1] + terms[2] + terms[3]
        larger = scores > largest
        best[larger], largest[larger] = index, scores[larger]
    return best


def _axis(
    inputs: int, outputs: int, align_corners: bool
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]:
    at = np.arange(outputs, dtype=_F)
    if align_corners:
        place = at * _F(inputs - 1) / _F(max(outputs - 1, 1))
    else:
        place = (at + _F(0.5)) / (_F(outputs) / _F(inputs)) - _F(0.5)
    place = np.clip(place, _F(0), _F(inputs - 1))
    first = place.astype(np.intp)
    second = np.minimum(first + 1, inputs - 1)
    same = first == second
    of_first = np.where(same, _F(0.5), second.astype(_F) - place).astype(_F)
    of_second = np.where(same, _F(0.5), place - first.astype(_F)).astype(_F)
    return first, second, of_first, of_second


def reference_picture(picture: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture ``uint8 [H, W, C]`` at another size: averaged where it shrinks to less than half, else bilinear."""
    (height, width), (rows, columns) = picture.shape[:2], size_hw
    scales = 1 / (rows / height), 1 / (columns / width)
    averaged = height > 2 * rows or width > 2 * columns
    down, across = round(scales[0]), round(scales[1])
    whole = (down * rows, across * columns) == (height, width)
    if whole and (averaged or (down, across) == (2, 2)):
        sums = picture.reshape(rows, down, columns, across, -1).astype(int).sum((1, 3))
        if (down, across) == (2, 2):
            return np.asarray((sums + 2) // 4, np.uint8)
        return np.asarray(np.rint(sums.astype(_F) * (_F(1) / _F(down * across))), np.uint8)
    if averaged and height >= rows and width >= columns:
        wide = _averaged(picture.astype(_F).swapaxes(0, 1), columns, scales[1]).swapaxes(0, 1)
        return np.asarray(np.rint(_averaged(wide, rows, scales[0])), np.uint8)
    left, right = _neighbours(width, columns, scales[1], averaged)
    outside = (left[0] < 0) | (left[0] >= width - 1)
    left, right = (left[0], np.where(outside, 2048, left[1])), (right[0], np.where(outside, 0, right[1]))
    terms = [picture[:, np.clip(at, 0, width - 1)].astype(int) * weight[:, None] for at, weight in (left, right)]
    products = [
        (terms[0] + terms[1])[np.clip(at, 0, height - 1)] // 16 * weight[:, None, None] // 65536
        for at, weight in _neighbours(height, rows, scales[0], averaged)
    ]
    return np.asarray((products[0] + products[1] + 2) // 4, np.uint8)


def reference_input(
    picture: NDArray[np.uint8],
    levels: NDArray[np.generic],
    order: Sequence[int],
    size_hw: tuple[int, int],
    inner: Box,
    lanes: int,
) -> NDArray[np.generic]:
    """A picture ``uint8 [H, W, bytes]`` as the network's input ``[C, h, w]`` or, with lanes, ``[h, w, lanes]``."""
    frame = np.full((*size_hw, picture.shape[2]), MARGIN, np.uint8)
    frame[inner.slices] = reference_picture(picture, inner.size_hw)
    planes = np.stack([values[frame[..., byte]] for values, byte in zip(levels, order, strict=True)])
    if lanes == 1:
        return planes
    padded = np.zeros((*size_hw, lanes), levels.dtype)
    padded[..., : len(planes)] = planes.transpose(1, 2, 0)
    return padded


def _neighbours(
    inputs: int, outputs: int, scale: float, averaged: bool
) -> tuple[tuple[NDArray[np.intp], NDArray[np.intp]], tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Index and weight, in 2048ths, of the first and of the second of two neighbours."""
    at = np.arange(outputs)
    if averaged:
        first = np.floor(at * scale)
        part = ((at + 1) - (first + 1) * (outputs / inputs)).astype(_F)
        part = np.where(part > 0, part - np.floor(part), _F(0))
    else:
        place = ((at + 0.5) * scale - 0.5).astype(_F)
        first = np.floor(place)
        part = place - first
    index = first.astype(np.intp)
    weights = [np.rint(share * _F(2048)).astype(np.intp) for share in (_F(1) - part, part)]
    return (index, weights[0]), (index + 1, weights[1])


def _averaged(values: NDArray[np.float32], outputs: int, scale: float) -> NDArray[np.float32]:
    """Means along the first axis: each value counts by how much of it lies in an output; less than 0.001 does not."""
    means = np.zeros((outputs, *values.shape[1:]), _F)
    for at in range(outputs):
        begin, end = at * scale, at * scale + scale
        span = min(scale, len(values) - begin)
        for index in range(int(begin), min(int(np.ceil(end)), len(values))):
            overlap = min(end, index + 1.0) - max(begin, float(index))
            if overlap > 1e-3:
                means[at] += values[index] * _F(overlap / span)
    return means

"""The tail in NumPy, by the definitions of ONNX: what the kernels are compared with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_F = np.float32


def reference_masks(logits: NDArray[np.floating], size_hw: tuple[int, int], align_corners: bool) -> NDArray[np.uint8]:
    """Logits ``[N, classes, h, w]`` → class ids ``uint8 [N, H, W]``: linear Resize, then ArgMax, all in FP32."""
    values = logits.astype(_F)
    top, bottom, of_top, of_bottom = _axis(values.shape[2], size_hw[0], align_corners)
    left, right, of_left, of_right = _axis(values.shape[3], size_hw[1], align_corners)
    above, below = values[:, :, top], values[:, :, bottom]
    # In ONNX Runtime's order of sums: each rounds once.
    scores = (of_left * of_top[:, None]) * above[..., left] + (of_right * of_top[:, None]) * above[..., right]
    scores = scores + (of_left * of_bottom[:, None]) * below[..., left]
    scores = scores + (of_right * of_bottom[:, None]) * below[..., right]
    return np.asarray(scores.argmax(1), np.uint8)


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

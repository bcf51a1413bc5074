"""Augmentation of (image, mask) pairs. Every random choice comes from the generator given, so a pair can be remade."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from ..labels import IGNORE
from .datasets import Image, Mask


def random_view(
    image: Image,
    mask: Mask,
    crop_hw: tuple[int, int],
    rng: np.random.Generator,
    *,
    scales: tuple[float, float] = (0.5, 2.0),
    aspect: float = 0.1,
    focus: float = 0.5,
) -> tuple[Image, Mask]:
    """A random window of the pair, scaled to ``crop_hw``, perhaps mirrored, with changed colours.

    Args:
        image: ``uint8 [H, W, 3]`` BGR.
        mask: ``uint8 [H, W]``.
        crop_hw: height and width of the result.
        rng: where every choice comes from.
        scales: smallest and largest magnification, drawn log-uniformly.
        aspect: largest change of the height against the width, as a fraction.
        focus: probability that the window is laid over a pixel of a class drawn evenly from those in the mask, so that
            rare classes are seen often; otherwise it is laid anywhere.

    Returns:
        New arrays; what lies outside the image is black and IGNORE.
    """
    magnification = math.exp(rng.uniform(math.log(scales[0]), math.log(scales[1])))
    stretch = math.exp(rng.uniform(-aspect, aspect) / 2)
    window_hw = (
        max(1, round(crop_hw[0] / (magnification * stretch))),
        max(1, round(crop_hw[1] / (magnification / stretch))),
    )
    top, left = _window_corner(mask, window_hw, rng, focus)
    image = _cut(image, top, left, window_hw, 0)
    mask = _cut(mask, top, left, window_hw, IGNORE)
    shrink = window_hw[0] > crop_hw[0]
    size_wh = (crop_hw[1], crop_hw[0])
    image = np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR))
    mask = np.asarray(cv2.resize(mask, size_wh, interpolation=cv2.INTER_NEAREST))
    if rng.random() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    return _recoloured(image, rng), np.ascontiguousarray(mask)


def _window_corner(mask: Mask, window_hw: tuple[int, int], rng: np.random.Generator, focus: float) -> tuple[int, int]:
    height, width = mask.shape
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256)[:IGNORE])
    if rng.random() < focus and present.size:
        places = np.flatnonzero(mask == rng.choice(present))
        row, column = divmod(int(rng.choice(places)), width)
        top = row - int(rng.integers(window_hw[0]))
        left = column - int(rng.integers(window_hw[1]))
    else:
        top = int(rng.integers(min(0, height - window_hw[0]), max(0, height - window_hw[0]) + 1))
        left = int(rng.integers(min(0, width - window_hw[1]), max(0, width - window_hw[1]) + 1))
    # A window that fits stays inside; a larger one covers the whole image.
    return _clamped(top, height - window_hw[0]), _clamped(left, width - window_hw[1])


def _clamped(value: int, slack: int) -> int:
    return max(min(0, slack), min(value, max(0, slack)))


def _cut(array: NDArray[np.uint8], top: int, left: int, window_hw: tuple[int, int], fill: int) -> NDArray[np.uint8]:
    height, width = array.shape[:2]
    bottom, right = top + window_hw[0], left + window_hw[1]
    inside = array[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    if inside.shape[:2] == window_hw:
        return inside
    return np.asarray(
        cv2.copyMakeBorder(
            inside, max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0),
            cv2.BORDER_CONSTANT, value=(fill, fill, fill),
        )
    )  # fmt: skip


def _recoloured(image: Image, rng: np.random.Generator) -> Image:
    """Brightness, contrast, gamma, saturation and white balance, through one table a channel."""
    contrast, brightness = rng.uniform(0.7, 1.35), rng.uniform(-30, 30)
    gamma = math.exp(rng.uniform(-0.35, 0.35))
    ramp = (np.arange(256, dtype=np.float32) / 255) ** gamma * 255
    table = np.clip(
        ((ramp - 128) * contrast + 128 + brightness)[:, None] * rng.uniform(0.9, 1.1, 3)[None], 0, 255
    ).astype(np.uint8)
    image = np.asarray(cv2.LUT(np.ascontiguousarray(image), table[None]))
    saturation = rng.uniform(0.4, 1.5)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return np.asarray(cv2.addWeighted(image, saturation, grey, 1 - saturation, 0))

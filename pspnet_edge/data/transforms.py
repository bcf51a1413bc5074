"""Augmentation of (image, mask) pairs. Every random choice comes from a given generator, so a pair can be recreated."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..labels import IGNORE
from .datasets import Image, Mask


@dataclass(frozen=True)
class Window:
    """A rectangle of a picture, stretched to a crop, perhaps mirrored; cuts all that belongs to the picture.

    ``turned`` is its rotation about its centre, in degrees clockwise as one sees the picture.
    """

    top: int
    left: int
    window_hw: tuple[int, int]
    crop_hw: tuple[int, int]
    mirrored: bool
    turned: float = 0.0

    def of_image(self, image: Image) -> Image:
        """The window of ``uint8 [H, W, 3]``, black outside."""
        # A turned window has no averaging that shrinks; it is read bilinearly at every scale.
        shrinks = self.window_hw[0] > self.crop_hw[0] and not self.turned
        return self._stretched(image, 0, cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)

    def of_mask(self, mask: Mask) -> Mask:
        """The window of ``uint8 [H, W]``, IGNORE outside."""
        return self._stretched(mask, IGNORE, cv2.INTER_NEAREST)

    def of_probabilities(self, probabilities: NDArray[np.uint8], size_hw: tuple[int, int], stride: int) -> NDArray:  # type: ignore[type-arg]
        """The window of per-class probabilities that are coarser than the picture, one value every ``stride`` pixels.

        Args:
            probabilities: ``uint8 [h, w, classes]``, 255 for certain.
            size_hw: the picture's size.
            stride: pixels of the crop between two results.

        Returns:
            ``uint8 [crop height / stride, crop width / stride, classes]``, all zero outside the picture.
        """
        out_hw = (self.crop_hw[0] // stride, self.crop_hw[1] // stride)
        return self._warped(probabilities, size_hw, out_hw, stride, cv2.INTER_LINEAR, 0)

    def _warped(
        self,
        array: NDArray[np.uint8],
        size_hw: tuple[int, int],
        out_hw: tuple[int, int],
        stride: int,
        interpolation: int,
        fill: int,
    ) -> NDArray[np.uint8]:
        return np.asarray(
            cv2.warpAffine(
                array, self._map(size_hw, (array.shape[0], array.shape[1]), stride), out_hw[::-1],
                flags=interpolation | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_CONSTANT, borderValue=(fill,) * 4,
            )
        )  # fmt: skip

    def _map(self, size_hw: tuple[int, int], grid_hw: tuple[int, int], stride: int) -> NDArray[np.float64]:
        """``float [2, 3]``: (x, y) of a result, one every ``stride`` pixels of the crop → (x, y) in a grid of values.

        The grid lies over the whole picture of ``size_hw``; with as many values it is the picture itself.
        """
        corner = (self.top, self.left)
        matrix = np.zeros((2, 3))
        for axis, row in ((0, 1), (1, 0)):  # cv2's rows are x, then y
            # Centre of result i → pixel of the crop → pixel of the picture → position in the coarse grid.
            grid = grid_hw[axis] / size_hw[axis]
            step = stride * self.window_hw[axis] / self.crop_hw[axis]
            first = corner[axis] + 0.5 * step
            if axis == 1 and self.mirrored:
                first, step = corner[axis] + self.window_hw[axis] - 0.5 * step, -step
            matrix[row, row], matrix[row, 2] = step * grid, first * grid - 0.5
        return self._turn(size_hw, grid_hw) @ np.vstack([matrix, (0, 0, 1)]) if self.turned else matrix

    def _turn(self, size_hw: tuple[int, int], grid_hw: tuple[int, int]) -> NDArray[np.float64]:
        """``float [2, 3]``: the rotation about the window's centre, from the grid to itself."""
        grid_x, grid_y = grid_hw[1] / size_hw[1], grid_hw[0] / size_hw[0]
        to_picture = np.array([[1 / grid_x, 0, 0.5 / grid_x], [0, 1 / grid_y, 0.5 / grid_y], [0, 0, 1]])
        centre_x, centre_y = self.left + self.window_hw[1] / 2, self.top + self.window_hw[0] / 2
        cosine, sine = math.cos(math.radians(self.turned)), math.sin(math.radians(self.turned))
        rotation = np.array(
            [
                [cosine, -sine, centre_x - cosine * centre_x + sine * centre_y],
                [sine, cosine, centre_y - sine * centre_x - cosine * centre_y],
                [0, 0, 1],
            ]
        )
        return np.asarray((np.linalg.inv(to_picture) @ rotation @ to_picture)[:2])

    def _stretched(self, array: NDArray[np.uint8], fill: int, interpolation: int) -> NDArray[np.uint8]:
        if self.turned:
            warped = self._warped(array, (array.shape[0], array.shape[1]), self.crop_hw, 1, interpolation, fill)
            return warped.reshape(*self.crop_hw, *array.shape[2:])
        cut = _cut(array, self.top, self.left, self.window_hw, fill)
        # OpenCV drops the axis of a single channel.
        result = np.asarray(cv2.resize(cut, self.crop_hw[::-1], interpolation=interpolation))
        result = result.reshape(*self.crop_hw, *array.shape[2:])
        return np.ascontiguousarray(result[:, ::-1] if self.mirrored else result)


def random_window(
    mask: Mask,
    crop_hw: tuple[int, int],
    rng: np.random.Generator,
    *,
    scales: tuple[float, float] = (0.5, 2.0),
    aspect: float = 0.1,
    focus: float = 0.5,
    rotate: float = 0.0,
) -> Window:
    """A random window of a picture.

    Args:
        mask: ``uint8 [H, W]``, the picture's.
        crop_hw: height and width of what the window gives.
        rng: where every choice comes from.
        scales: smallest and largest magnification, drawn log-uniformly.
        aspect: largest change of the height against the width, as a fraction.
        focus: probability that the window is laid over a pixel of a class drawn evenly from those in the mask, so that
            rare classes are seen often; otherwise it is laid anywhere.
        rotate: largest turn either way, in degrees.
    """
    magnification = math.exp(rng.uniform(math.log(scales[0]), math.log(scales[1])))
    stretch = math.exp(rng.uniform(-aspect, aspect) / 2)
    window_hw = (
        max(1, round(crop_hw[0] / (magnification * stretch))),
        max(1, round(crop_hw[1] / (magnification / stretch))),
    )
    top, left = _window_corner(mask, window_hw, rng, focus)
    mirrored = bool(rng.random() < 0.5)
    # Nothing is drawn where nothing turns, so that runs without rotation see what they always saw.
    turned = float(rng.uniform(-rotate, rotate)) if rotate else 0.0
    return Window(top, left, window_hw, crop_hw, mirrored, turned)


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
            cv2.BORDER_CONSTANT, value=(fill,) * 4,
        ).reshape(*window_hw, *array.shape[2:])
    )  # fmt: skip


def recoloured(image: Image, rng: np.random.Generator) -> Image:
    """Brightness, contrast, gamma, saturation and white balance, through one table per channel.

    A grey image has the first three; a fourth channel is left as it is.
    """
    contrast, brightness = rng.uniform(0.7, 1.35), rng.uniform(-30, 30)
    gamma = math.exp(rng.uniform(-0.35, 0.35))
    ramp = (np.arange(256, dtype=np.float32) / 255) ** gamma * 255
    table = np.clip(
        ((ramp - 128) * contrast + 128 + brightness)[:, None] * rng.uniform(0.9, 1.1, 3)[None], 0, 255
    ).astype(np.uint8)
    saturation = rng.uniform(0.4, 1.5)
    if image.shape[2] == 1:
        return np.asarray(table[:, 1][image])
    if image.shape[2] > 3:
        return np.dstack([_recoloured_bgr(image[..., :3], table, saturation), image[..., 3:]])
    return _recoloured_bgr(image, table, saturation)


def _recoloured_bgr(image: Image, table: NDArray[np.uint8], saturation: float) -> Image:
    """A BGR image through ``uint8 [256, 3]``, a table per channel, and nearer to or further from its grey."""
    image = np.asarray(cv2.LUT(np.ascontiguousarray(image), table[None]), np.uint8)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return np.asarray(cv2.addWeighted(image, saturation, grey, 1 - saturation, 0))

"""Image and mask under one brush, with the camera that looks at the street."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ...labels import CAMVID

NEAR, FAR = 1.5, 90.0
"""How far ahead things are drawn, in metres."""
ROAD_HALF, KERB = 4.2, 6.6
"""Metres from the middle of the road to its edge and to the end of the pavement."""
_CAMERA_HEIGHT = 1.4

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(len(CAMVID))

Colour = tuple[float, float, float]
Point = tuple[float, float, float]


class View(Protocol):
    """The street and the camera of a drive."""

    size_hw: tuple[int, int]
    focal: float
    """Pixels."""
    horizon: float
    """Row of the horizon."""
    haze: float
    """Metres at which a colour has lost two thirds of itself."""

    def centre(self, z: float) -> float:
        """Where the middle of the road is at ``z``."""


class Canvas:
    """An image and its mask, painted by the same calls."""

    def __init__(self, drive: View, camera_z: float) -> None:
        height, width = drive.size_hw
        self.image = np.empty((height, width, 3), np.uint8)
        self.mask = np.empty((height, width), np.uint8)
        self.camera_z = camera_z
        self._drive = drive
        self._camera_x = drive.centre(camera_z) - 1.7
        self._heading = (drive.centre(camera_z + 12) - drive.centre(camera_z)) / 12

    def project(self, point: Point) -> tuple[int, int]:
        """World ``(offset from the middle of the road, y, z)`` → pixel ``(column, row)``."""
        x, y, z = point
        ahead = max(z - self.camera_z, NEAR)
        sideways = self._drive.centre(z) + x - self._camera_x - self._heading * ahead
        scale = self._drive.focal / ahead
        limit = 8 * self._drive.size_hw[1]
        column = self._drive.size_hw[1] / 2 + sideways * scale
        row = self._drive.horizon + (_CAMERA_HEIGHT - y) * scale
        return int(max(-limit, min(limit, column))), int(max(-limit, min(limit, row)))

    def scale(self, z: float) -> float:
        """Pixels a metre at ``z``."""
        return self._drive.focal / max(z - self.camera_z, NEAR)

    def polygon(self, points: Sequence[Point], colour: Colour, label: int) -> None:
        """Fill a polygon given in world points."""
        depth = min(point[2] for point in points) - self.camera_z
        pixels = np.array([self.project(point) for point in points], np.int32)
        self._fill(pixels, self._hazed(colour, depth), label)

    def ground(self, left: float, right: float, near: float, far: float, colour: Colour, label: int) -> None:
        """Fill a strip of the ground."""
        self.polygon([(left, 0, near), (right, 0, near), (right, 0, far), (left, 0, far)], colour, label)

    def board(self, x: float, z: float, low: float, high: float, width: float, colour: Colour, label: int) -> None:
        """Fill an upright rectangle that faces the camera, at least one pixel wide."""
        left, top = self.project((x - width / 2, high, z))
        right, bottom = self.project((x + width / 2, low, z))
        right, bottom = max(right, left), max(bottom, top)
        pixels = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.int32)
        self._fill(pixels, self._hazed(colour, z - self.camera_z), label)

    def disc(self, x: float, y: float, z: float, radius: float, colour: Colour, label: int) -> None:
        """Fill a circle that faces the camera."""
        pixels = max(1, int(radius * self.scale(z)))
        centre = self.project((x, y, z))
        cv2.circle(self.image, centre, pixels, self._hazed(colour, z - self.camera_z), -1)
        cv2.circle(self.mask, centre, pixels, (label,), -1)

    def ring(self, x: float, y: float, z: float, radius: float, colour: Colour, label: int) -> None:
        """Draw a wheel that faces the camera; its mask is filled, as people label wheels."""
        pixels, thickness = max(1, int(radius * self.scale(z))), max(1, int(0.05 * self.scale(z)))
        centre = self.project((x, y, z))
        cv2.circle(self.image, centre, pixels, self._hazed(colour, z - self.camera_z), thickness)
        cv2.circle(self.mask, centre, pixels, (label,), -1)

    def limb(self, start: Point, end: Point, width: float, colour: Colour, label: int) -> None:
        """Draw a thick line between two world points."""
        thickness = max(1, int(width * self.scale(start[2])))
        a, b = self.project(start), self.project(end)
        cv2.line(self.image, a, b, self._hazed(colour, start[2] - self.camera_z), thickness)
        cv2.line(self.mask, a, b, (label,), thickness)

    def _fill(self, pixels: NDArray[np.int32], colour: Colour, label: int) -> None:
        cv2.fillPoly(self.image, [pixels], colour)
        cv2.fillPoly(self.mask, [pixels], (label,))

    def _hazed(self, colour: Colour, depth: float) -> Colour:
        share = math.exp(-max(depth, 0.0) / self._drive.haze)
        return (
            colour[0] * share + 235 * (1 - share),
            colour[1] * share + 228 * (1 - share),
            colour[2] * share + 222 * (1 - share),
        )


def tinted(rng: np.random.Generator, grey: float, spread: float) -> Colour:
    """A colour near a grey, each channel off by at most ``spread``."""
    blue, green, red = np.clip(grey + rng.uniform(-spread, spread, 3), 10, 245)
    return float(blue), float(green), float(red)


def darker(colour: Colour, factor: float) -> Colour:
    """A colour times a factor, which may brighten it too."""
    return min(colour[0] * factor, 255.0), min(colour[1] * factor, 255.0), min(colour[2] * factor, 255.0)

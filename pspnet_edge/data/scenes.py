"""A procedural street drive with exact masks: a camera for machines that have none, and a data set with no root.

A scene is a pure function of ``(seed, index)``: any frame of any drive can be drawn alone, in any order, and two
machines draw the same pixels. Image and mask are painted by the same calls with hard edges, so the mask is exact;
light, haze, blur and sensor noise are then laid over the image alone.

World axes: x to the right, y up, z ahead, in metres; the camera drives along z on the left of the road.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..labels import CAMVID

SIZE_HW = (480, 640)
FRAMES_PER_SECOND = 30
_METRES_PER_FRAME = 0.35
_NEAR, _FAR = 1.5, 90.0
_CAMERA_HEIGHT = 1.4
_ROAD_HALF, _KERB = 4.2, 6.6

_SKY, _BUILDING, _POLE, _ROAD, _PAVEMENT, _TREE, _SIGN, _FENCE, _CAR, _PEDESTRIAN, _BICYCLIST = range(len(CAMVID))

_Colour = tuple[float, float, float]
_Point = tuple[float, float, float]
_Draw = Callable[["_Canvas", "_Item"], None]


@dataclass(frozen=True)
class Frame:
    """One drawn frame: BGR image ``uint8 [H, W, 3]`` and mask ``uint8 [H, W]`` with CamVid's class ids."""

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]


class Drive:
    """An endless drive through one street.

    Args:
        seed: which street; buildings, light, traffic and camera follow from it.
        size_hw: height and width of the frames in pixels.
    """

    label_set = CAMVID

    def __init__(self, seed: int = 0, size_hw: tuple[int, int] = SIZE_HW) -> None:
        self.seed = seed
        self.size_hw = size_hw
        rng = np.random.default_rng([seed, 0])
        height, width = size_hw
        self._focal = width * rng.uniform(0.75, 1.05)
        self._horizon = height * rng.uniform(0.40, 0.52)
        self._light = rng.uniform(0.55, 1.1)
        self._warmth = rng.uniform(-0.08, 0.08)
        self._haze = rng.uniform(60.0, 220.0)
        self._overcast = rng.uniform(0.0, 1.0)
        self._noise = rng.uniform(1.0, 5.0)
        self._blur = rng.uniform(0.0, 0.9)
        self._bend = rng.uniform(2.0, 7.0)
        self._bend_phase = rng.uniform(0.0, 2 * math.pi)
        self._street_grey = rng.uniform(70, 125)
        self._paving = _tinted(rng, rng.uniform(110, 175), 14)
        self._density = rng.uniform(0.5, 1.0)

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """Frames without end, from ``start``."""
        index = start
        while True:
            yield self.frame(index)
            index += 1

    def frame(self, index: int) -> Frame:
        """Draw one frame."""
        camera_z = index * _METRES_PER_FRAME
        canvas = _Canvas(self, camera_z)
        self._draw_sky(canvas, index)
        self._draw_ground(canvas)
        for item in sorted(self._items(index, camera_z), key=lambda item: -item.z):
            item.draw(canvas, item)
        return Frame(self._exposed(canvas.image, index), canvas.mask)

    def _centre(self, z: float) -> float:
        """Where the middle of the road is at ``z``: a slow bend."""
        return self._bend * math.sin(z / 47.0 + self._bend_phase)

    # --- what stands along the street -----------------------------------------------------------------------------

    def _items(self, index: int, camera_z: float) -> Iterator[_Item]:
        for kind, (spacing, share, draw) in enumerate(_STANDING):
            first = int(camera_z // spacing)
            last = int((camera_z + _FAR) // spacing) + 1
            for slot in range(first, last):
                for side in (-1, 1):
                    rng = np.random.default_rng([self.seed, 1 + kind, slot + 10_000, side + 1])
                    if rng.random() < share * (self._density if kind else 1.0):
                        z = slot * spacing + rng.uniform(0, 0.2 * spacing)
                        yield _Item(draw, z, side, rng, index)
        for kind, (spacing, share, speed, draw) in enumerate(_MOVING):
            travelled = speed * index
            first = int((camera_z - travelled) // spacing)
            last = int((camera_z - travelled + _FAR) // spacing) + 1
            for slot in range(first, last):
                rng = np.random.default_rng([self.seed, 40 + kind, slot + 1_000_000])
                if rng.random() < share * self._density:
                    z = slot * spacing + rng.uniform(0, 0.4 * spacing) + travelled
                    if z > camera_z + 5.0:
                        yield _Item(draw, z, 1 if speed < 0 else -1, rng, index)

    # --- backdrop -------------------------------------------------------------------------------------------------

    def _draw_sky(self, canvas: _Canvas, index: int) -> None:
        height, width = self.size_hw
        top = np.array([235, 190, 150]) * (1 - self._overcast) + np.array([225, 222, 220]) * self._overcast
        low = np.array([245, 235, 225])
        ramp = np.linspace(0, 1, height)[:, None, None] ** 0.7
        canvas.image[:] = (top * (1 - ramp) + low * ramp).astype(np.uint8)
        canvas.mask[:] = _SKY
        rng = np.random.default_rng([self.seed, 99])
        for _ in range(int(10 * self._overcast) + 2):
            x = (rng.uniform(0, 1.4) * width + index * 0.15) % (1.4 * width) - 0.2 * width
            axes = (int(width * rng.uniform(0.06, 0.2)), int(height * rng.uniform(0.01, 0.05)))
            centre = (int(x), int(self._horizon * rng.uniform(0.05, 0.9)))
            grey = rng.uniform(215, 252)
            cv2.ellipse(canvas.image, centre, axes, 0, 0, 360, (grey, grey, grey), -1)

    def _draw_ground(self, canvas: _Canvas) -> None:
        z = canvas.camera_z
        steps = [z + _NEAR * (_FAR / _NEAR) ** (i / 23) for i in range(24)]
        verge = (70.0, 120.0, 105.0)
        for near, far in zip(steps[-2::-1], steps[:0:-1]):
            # Far strips first; what is beyond the pavement counts as pavement too: CamVid has no class for ground.
            for left, right, colour, label in (
                (-60.0, -_KERB, verge, _PAVEMENT),
                (_KERB, 60.0, verge, _PAVEMENT),
                (-_KERB, -_ROAD_HALF, self._paving, _PAVEMENT),
                (_ROAD_HALF, _KERB, self._paving, _PAVEMENT),
                (-_ROAD_HALF, _ROAD_HALF, (self._street_grey,) * 3, _ROAD),
            ):
                canvas.ground(left, right, near, far, colour, label)
        for slot in range(int((z + _FAR) // 6), int((z + _NEAR) // 6), -1):
            canvas.ground(-0.08, 0.08, slot * 6.0, slot * 6.0 + 2.5, (215, 220, 222), _ROAD)
        for near, far in zip(steps[-2::-1], steps[:0:-1]):
            for side in (-1, 1):
                edge = side * (_ROAD_HALF - 0.25)
                canvas.ground(edge - 0.06, edge + 0.06, near, far, (190, 200, 205), _ROAD)

    # --- from clean paint to a camera's picture -------------------------------------------------------------------

    def _exposed(self, image: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        height, width = self.size_hw
        rng = np.random.default_rng([self.seed, 7, index])
        grain = rng.standard_normal((height // 2, width // 2), dtype=np.float32)
        picture = image.astype(np.float32)
        texture = _texture(self.seed)
        picture += cv2.resize(texture, (width, height), interpolation=cv2.INTER_LINEAR)[..., None] * 5.0
        picture *= np.array([1 - self._warmth, 1.0, 1 + self._warmth], np.float32) * self._light
        picture += cv2.resize(grain, (width, height), interpolation=cv2.INTER_NEAREST)[..., None] * self._noise
        if self._blur > 0.3:
            picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), self._blur), np.float32)
        return np.clip(picture, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class _Item:
    draw: _Draw
    z: float
    side: int
    rng: np.random.Generator
    index: int


class _Canvas:
    """Image and mask under one brush."""

    def __init__(self, drive: Drive, camera_z: float) -> None:
        height, width = drive.size_hw
        self.image = np.empty((height, width, 3), np.uint8)
        self.mask = np.empty((height, width), np.uint8)
        self.camera_z = camera_z
        self._drive = drive
        self._camera_x = drive._centre(camera_z) - 1.7
        self._heading = (drive._centre(camera_z + 12) - drive._centre(camera_z)) / 12

    def project(self, point: _Point) -> tuple[int, int]:
        """World ``(offset from the middle of the road, y, z)`` → pixel ``(column, row)``."""
        x, y, z = point
        ahead = max(z - self.camera_z, _NEAR)
        sideways = self._drive._centre(z) + x - self._camera_x - self._heading * ahead
        scale = self._drive._focal / ahead
        limit = 8 * self._drive.size_hw[1]
        column = self._drive.size_hw[1] / 2 + sideways * scale
        row = self._drive._horizon + (_CAMERA_HEIGHT - y) * scale
        return int(max(-limit, min(limit, column))), int(max(-limit, min(limit, row)))

    def scale(self, z: float) -> float:
        """Pixels a metre at ``z``."""
        return self._drive._focal / max(z - self.camera_z, _NEAR)

    def polygon(self, points: Sequence[_Point], colour: _Colour, label: int) -> None:
        """Fill a polygon given in world points."""
        depth = min(point[2] for point in points) - self.camera_z
        pixels = np.array([self.project(point) for point in points], np.int32)
        self._fill(pixels, self._hazed(colour, depth), label)

    def ground(self, left: float, right: float, near: float, far: float, colour: _Colour, label: int) -> None:
        """Fill a strip of the ground."""
        self.polygon([(left, 0, near), (right, 0, near), (right, 0, far), (left, 0, far)], colour, label)

    def board(self, x: float, z: float, low: float, high: float, width: float, colour: _Colour, label: int) -> None:
        """Fill an upright rectangle that faces the camera, at least one pixel wide."""
        left, top = self.project((x - width / 2, high, z))
        right, bottom = self.project((x + width / 2, low, z))
        right, bottom = max(right, left), max(bottom, top)
        pixels = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.int32)
        self._fill(pixels, self._hazed(colour, z - self.camera_z), label)

    def disc(self, x: float, y: float, z: float, radius: float, colour: _Colour, label: int) -> None:
        """Fill a circle that faces the camera."""
        pixels = max(1, int(radius * self.scale(z)))
        centre = self.project((x, y, z))
        cv2.circle(self.image, centre, pixels, self._hazed(colour, z - self.camera_z), -1)
        cv2.circle(self.mask, centre, pixels, (label,), -1)

    def ring(self, x: float, y: float, z: float, radius: float, colour: _Colour, label: int) -> None:
        """Draw a wheel that faces the camera; its mask is filled, as people label wheels."""
        pixels, thickness = max(1, int(radius * self.scale(z))), max(1, int(0.05 * self.scale(z)))
        centre = self.project((x, y, z))
        cv2.circle(self.image, centre, pixels, self._hazed(colour, z - self.camera_z), thickness)
        cv2.circle(self.mask, centre, pixels, (label,), -1)

    def limb(self, start: _Point, end: _Point, width: float, colour: _Colour, label: int) -> None:
        """Draw a thick line between two world points."""
        thickness = max(1, int(width * self.scale(start[2])))
        a, b = self.project(start), self.project(end)
        cv2.line(self.image, a, b, self._hazed(colour, start[2] - self.camera_z), thickness)
        cv2.line(self.mask, a, b, (label,), thickness)

    def _fill(self, pixels: NDArray[np.int32], colour: _Colour, label: int) -> None:
        cv2.fillPoly(self.image, [pixels], colour)
        cv2.fillPoly(self.mask, [pixels], (label,))

    def _hazed(self, colour: _Colour, depth: float) -> _Colour:
        share = math.exp(-max(depth, 0.0) / self._drive._haze)
        return (
            colour[0] * share + 235 * (1 - share),
            colour[1] * share + 228 * (1 - share),
            colour[2] * share + 222 * (1 - share),
        )


# --- things, each drawn from its own random generator, far before near -----------------------------------------------


def _draw_building(canvas: _Canvas, item: _Item) -> None:
    rng, side, z = item.rng, item.side, item.z
    length, storeys = rng.uniform(9, 12.5), int(rng.integers(2, 6))
    height, face = storeys * 3.1 + 0.8, side * rng.uniform(7.0, 9.5)
    wall = _tinted(rng, rng.uniform(80, 190), 35)
    shade, glass = _darker(wall, 0.8), _tinted(rng, rng.uniform(45, 120), 18)
    back = z + length
    canvas.polygon([(face, 0, z), (face, height, z), (face, height, back), (face, 0, back)], shade, _BUILDING)
    canvas.polygon(
        [(face, 0, z), (face, height, z), (face + side * 9, height, z), (face + side * 9, 0, z)], wall, _BUILDING
    )
    if rng.random() < 0.5:
        ridge = height + rng.uniform(1.5, 3)
        roof = _tinted(rng, 85, 20)
        canvas.polygon(
            [(face, height, z), (face, height, back), (face + side * 4, ridge, back), (face + side * 4, ridge, z)],
            roof, _BUILDING,
        )  # fmt: skip
    for storey in range(storeys):
        low = 1.0 + storey * 3.1
        for pane in np.arange(z + 0.8, back - 1.4, 2.4):
            canvas.polygon(
                [(face, low, pane), (face, low + 1.5, pane), (face, low + 1.5, pane + 1.2), (face, low, pane + 1.2)],
                glass, _BUILDING,
            )  # fmt: skip
        for pane in (1.2, 3.6, 6.0):
            canvas.board(face + side * (pane + 0.6), z, low, low + 1.5, 1.2, glass, _BUILDING)


def _draw_tree(canvas: _Canvas, item: _Item) -> None:
    rng, z = item.rng, item.z
    x, height = item.side * rng.uniform(5.6, 8.0), rng.uniform(3.5, 7.5)
    leaf = (rng.uniform(30, 70), rng.uniform(70, 125), rng.uniform(50, 100))
    canvas.board(x, z, 0, height * 0.6, 0.28, (50, 70, 85), _TREE)
    for _ in range(9):
        spread = height * 0.26
        canvas.disc(
            x + rng.uniform(-spread, spread), height * rng.uniform(0.5, 1.0), z,
            height * rng.uniform(0.12, 0.24), _darker(leaf, rng.uniform(0.65, 1.25)), _TREE,
        )  # fmt: skip


def _draw_lamp(canvas: _Canvas, item: _Item) -> None:
    rng, z = item.rng, item.z
    x, height = item.side * rng.uniform(4.6, 5.2), rng.uniform(5.0, 8.0)
    colour = _tinted(rng, rng.uniform(50, 130), 10)
    canvas.board(x, z, 0, height, 0.17, colour, _POLE)
    canvas.limb((x, height, z), (x - item.side * 1.5, height + 0.2, z), 0.12, colour, _POLE)


def _draw_sign(canvas: _Canvas, item: _Item) -> None:
    rng, z = item.rng, item.z
    x, height = item.side * rng.uniform(4.5, 5.3), rng.uniform(2.3, 3.4)
    canvas.board(x, z, 0, height, 0.1, (110, 110, 112), _POLE)
    paint = ((40, 40, 200), (190, 90, 30), (60, 190, 225), (70, 130, 40))[int(rng.integers(4))]
    if rng.random() < 0.5:
        canvas.disc(x, height, z, 0.45, paint, _SIGN)
        canvas.disc(x, height, z, 0.28, (240, 240, 240), _SIGN)
    else:
        tall, wide = rng.uniform(0.6, 1.1), rng.uniform(0.6, 1.4)
        canvas.board(x, z, height - tall, height, wide, paint, _SIGN)
        canvas.board(x, z, height - tall * 0.65, height - tall * 0.35, wide * 0.7, (240, 240, 240), _SIGN)


def _draw_fence(canvas: _Canvas, item: _Item) -> None:
    rng, z = item.rng, item.z
    x, height = item.side * rng.uniform(6.4, 6.8), rng.uniform(1.0, 1.7)
    colour = _tinted(rng, rng.uniform(60, 170), 25)
    canvas.polygon([(x, 0, z), (x, height, z), (x, height, z + 8), (x, 0, z + 8)], colour, _FENCE)
    dark = _darker(colour, 0.6)
    for bar in np.arange(z, z + 8, 0.5):
        canvas.polygon([(x, 0, bar), (x, height, bar), (x, height, bar + 0.12), (x, 0, bar + 0.12)], dark, _FENCE)


def _draw_parked_car(canvas: _Canvas, item: _Item) -> None:
    _draw_vehicle(canvas, item, item.side * 3.35)


def _draw_moving_car(canvas: _Canvas, item: _Item) -> None:
    _draw_vehicle(canvas, item, item.side * 1.7)


def _draw_vehicle(canvas: _Canvas, item: _Item, x: float) -> None:
    rng, z = item.rng, item.z
    paint = _tinted(rng, rng.uniform(30, 220), 40)
    side_paint, glass, rubber = _darker(paint, 0.75), (75.0, 68.0, 60.0), (28.0, 28.0, 30.0)
    wide, high, back = 0.9, rng.uniform(1.4, 1.8), z + rng.uniform(3.6, 4.6)
    waist = high * 0.55
    inner = x - wide if x > 0 else x + wide
    roof = [(inner, waist, z + 0.2), (inner, high, z + 0.7), (inner, high, back - 1), (inner, waist, back - 0.5)]
    canvas.board(x, z, 0, 0.5, 2 * wide - 0.1, rubber, _CAR)
    canvas.polygon([(inner, 0.2, z), (inner, waist, z), (inner, waist, back), (inner, 0.2, back)], side_paint, _CAR)
    canvas.polygon(roof, glass, _CAR)
    for axle in (z + 0.8, back - 0.9):
        canvas.polygon(
            [(inner, 0, axle - 0.3), (inner, 0.6, axle - 0.3), (inner, 0.6, axle + 0.3), (inner, 0, axle + 0.3)],
            rubber, _CAR,
        )  # fmt: skip
    canvas.polygon(
        [(x - wide * 0.8, high, z + 0.7), (x + wide * 0.8, high, z + 0.7), (x + wide, waist, z), (x - wide, waist, z)],
        glass, _CAR,
    )  # fmt: skip
    canvas.board(x, z, 0.25, waist, 2 * wide, paint, _CAR)
    lamp = (40.0, 40.0, 215.0) if item.side < 0 else (235.0, 240.0, 240.0)
    for offset in (-0.7, 0.7):
        canvas.board(x + offset, z, waist * 0.7, waist * 0.92, 0.3, lamp, _CAR)
    canvas.board(x, z, waist * 0.42, waist * 0.58, 0.5, (225, 230, 230), _CAR)


def _draw_pedestrian(canvas: _Canvas, item: _Item) -> None:
    rng, z = item.rng, item.z
    x, tall = item.side * rng.uniform(4.7, 6.2), rng.uniform(1.55, 1.9)
    coat, trousers = _tinted(rng, rng.uniform(30, 200), 60), _tinted(rng, rng.uniform(25, 110), 25)
    skin, stride = (125.0, 150.0, 195.0), 0.25 * math.sin(item.index * 0.35 + rng.uniform(0, 6.28))
    hip, shoulder = tall * 0.5, tall * 0.82
    for step in (-stride, stride):
        canvas.limb((x, hip, z), (x + step, 0.02, z), 0.17, trousers, _PEDESTRIAN)
        canvas.limb((x, shoulder - 0.05, z), (x - step * 1.1, hip, z), 0.11, coat, _PEDESTRIAN)
    canvas.board(x, z, hip - 0.1, shoulder, 0.44, coat, _PEDESTRIAN)
    canvas.disc(x, tall * 0.91, z, tall * 0.085, skin, _PEDESTRIAN)


def _draw_cyclist(canvas: _Canvas, item: _Item) -> None:
    rng, z = item.rng, item.z
    x = item.side * rng.uniform(2.6, 3.4)
    frame, coat = _tinted(rng, rng.uniform(30, 90), 40), _tinted(rng, rng.uniform(40, 210), 60)
    lean = rng.uniform(0.25, 0.6)
    for wheel in (-lean, lean):
        canvas.ring(x + wheel, 0.34, z, 0.33, frame, _BICYCLIST)
    canvas.limb((x - lean, 0.34, z), (x, 0.9, z), 0.06, frame, _BICYCLIST)
    canvas.limb((x + lean, 0.34, z), (x, 0.9, z), 0.06, frame, _BICYCLIST)
    swing = 0.12 * math.sin(item.index * 0.4)
    canvas.limb((x, 0.95, z), (x + 0.05, 0.35 + swing, z), 0.16, (60, 50, 45), _BICYCLIST)
    canvas.board(x, z, 0.9, 1.5, 0.42, coat, _BICYCLIST)
    canvas.limb((x, 1.4, z), (x + lean * 0.8, 1.05, z), 0.1, coat, _BICYCLIST)
    canvas.disc(x, 1.66, z, 0.15, (125, 150, 195), _BICYCLIST)


def _tinted(rng: np.random.Generator, grey: float, spread: float) -> _Colour:
    blue, green, red = np.clip(grey + rng.uniform(-spread, spread, 3), 10, 245)
    return float(blue), float(green), float(red)


def _darker(colour: _Colour, factor: float) -> _Colour:
    return min(colour[0] * factor, 255.0), min(colour[1] * factor, 255.0), min(colour[2] * factor, 255.0)


def _texture(seed: int) -> NDArray[np.float32]:
    """A fixed coarse pattern of dirt on everything, ``float [60, 80]``."""
    return np.random.default_rng([seed, 5]).standard_normal((60, 80), dtype=np.float32)


# What stands: metres between slots, share of the slots filled, how it is drawn. Buildings always come at full density.
_STANDING: tuple[tuple[float, float, _Draw], ...] = (
    (13.0, 0.85, _draw_building),
    (11.0, 0.50, _draw_tree),
    (17.0, 0.80, _draw_lamp),
    (14.0, 0.60, _draw_sign),
    (8.0, 0.45, _draw_fence),
    (9.0, 0.50, _draw_parked_car),
    (7.0, 0.85, _draw_pedestrian),
    (21.0, 0.60, _draw_cyclist),
)
# What moves: metres between slots, share filled, metres a frame (against the camera where negative), how it is drawn.
_MOVING: tuple[tuple[float, float, float, _Draw], ...] = (
    (28.0, 0.7, -0.30, _draw_moving_car),
    (45.0, 0.7, 0.30, _draw_moving_car),
)

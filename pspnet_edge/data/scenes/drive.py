"""A procedural street drive with exact masks: a camera for machines that have none, and a data set with no root.

A scene is a pure function of ``(seed, index)``: any frame of any drive can be drawn alone, in any order, and two
machines draw the same pixels. Image and mask are painted by the same calls with hard edges, so the mask is exact;
light, haze, blur and sensor noise are then laid over the image alone.

World axes: x to the right, y up, z ahead, in metres; the camera drives along z on the left of the road.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ...labels import CAMVID
from .canvas import FAR, KERB, NEAR, PAVEMENT, ROAD, ROAD_HALF, SKY, Canvas, tinted
from .things import MOVING, STANDING, Item

SIZE_HW = (480, 640)
FRAMES_PER_SECOND = 30
_METRES_PER_FRAME = 0.35


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
        self.focal = width * rng.uniform(0.75, 1.05)
        self.horizon = height * rng.uniform(0.40, 0.52)
        self._light = rng.uniform(0.55, 1.1)
        self._warmth = rng.uniform(-0.08, 0.08)
        self.haze = rng.uniform(60.0, 220.0)
        self._overcast = rng.uniform(0.0, 1.0)
        self._noise = rng.uniform(1.0, 5.0)
        self._blur = rng.uniform(0.0, 0.9)
        self._bend = rng.uniform(2.0, 7.0)
        self._bend_phase = rng.uniform(0.0, 2 * math.pi)
        self._street_grey = rng.uniform(70, 125)
        self._paving = tinted(rng, rng.uniform(110, 175), 14)
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
        canvas = Canvas(self, camera_z)
        self._draw_sky(canvas, index)
        self._draw_ground(canvas)
        for item in sorted(self._items(index, camera_z), key=lambda item: -item.z):
            item.draw(canvas, item)
        return Frame(self._exposed(canvas.image, index), canvas.mask)

    def centre(self, z: float) -> float:
        """Where the middle of the road is at ``z``: a slow bend."""
        return self._bend * math.sin(z / 47.0 + self._bend_phase)

    # --- what is along the street -----------------------------------------------------------------------------

    def _items(self, index: int, camera_z: float) -> Iterator[Item]:
        for kind, (spacing, share, draw) in enumerate(STANDING):
            first = int(camera_z // spacing)
            last = int((camera_z + FAR) // spacing) + 1
            for slot in range(first, last):
                for side in (-1, 1):
                    rng = np.random.default_rng([self.seed, 1 + kind, slot + 10_000, side + 1])
                    if rng.random() < share * (self._density if kind else 1.0):
                        z = slot * spacing + rng.uniform(0, 0.2 * spacing)
                        yield Item(draw, z, side, rng, index)
        for kind, (spacing, share, speed, draw) in enumerate(MOVING):
            travelled = speed * index
            first = int((camera_z - travelled) // spacing)
            last = int((camera_z - travelled + FAR) // spacing) + 1
            for slot in range(first, last):
                rng = np.random.default_rng([self.seed, 40 + kind, slot + 1_000_000])
                if rng.random() < share * self._density:
                    z = slot * spacing + rng.uniform(0, 0.4 * spacing) + travelled
                    if z > camera_z + 5.0:
                        yield Item(draw, z, 1 if speed < 0 else -1, rng, index)

    # --- backdrop -------------------------------------------------------------------------------------------------

    def _draw_sky(self, canvas: Canvas, index: int) -> None:
        height, width = self.size_hw
        top = np.array([235, 190, 150]) * (1 - self._overcast) + np.array([225, 222, 220]) * self._overcast
        low = np.array([245, 235, 225])
        ramp = np.linspace(0, 1, height)[:, None, None] ** 0.7
        canvas.image[:] = (top * (1 - ramp) + low * ramp).astype(np.uint8)
        canvas.mask[:] = SKY
        rng = np.random.default_rng([self.seed, 99])
        for _ in range(int(10 * self._overcast) + 2):
            x = (rng.uniform(0, 1.4) * width + index * 0.15) % (1.4 * width) - 0.2 * width
            axes = (int(width * rng.uniform(0.06, 0.2)), int(height * rng.uniform(0.01, 0.05)))
            centre = (int(x), int(self.horizon * rng.uniform(0.05, 0.9)))
            grey = rng.uniform(215, 252)
            cv2.ellipse(canvas.image, centre, axes, 0, 0, 360, (grey, grey, grey), -1)

    def _draw_ground(self, canvas: Canvas) -> None:
        z = canvas.camera_z
        steps = [z + NEAR * (FAR / NEAR) ** (i / 23) for i in range(24)]
        verge = (70.0, 120.0, 105.0)
        for near, far in zip(steps[-2::-1], steps[:0:-1]):
            # Far strips first; what is beyond the pavement counts as pavement too: CamVid has no class for ground.
            for left, right, colour, label in (
                (-60.0, -KERB, verge, PAVEMENT),
                (KERB, 60.0, verge, PAVEMENT),
                (-KERB, -ROAD_HALF, self._paving, PAVEMENT),
                (ROAD_HALF, KERB, self._paving, PAVEMENT),
                (-ROAD_HALF, ROAD_HALF, (self._street_grey,) * 3, ROAD),
            ):
                canvas.ground(left, right, near, far, colour, label)
        for slot in range(int((z + FAR) // 6), int((z + NEAR) // 6), -1):
            canvas.ground(-0.08, 0.08, slot * 6.0, slot * 6.0 + 2.5, (215, 220, 222), ROAD)
        for near, far in zip(steps[-2::-1], steps[:0:-1]):
            for side in (-1, 1):
                edge = side * (ROAD_HALF - 0.25)
                canvas.ground(edge - 0.06, edge + 0.06, near, far, (190, 200, 205), ROAD)

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


def _texture(seed: int) -> NDArray[np.float32]:
    """A fixed coarse pattern of dirt on everything, ``float [60, 80]``."""
    return np.random.default_rng([seed, 5]).standard_normal((60, 80), dtype=np.float32)

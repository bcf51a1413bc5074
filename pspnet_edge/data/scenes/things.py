"""What is along the street and on it, each thing drawn from its own random generator."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .canvas import (
    BICYCLIST,
    BUILDING,
    CAR,
    FENCE,
    PEDESTRIAN,
    POLE,
    SIGN,
    TREE,
    Canvas,
    darker,
    tinted,
)


@dataclass(frozen=True)
class Item:
    """One thing: where it is and how it is drawn."""

    draw: Callable[[Canvas, Item], None]
    z: float
    side: int
    rng: np.random.Generator
    index: int


Draw = Callable[[Canvas, Item], None]


def _draw_building(canvas: Canvas, item: Item) -> None:
    rng, side, z = item.rng, item.side, item.z
    length, storeys = rng.uniform(9, 12.5), int(rng.integers(2, 6))
    height, face = storeys * 3.1 + 0.8, side * rng.uniform(7.0, 9.5)
    wall = tinted(rng, rng.uniform(80, 190), 35)
    shade, glass = darker(wall, 0.8), tinted(rng, rng.uniform(45, 120), 18)
    back = z + length
    canvas.polygon([(face, 0, z), (face, height, z), (face, height, back), (face, 0, back)], shade, BUILDING)
    canvas.polygon(
        [(face, 0, z), (face, height, z), (face + side * 9, height, z), (face + side * 9, 0, z)], wall, BUILDING
    )
    if rng.random() < 0.5:
        ridge = height + rng.uniform(1.5, 3)
        roof = tinted(rng, 85, 20)
        canvas.polygon(
            [(face, height, z), (face, height, back), (face + side * 4, ridge, back), (face + side * 4, ridge, z)],
            roof, BUILDING,
        )  # fmt: skip
    for storey in range(storeys):
        low = 1.0 + storey * 3.1
        for pane in np.arange(z + 0.8, back - 1.4, 2.4):
            canvas.polygon(
                [(face, low, pane), (face, low + 1.5, pane), (face, low + 1.5, pane + 1.2), (face, low, pane + 1.2)],
                glass, BUILDING,
            )  # fmt: skip
        for pane in (1.2, 3.6, 6.0):
            canvas.board(face + side * (pane + 0.6), z, low, low + 1.5, 1.2, glass, BUILDING)


def _draw_tree(canvas: Canvas, item: Item) -> None:
    rng, z = item.rng, item.z
    x, height = item.side * rng.uniform(5.6, 8.0), rng.uniform(3.5, 7.5)
    leaf = (rng.uniform(30, 70), rng.uniform(70, 125), rng.uniform(50, 100))
    canvas.board(x, z, 0, height * 0.6, 0.28, (50, 70, 85), TREE)
    for _ in range(9):
        spread = height * 0.26
        canvas.disc(
            x + rng.uniform(-spread, spread), height * rng.uniform(0.5, 1.0), z,
            height * rng.uniform(0.12, 0.24), darker(leaf, rng.uniform(0.65, 1.25)), TREE,
        )  # fmt: skip


def _draw_lamp(canvas: Canvas, item: Item) -> None:
    rng, z = item.rng, item.z
    x, height = item.side * rng.uniform(4.6, 5.2), rng.uniform(5.0, 8.0)
    colour = tinted(rng, rng.uniform(50, 130), 10)
    canvas.board(x, z, 0, height, 0.17, colour, POLE)
    canvas.limb((x, height, z), (x - item.side * 1.5, height + 0.2, z), 0.12, colour, POLE)


def _draw_sign(canvas: Canvas, item: Item) -> None:
    rng, z = item.rng, item.z
    x, height = item.side * rng.uniform(4.5, 5.3), rng.uniform(2.3, 3.4)
    canvas.board(x, z, 0, height, 0.1, (110, 110, 112), POLE)
    paint = ((40, 40, 200), (190, 90, 30), (60, 190, 225), (70, 130, 40))[int(rng.integers(4))]
    if rng.random() < 0.5:
        canvas.disc(x, height, z, 0.45, paint, SIGN)
        canvas.disc(x, height, z, 0.28, (240, 240, 240), SIGN)
    else:
        tall, wide = rng.uniform(0.6, 1.1), rng.uniform(0.6, 1.4)
        canvas.board(x, z, height - tall, height, wide, paint, SIGN)
        canvas.board(x, z, height - tall * 0.65, height - tall * 0.35, wide * 0.7, (240, 240, 240), SIGN)


def _draw_fence(canvas: Canvas, item: Item) -> None:
    rng, z = item.rng, item.z
    x, height = item.side * rng.uniform(6.4, 6.8), rng.uniform(1.0, 1.7)
    colour = tinted(rng, rng.uniform(60, 170), 25)
    canvas.polygon([(x, 0, z), (x, height, z), (x, height, z + 8), (x, 0, z + 8)], colour, FENCE)
    dark = darker(colour, 0.6)
    for bar in np.arange(z, z + 8, 0.5):
        canvas.polygon([(x, 0, bar), (x, height, bar), (x, height, bar + 0.12), (x, 0, bar + 0.12)], dark, FENCE)


def _draw_parked_car(canvas: Canvas, item: Item) -> None:
    _draw_vehicle(canvas, item, item.side * 3.35)


def _draw_moving_car(canvas: Canvas, item: Item) -> None:
    _draw_vehicle(canvas, item, item.side * 1.7)


def _draw_vehicle(canvas: Canvas, item: Item, x: float) -> None:
    rng, z = item.rng, item.z
    paint = tinted(rng, rng.uniform(30, 220), 40)
    side_paint, glass, rubber = darker(paint, 0.75), (75.0, 68.0, 60.0), (28.0, 28.0, 30.0)
    wide, high, back = 0.9, rng.uniform(1.4, 1.8), z + rng.uniform(3.6, 4.6)
    waist = high * 0.55
    inner = x - wide if x > 0 else x + wide
    roof = [(inner, waist, z + 0.2), (inner, high, z + 0.7), (inner, high, back - 1), (inner, waist, back - 0.5)]
    canvas.board(x, z, 0, 0.5, 2 * wide - 0.1, rubber, CAR)
    canvas.polygon([(inner, 0.2, z), (inner, waist, z), (inner, waist, back), (inner, 0.2, back)], side_paint, CAR)
    canvas.polygon(roof, glass, CAR)
    for axle in (z + 0.8, back - 0.9):
        canvas.polygon(
            [(inner, 0, axle - 0.3), (inner, 0.6, axle - 0.3), (inner, 0.6, axle + 0.3), (inner, 0, axle + 0.3)],
            rubber, CAR,
        )  # fmt: skip
    canvas.polygon(
        [(x - wide * 0.8, high, z + 0.7), (x + wide * 0.8, high, z + 0.7), (x + wide, waist, z), (x - wide, waist, z)],
        glass, CAR,
    )  # fmt: skip
    canvas.board(x, z, 0.25, waist, 2 * wide, paint, CAR)
    lamp = (40.0, 40.0, 215.0) if item.side < 0 else (235.0, 240.0, 240.0)
    for offset in (-0.7, 0.7):
        canvas.board(x + offset, z, waist * 0.7, waist * 0.92, 0.3, lamp, CAR)
    canvas.board(x, z, waist * 0.42, waist * 0.58, 0.5, (225, 230, 230), CAR)


def _draw_pedestrian(canvas: Canvas, item: Item) -> None:
    rng, z = item.rng, item.z
    x, tall = item.side * rng.uniform(4.7, 6.2), rng.uniform(1.55, 1.9)
    coat, trousers = tinted(rng, rng.uniform(30, 200), 60), tinted(rng, rng.uniform(25, 110), 25)
    skin, stride = (125.0, 150.0, 195.0), 0.25 * math.sin(item.index * 0.35 + rng.uniform(0, 6.28))
    hip, shoulder = tall * 0.5, tall * 0.82
    for step in (-stride, stride):
        canvas.limb((x, hip, z), (x + step, 0.02, z), 0.17, trousers, PEDESTRIAN)
        canvas.limb((x, shoulder - 0.05, z), (x - step * 1.1, hip, z), 0.11, coat, PEDESTRIAN)
    canvas.board(x, z, hip - 0.1, shoulder, 0.44, coat, PEDESTRIAN)
    canvas.disc(x, tall * 0.91, z, tall * 0.085, skin, PEDESTRIAN)


def _draw_cyclist(canvas: Canvas, item: Item) -> None:
    rng, z = item.rng, item.z
    x = item.side * rng.uniform(2.6, 3.4)
    frame, coat = tinted(rng, rng.uniform(30, 90), 40), tinted(rng, rng.uniform(40, 210), 60)
    lean = rng.uniform(0.25, 0.6)
    for wheel in (-lean, lean):
        canvas.ring(x + wheel, 0.34, z, 0.33, frame, BICYCLIST)
    canvas.limb((x - lean, 0.34, z), (x, 0.9, z), 0.06, frame, BICYCLIST)
    canvas.limb((x + lean, 0.34, z), (x, 0.9, z), 0.06, frame, BICYCLIST)
    swing = 0.12 * math.sin(item.index * 0.4)
    canvas.limb((x, 0.95, z), (x + 0.05, 0.35 + swing, z), 0.16, (60, 50, 45), BICYCLIST)
    canvas.board(x, z, 0.9, 1.5, 0.42, coat, BICYCLIST)
    canvas.limb((x, 1.4, z), (x + lean * 0.8, 1.05, z), 0.1, coat, BICYCLIST)
    canvas.disc(x, 1.66, z, 0.15, (125, 150, 195), BICYCLIST)


# What is fixed: metres between slots, share of the slots filled, how it is drawn. Buildings come at full density.
STANDING: tuple[tuple[float, float, Draw], ...] = (
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
MOVING: tuple[tuple[float, float, float, Draw], ...] = (
    (28.0, 0.7, -0.30, _draw_moving_car),
    (45.0, 0.7, 0.30, _draw_moving_car),
)

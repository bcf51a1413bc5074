"""Polygons, boxes and run lengths → pixels, by the rule of the format that they come from."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ...lazy import available, require

Points = NDArray[np.float64]


def as_points(values: Any) -> Points:
    """Corners ``float [N, 2]`` as (x, y), from pairs or a flat list.

    Raises:
        ValueError: not finite numbers in pairs.
    """
    try:
        points = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError("its corners are not numbers") from error
    if points.ndim == 1 and points.size % 2 == 0:
        points = points.reshape(-1, 2)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all() or np.abs(points).max(initial=0) > 1e7:
        raise ValueError("its corners are not pairs of finite numbers")
    return points


def box_ring(x0: float, y0: float, x1: float, y1: float, degrees: float = 0.0) -> Points:
    """The corners of a box that is turned clockwise, as one sees it, about its middle."""
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    return as_points((corners - middle) @ _turned(degrees) + middle)


def ellipse_ring(x: float, y: float, rx: float, ry: float, degrees: float = 0.0) -> Points:
    """Corners on an ellipse whose axes are turned clockwise, as one sees it, about its centre."""
    angles = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    return as_points(np.stack([np.cos(angles) * rx, np.sin(angles) * ry], 1) @ _turned(degrees) + (x, y))


def _turned(degrees: float) -> NDArray[np.float64]:
    """What rows of x and y are multiplied by to turn them clockwise, with y downwards."""
    turn = np.deg2rad(degrees)
    return np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])


def fill_inclusive(mask: NDArray[Any], rings: Sequence[Points], value: int) -> None:
    """Fill polygons whose corners are pixels, border included, with even-odd holes: OpenCV's and Supervisely's rule."""
    covered = np.zeros(mask.shape, np.uint8)
    cv2.fillPoly(covered, [np.rint(ring).astype(np.int32) for ring in rings], (1,))
    mask[covered.astype(bool)] = value


LABELME_LINE_PX = 10
"""labelme draws lines this wide, and points with half of it as their radius."""


def fill_labelme(mask: NDArray[Any], kind: str, points: Points, value: int) -> None:
    """Fill a shape as labelme draws it: with Pillow, where it is installed, else as near as OpenCV comes.

    Raises:
        ValueError: a shape of that kind does not have that many points, or has no area.
    """
    if kind == "rotation" or (kind == "rectangle" and len(points) == 4):
        kind = "oriented_rectangle"  # as X-AnyLabeling writes them
    counts = {"polygon": range(3, 1 << 30), "oriented_rectangle": range(4, 5), "rectangle": range(2, 3)}
    counts |= {"circle": range(2, 3), "line": range(2, 3), "linestrip": range(2, 1 << 30), "point": range(1, 2)}
    if kind not in counts or len(points) not in counts[kind]:
        raise ValueError(f"a {kind} with {len(points)} points is not an area")
    radius = LABELME_LINE_PX / 2 if kind == "point" else float(np.hypot(*(points[-1] - points[0])))
    round_box = (*(points[0] - radius).tolist(), *(points[0] + radius).tolist())
    corners = [(float(x), float(y)) for x, y in points]
    if available("PIL"):
        canvas = require("PIL.Image", "draw labelme's shapes").new("1", (mask.shape[1], mask.shape[0]), 0)
        brush = require("PIL.ImageDraw", "draw labelme's shapes").Draw(canvas)
        if kind in ("circle", "point"):
            brush.ellipse(round_box, outline=1, fill=1)
        elif kind == "rectangle":
            brush.rectangle((*points.min(0).tolist(), *points.max(0).tolist()), outline=1, fill=1)
        elif kind in ("line", "linestrip"):
            brush.line(corners, fill=1, width=LABELME_LINE_PX)
        else:
            brush.polygon(corners, outline=1, fill=1)
        mask[np.asarray(canvas, bool)] = value
        return
    covered = np.zeros(mask.shape, np.uint8)
    pixels = np.rint(points).astype(np.int32)
    if kind in ("circle", "point"):
        cv2.circle(covered, (int(pixels[0, 0]), int(pixels[0, 1])), min(round(radius), 1 << 14), (1,), -1)
    elif kind == "rectangle":
        low, high = pixels.min(0).tolist(), pixels.max(0).tolist()
        cv2.rectangle(covered, (low[0], low[1]), (high[0], high[1]), (1,), -1)
    elif kind in ("line", "linestrip"):
        cv2.polylines(covered, [pixels], False, (1,), LABELME_LINE_PX)
    else:
        cv2.fillPoly(covered, [pixels], (1,))
    mask[covered.astype(bool)] = value


def fill_coco(mask: NDArray[Any], rings: Sequence[Points], value: int) -> None:
    """Fill polygons whose corners lie between pixels: COCO's rule, by its own library where it is installed."""
    height, width = mask.shape
    if available("pycocotools"):
        coco = require("pycocotools.mask", "draw COCO's polygons")
        with warnings.catch_warnings():
            # Some of its builds are older than numpy 2 and warn about how they hand over arrays.
            warnings.simplefilter("ignore", DeprecationWarning)
            runs = coco.frPyObjects([ring.ravel().tolist() for ring in rings if len(ring) >= 3], height, width)
            if runs:
                mask[coco.decode(coco.merge(runs)).astype(bool)] = value
        return
    for ring in rings:
        _fill_centres(mask, ring, value)


def _fill_centres(mask: NDArray[Any], ring: Points, value: int) -> None:
    """Fill the pixels whose centre is inside; differs from COCO's library in single pixels of slanted edges."""
    starts, ends = ring, np.roll(ring, -1, axis=0)
    first = max(0, math.floor(ring[:, 1].min()))
    for row in range(first, min(mask.shape[0], math.ceil(ring[:, 1].max()))):
        y = row + 0.5
        crosses = (starts[:, 1] <= y) != (ends[:, 1] <= y)
        a, b = starts[crosses], ends[crosses]
        places = np.sort(a[:, 0] + (y - a[:, 1]) * (b[:, 0] - a[:, 0]) / (b[:, 1] - a[:, 1]))
        for left, right in zip(places[::2], places[1::2]):
            mask[row, max(0, math.ceil(left - 0.5)) : max(0, math.ceil(right - 0.5))] = value


def decode_coco_runs(counts: Any, height: int, width: int) -> NDArray[np.bool_]:
    """COCO's run lengths, as a list or in their compressed text, column by column.

    Source of the text form: https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.h.

    Raises:
        ValueError: they are not runs of that many pixels.
    """
    runs = _runs_of_text(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(isinstance(run, int) and 0 <= run <= height * width for run in runs):
        raise ValueError("its run lengths are not a list of numbers or COCO's text")
    if sum(runs) != height * width:
        raise ValueError(f"its run lengths cover {sum(runs)} pixels of {height * width}")
    values = np.arange(len(runs)) % 2 == 1
    return np.asarray(np.repeat(values, runs).reshape(width, height).T, np.bool_)


def _runs_of_text(text: str) -> list[int]:
    """Five bits per character, low ones first; from the third run on, the difference from the run two before."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            raise ValueError("its run lengths are damaged")
        value |= (code & 0x1F) << shift
        shift += 5
        if not code & 0x20:
            if code & 0x10:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs


def decode_brush(numbers: Any, height: int, width: int) -> NDArray[np.bool_]:
    """Label Studio's brush strokes: a bit stream of runs of RGBA values, whose alpha is the stroke.

    The stream begins with the count of values (32 bits), the bits of a value less one (5) and of four run sizes less
    one (4 each). A run is a bit (1: one value for all; 0: a value for each), two bits that choose the size, the length
    less one.

    Raises:
        ValueError: it is damaged, or not of that many pixels.
    """
    try:
        content = np.asarray(numbers)
        if content.ndim != 1 or content.size == 0 or content.min() < 0 or content.max() > 255:
            raise ValueError("its brush strokes are not a list of bytes")
        bits = _Bits(bytes(content.astype(np.uint8).tolist()))
        count = bits.read(32)
        if count != height * width * 4:
            raise ValueError(f"its brush strokes have {count} values, and its image {height * width * 4}")
        word = bits.read(5) + 1
        sizes = [bits.read(4) + 1 for _ in range(4)]
        values = np.zeros(count, np.uint8)
        place = 0
        while place < count:
            is_run = bits.read(1)
            length = bits.read(sizes[bits.read(2)]) + 1
            if place + length > count:
                raise ValueError("its brush strokes are damaged")
            if is_run:
                values[place : place + length] = bits.read(word)
            else:
                for offset in range(length):
                    values[place + offset] = bits.read(word)
            place += length
    except (TypeError, OverflowError) as error:
        raise ValueError("its brush strokes are damaged") from error
    return np.asarray(values.reshape(height, width, 4)[..., 3] > 0)


class _Bits:
    """Reads bits of a byte string, the high ones first."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._place = 0

    def read(self, count: int) -> int:
        end = self._place + count
        if end > 8 * len(self._content):
            raise ValueError("its brush strokes are cut short")
        first, last = self._place // 8, (end + 7) // 8
        window = int.from_bytes(self._content[first:last], "big")
        self._place = end
        return window >> (8 * last - end) & ((1 << count) - 1)

"""Between a picture's size and an engine's: how frames go in and how masks come back to the right pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError, one_of
from ..inputs import as_whole
from ..records import JsonRecord

FITS = ("stretch", "letterbox", "crop")
"""How a region of another shape goes into the engine: changed in shape, with a margin around it, or its middle only."""
UNKNOWN = 255
"""Class id of the pixels that no engine looked at."""
MARGIN = 114
"""Grey of the margin: about the mean that networks subtract."""
_OVERLAP = 1 / 16
"""Share of a tile that its neighbour sees too, at least. More costs time and brings nothing: on CamVid at twice its
size mIoU is 0.688 from no overlap up to an eighth, and 0.687 for a quarter and a half."""

FLIPS = ("none", "180", "horizontal", "vertical", "90", "270")
"""How a picture may be turned: by degrees clockwise, or mirrored left to right (horizontal) or top to bottom."""
_ROTATIONS = {"90": cv2.ROTATE_90_CLOCKWISE, "180": cv2.ROTATE_180, "270": cv2.ROTATE_90_COUNTERCLOCKWISE}


def turned(frame: NDArray[np.uint8], flip: str) -> NDArray[np.uint8]:
    """A frame ``uint8 [H, W, C]`` or mask ``uint8 [H, W]`` turned as one of ``FLIPS`` says; itself for ``none``."""
    if flip == "none":
        return frame
    if flip in _ROTATIONS:
        return np.asarray(cv2.rotate(frame, _ROTATIONS[flip]), np.uint8)
    return np.asarray(cv2.flip(frame, 1 if flip == "horizontal" else 0), np.uint8)


def frame_at(frame: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """A frame ``uint8 [H, W, C]`` stretched to ``size_hw``: averaged when it shrinks to less than half, else bilinear.

    Bilinear reads two pixels a side, so down to half the size it leaves none out, at a sixth of the time.
    """
    if frame.shape[:2] == size_hw:
        return frame
    # Averaging is defined for shrinking alone: where one side grows, OpenCV takes bilinear for both.
    method = cv2.INTER_AREA if is_averaged((frame.shape[0], frame.shape[1]), size_hw) else cv2.INTER_LINEAR
    resized = np.asarray(cv2.resize(frame, size_hw[::-1], interpolation=method), np.uint8)
    # OpenCV drops the axis of a single channel.
    return resized.reshape(*size_hw, *frame.shape[2:])


def is_averaged(source_hw: tuple[int, int], size_hw: tuple[int, int]) -> bool:
    """Whether bilinear would leave out pixels of a picture of ``source_hw`` that is stretched to ``size_hw``."""
    return source_hw[0] > 2 * size_hw[0] or source_hw[1] > 2 * size_hw[1]


def mask_at(mask: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """A mask ``uint8 [H, W]`` at another size; ids are taken from the nearest pixel."""
    if mask.shape == size_hw:
        return mask
    return np.asarray(cv2.resize(mask, size_hw[::-1], interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)


@dataclass(frozen=True)
class Box:
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right`` of an array, the ends excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size_hw(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.bottom - self.top, self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """For indexing an array ``[H, W, …]``."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


@dataclass(frozen=True)
class Window:
    """One pass through the engine."""

    source: Box
    """What it sees of the frame."""
    inner: Box
    """Where that lies in the engine's input; a margin is around it."""
    target: Box
    """The pixels of the frame that take their ids from it: inside ``source``."""


def engine_input(frame: NDArray[np.uint8], window: Window, engine_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """What an engine gets of a frame ``uint8 [H, W, C]``: ``uint8 [h, w, C]``, perhaps a view of it."""
    piece = frame_at(frame[window.source.slices], window.inner.size_hw)
    if window.inner.size_hw == engine_hw:
        return piece
    filled = np.full((*engine_hw, *frame.shape[2:]), MARGIN, np.uint8)
    filled[window.inner.slices] = piece
    return filled


@dataclass(frozen=True)
class Layout:
    """The windows of one frame. Made by ``Geometry.layout``."""

    frame_hw: tuple[int, int]
    engine_hw: tuple[int, int]
    windows: tuple[Window, ...]

    def inputs(self, frame: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
        """The engine's inputs ``uint8 [h, w, C]``, one for each window; of a whole frame of its size the frame itself.

        Args:
            frame: ``uint8 [H, W, C]`` of ``frame_hw``.
        """
        return (engine_input(frame, window, self.engine_hw) for window in self.windows)

    def mask(self, masks: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """The frame's mask from those of its windows: a new array of any size, to be stretched over the frame.

        Args:
            masks: ``uint8 [h, w]``, one for each window.
        """
        if self._is_whole:
            whole: NDArray[np.uint8] = masks[0][self.windows[0].inner.slices].copy()
            return whole
        found = self.empty_mask()
        for window, mask in zip(self.windows, masks, strict=True):
            self.put(found, window, mask)
        return found

    def empty_mask(self) -> NDArray[np.uint8]:
        """A mask of the frame's size with every pixel unknown, for ``put``."""
        return np.full(self.frame_hw, UNKNOWN, np.uint8)

    @staticmethod
    def put(found: NDArray[np.uint8], window: Window, mask: NDArray[np.uint8]) -> None:
        """Write the ids of one window into a mask of the frame's size."""
        seen = mask_at(mask[window.inner.slices], window.source.size_hw)
        top, left = window.target.top - window.source.top, window.target.left - window.source.left
        height, width = window.target.size_hw
        found[window.target.slices] = seen[top : top + height, left : left + width]

    @property
    def _is_whole(self) -> bool:
        """Whether one window sees the whole frame."""
        return len(self.windows) == 1 and self.windows[0].target == Box(0, 0, *self.frame_hw)


@dataclass(frozen=True)
class Geometry(JsonRecord):
    """How frames of any size go into an engine of one size.

    Args:
        fit: one of ``FITS``.
        roi: left, top, width and height of the only part of the frame to segment; the rest of the mask is 255.
        tiles: cut the frame into overlapping pieces of the engine's size and segment each at its own scale. Where two
            overlap a pixel takes its id from the one in which it is farther from the edge.

    Raises:
        OptionError: an unknown fit, a part without pixels, or tiles with a fit.
    """

    fit: str = "stretch"
    roi: tuple[int, int, int, int] | None = None
    tiles: bool = False

    def __post_init__(self) -> None:
        one_of(self.fit, FITS, "fit", "fit")
        if self.roi is not None:
            object.__setattr__(self, "roi", self._checked_roi(self.roi))
        if not isinstance(self.tiles, bool):
            raise OptionError(f"{self.tiles!r:.60} is not a choice", "give True or False", parameter="tiles")
        if self.tiles and self.fit != "stretch":
            raise OptionError("tiles and fit exclude each other", "leave one out", parameter="tiles")

    @staticmethod
    def _checked_roi(roi: object) -> tuple[int, ...]:
        fix = "give X,Y,WIDTH,HEIGHT"
        if not isinstance(roi, (tuple, list)):
            raise OptionError(f"{roi!r:.60} is not a part of a frame", fix, parameter="roi")
        whole = [as_whole(side, "roi") for side in roi]
        if len(whole) != 4 or min(whole[:2]) < 0 or min(whole[2:]) < 1:
            raise OptionError(f"{','.join(map(str, whole))} is not a part of a frame", fix, parameter="roi")
        return tuple(whole)

    @property
    def is_plain(self) -> bool:
        """Whether the whole frame is stretched into the engine."""
        return self == Geometry()

    def layout(self, frame_hw: tuple[int, int], engine_hw: tuple[int, int]) -> Layout:
        """The windows of frames of a size.

        Args:
            frame_hw: the frame's rows and columns.
            engine_hw: the engine's.

        Raises:
            OptionError: the part lies outside the frame.
        """
        region = Box(0, 0, *frame_hw) if self.roi is None else self._region(self.roi, frame_hw)
        if self.tiles:
            return Layout(frame_hw, engine_hw, tuple(_tiles(region, engine_hw)))
        if self.fit == "crop":
            region = _middle(region, engine_hw)
        inner = _centred(_largest(region.size_hw, engine_hw), engine_hw) if self.fit == "letterbox" else None
        return Layout(frame_hw, engine_hw, (Window(region, inner or Box(0, 0, *engine_hw), region),))

    def _region(self, roi: tuple[int, int, int, int], frame_hw: tuple[int, int]) -> Box:
        left, top, width, height = roi
        region = Box(top, left, top + height, left + width)
        if region.bottom > frame_hw[0] or region.right > frame_hw[1]:
            raise OptionError(
                f"{','.join(map(str, roi))} does not lie inside the frame of {frame_hw[0]}x{frame_hw[1]} pixels",
                f"give X,Y,WIDTH,HEIGHT with X + WIDTH at most {frame_hw[1]} and Y + HEIGHT at most {frame_hw[0]}",
                parameter="roi",
            )
        return region


def roi_from_text(text: str | None) -> tuple[int, int, int, int] | None:
    """``10,20,640,480`` → (10, 20, 640, 480), and None → None.

    Raises:
        OptionError: it is not four whole numbers.
    """
    if text is None:
        return None
    numbers = text.split(",")
    if len(numbers) != 4 or not all(number.strip().isascii() and number.strip().isdecimal() for number in numbers):
        raise OptionError(f"{text!r} is not a part of a frame", "give X,Y,WIDTH,HEIGHT", parameter="roi")
    left, top, width, height = map(int, numbers)
    return left, top, width, height


def _largest(size_hw: tuple[int, int], into_hw: tuple[int, int]) -> tuple[int, int]:
    """The largest size of the same shape that fits."""
    scale = min(into_hw[0] / size_hw[0], into_hw[1] / size_hw[1])
    height, width = (min(limit, max(1, round(side * scale))) for side, limit in zip(size_hw, into_hw, strict=True))
    return height, width


def _centred(size_hw: tuple[int, int], in_hw: tuple[int, int]) -> Box:
    top, left = (in_hw[0] - size_hw[0]) // 2, (in_hw[1] - size_hw[1]) // 2
    return Box(top, left, top + size_hw[0], left + size_hw[1])


def _middle(region: Box, shape_hw: tuple[int, int]) -> Box:
    """The largest part of a region that has the shape of ``shape_hw``."""
    height, width = _largest(shape_hw, region.size_hw)
    inside = _centred((height, width), region.size_hw)
    return Box(
        region.top + inside.top, region.left + inside.left, region.top + inside.bottom, region.left + inside.right
    )


def _tiles(region: Box, tile_hw: tuple[int, int]) -> Iterator[Window]:
    """Tiles over a region, evenly spread; each pixel belongs to the tile in which it is farther from the edge."""
    rows, columns = (_spans(side, tile) for side, tile in zip(region.size_hw, tile_hw, strict=True))
    for top, bottom, own_top, own_bottom in rows:
        for left, right, own_left, own_right in columns:
            source = Box(region.top + top, region.left + left, region.top + bottom, region.left + right)
            target = Box(region.top + own_top, region.left + own_left, region.top + own_bottom, region.left + own_right)
            yield Window(source, _centred(source.size_hw, tile_hw), target)


def _spans(side: int, tile: int) -> list[tuple[int, int, int, int]]:
    """Start and end of each tile along one side, and of the pixels that are its own."""
    if side <= tile:
        return [(0, side, 0, side)]
    overlap = int(tile * _OVERLAP)
    count = -(-(side - overlap) // (tile - overlap))
    starts = [round(number * (side - tile) / (count - 1)) for number in range(count)]
    # Halfway through each overlap.
    cuts = [0, *((before + tile + after) // 2 for before, after in pairwise(starts)), side]
    return [(start, start + tile, cuts[number], cuts[number + 1]) for number, start in enumerate(starts)]


STRETCHED = Geometry()
"""The whole frame, stretched."""

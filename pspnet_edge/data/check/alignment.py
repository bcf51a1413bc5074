"""Whether the edges of a mask lie on edges of its image: shifted, mirrored and turned masks have another best place."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ...labels import IGNORE

_REACH = 8
_MOST_EDGES = 3000
_FEWEST_EDGES = 40


@dataclass(frozen=True)
class Alignment:
    """How well a mask fits.

    Each figure is the mean difference of grey between the two pixels of each mask edge, over that of all pixels of the
    image: about 1 where the mask has nothing to do with the image.

    ``shift`` is the (right, down) move of the mask in pixels at which it fits best. ``here_in_colour`` is ``here`` in
    the channel that shows the edges best, for red on green may have no contrast in grey.
    """

    here: float
    here_in_colour: float
    shift: tuple[int, int]
    shifted: float
    turned: str
    turned_fit: float


def alignment_of(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> Alignment | None:
    """Compare a mask ``uint8 [H, W]`` with its image ``uint8 [H, W, C]``; None where there are too few edges to
    tell."""
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if image.shape[2] == 3 else image[..., 0], np.float32)
    steps_x, steps_y, usual = _steps(grey)
    if usual < 1e-3 or min(mask.shape) <= 4 * _REACH:
        return None
    edges = _Edges.of(mask)
    if edges is None:
        return None
    fits = {
        (x, y): edges.fit(steps_x, steps_y, x, y) / usual
        for y in range(-_REACH, _REACH + 1)
        for x in range(-_REACH, _REACH + 1)
    }
    best = max(fits, key=lambda place: (fits[place], -abs(place[0]) - abs(place[1])))
    turns = {name: _fit_of(turned, steps_x, steps_y) / usual for name, turned in _turns(mask).items()}
    name = max(turns, key=lambda turn: turns[turn])
    return Alignment(fits[0, 0], _fit_in_colour(image, edges, fits[0, 0]), best, fits[best], name, turns[name])


def _steps(plane: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """Differences to the right and downwards, and their mean."""
    steps_x = np.abs(np.diff(plane, axis=1, append=plane[:, -1:]))
    steps_y = np.abs(np.diff(plane, axis=0, append=plane[-1:]))
    return steps_x, steps_y, float((steps_x.mean() + steps_y.mean()) / 2)


def _fit_in_colour(image: NDArray[np.uint8], edges: _Edges, best: float) -> float:
    """The best fit where the mask is, of grey (``best``) and the channels."""
    for channel in range(image.shape[2]):
        steps_x, steps_y, usual = _steps(np.asarray(image[..., channel], np.float32))
        if usual >= 1e-3:
            best = max(best, edges.fit(steps_x, steps_y, 0, 0) / usual)
    return best


@dataclass(frozen=True)
class _Edges:
    """Places between two pixels of different classes: to the right of (x, y) in ``across``, below it in ``along``."""

    across: tuple[NDArray[np.intp], NDArray[np.intp]]
    along: tuple[NDArray[np.intp], NDArray[np.intp]]

    @staticmethod
    def of(mask: NDArray[np.uint8]) -> _Edges | None:
        inner = mask[_REACH : -_REACH - 1, _REACH : -_REACH - 1]
        right = mask[_REACH : -_REACH - 1, _REACH + 1 : -_REACH]
        below = mask[_REACH + 1 : -_REACH, _REACH : -_REACH - 1]
        across = np.nonzero((inner != right) & (inner != IGNORE) & (right != IGNORE))
        along = np.nonzero((inner != below) & (inner != IGNORE) & (below != IGNORE))
        if len(across[0]) + len(along[0]) < _FEWEST_EDGES:
            return None
        return _Edges(_some(across), _some(along))

    def fit(self, steps_x: NDArray[np.float32], steps_y: NDArray[np.float32], x: int, y: int) -> float:
        total = count = 0.0
        for steps, (rows, columns) in ((steps_x, self.across), (steps_y, self.along)):
            if len(rows):
                total += float(steps[rows + y, columns + x].sum())
                count += len(rows)
        return total / count


def _some(places: tuple[NDArray[np.intp], ...]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    every = max(1, len(places[0]) // _MOST_EDGES)
    return places[0][::every] + _REACH, places[1][::every] + _REACH


def _turns(mask: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    turns = {"mirrored": mask[:, ::-1], "upside down": mask[::-1], "turned by 180°": mask[::-1, ::-1]}
    if mask.shape[0] == mask.shape[1]:
        turns |= {"transposed": mask.T, "turned by 90°": np.rot90(mask), "turned by 270°": np.rot90(mask, 3)}
    return turns


def _fit_of(mask: NDArray[np.uint8], steps_x: NDArray[np.float32], steps_y: NDArray[np.float32]) -> float:
    edges = _Edges.of(mask)
    return 0.0 if edges is None else edges.fit(steps_x, steps_y, 0, 0)

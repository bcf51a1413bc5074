"""What is measured on one pair of image and mask; the rules of ``rules.py`` judge it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ...labels import IGNORE
from ..exif import SWAPS_SIDES, UPRIGHT, orientation_of, turned
from ..files import FileSet
from ..image_file import as_frame, decode, read_encoded
from .alignment import Alignment, alignment_of

THUMB = 32
_SOLID = np.ones((7, 7), np.uint8)
_AROUND = np.ones((3, 3), np.uint8)
_MOST_PIXELS = 4_000_000
_SIDE_PX = 2
_DIRECTIONS = ((0, _SIDE_PX), (_SIDE_PX, 0), (_SIDE_PX, _SIDE_PX), (_SIDE_PX, -_SIDE_PX))
_OWN_COLOUR_LEVELS, _OWN_COLOUR_SHARE = 8, 0.15
"""Grey levels, and share of the contrast between its neighbours, by which a class differs from every mixture of them.

JPEG moves the colours beside an edge by less."""
_ELSEWHERE_PIXELS, _LOOKS_SO_SHARE = 20, 0.7


@dataclass
class PairFacts:
    """One pair. What could not be read is None, with its ``error``."""

    split: str
    index: int
    image_path: Path
    mask_path: Path
    image_error: str | None = None
    mask_error: str | None = None
    orientation: int = UPRIGHT
    deep: bool = False
    image_hw: tuple[int, int] | None = None
    mask_hw: tuple[int, int] | None = None
    blank: bool = False
    thumb: NDArray[np.uint8] | None = None
    pixels: NDArray[np.int64] | None = None
    """``int64 [256]``, how many pixels of the mask have each id."""
    solid_ignore: float = 0.0
    """The share of the mask that is IGNORE and has only IGNORE within 3 pixels."""
    slivers: int = 0
    """Pixels in thin lines whose id lies between those on the two sides."""
    sliver_share: float = 0.0
    """Of the places where distant ids meet, the share that has such a line between them."""
    small: dict[int, tuple[float, float]] | None = None
    """Class id → (pixels in objects smaller than a cell at the engine's size, all its pixels)."""
    alignment: Alignment | None = None
    stored_alignment: Alignment | None = None
    """Of the mask with the image as it is stored, where EXIF turns it."""


def measure_pair(dataset: FileSet, split: str, index: int, engine_hw: tuple[int, int]) -> PairFacts:
    """Read one pair and measure everything that a rule asks for."""
    image_path, mask_path = dataset.pairs[index]
    facts = PairFacts(split, index, image_path, mask_path)
    image = mask = None
    try:
        image = _measure_image(dataset, facts)
    except DataError as error:
        facts.image_error = str(error)
    try:
        mask = dataset.mask(index)
    except DataError as error:
        facts.mask_error = str(error)
    if mask is None:
        return facts
    facts.mask_hw = (mask.shape[0], mask.shape[1])
    fits = image is not None and image.shape[:2] == mask.shape and not facts.blank
    _measure_mask(mask, facts, engine_hw, image if fits else None)
    if image is not None and fits:
        facts.alignment = alignment_of(image, mask)
        if facts.orientation != UPRIGHT and facts.orientation not in SWAPS_SIDES:
            # 2, 3 and 4 undo themselves.
            facts.stored_alignment = alignment_of(turned(image, facts.orientation), mask)
    return facts


def _measure_image(dataset: FileSet, facts: PairFacts) -> NDArray[np.uint8]:
    encoded = read_encoded(facts.image_path)
    facts.orientation = orientation_of(encoded)
    decoded = decode(facts.image_path, encoded, dataset.wanted_pixels.channels)
    facts.deep = decoded.dtype != np.uint8
    image = as_frame(facts.image_path, decoded, dataset.pixels if facts.deep else dataset.wanted_pixels)
    facts.image_hw = (image.shape[0], image.shape[1])
    facts.blank = int(image.max()) - int(image.min()) <= 2
    grey = np.asarray(image[..., 0] if image.shape[2] == 1 else image[..., :3].mean(axis=2), np.uint8)
    facts.thumb = np.asarray(cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA), np.uint8)
    return image


def _measure_mask(
    mask: NDArray[np.uint8], facts: PairFacts, engine_hw: tuple[int, int], image: NDArray[np.uint8] | None
) -> None:
    facts.pixels = np.bincount(mask.ravel(), minlength=256).astype(np.int64)
    facts.solid_ignore = solid_ignore_of(mask)
    if int((facts.pixels[:IGNORE] > 0).sum()) >= 2:
        facts.slivers, facts.sliver_share = _slivers(mask, image)
    facts.small = _small_objects(mask, engine_hw)


def solid_ignore_of(mask: NDArray[np.uint8]) -> float:
    """The share of a mask that is IGNORE and has only IGNORE within 3 pixels."""
    ignored = np.asarray(mask == IGNORE, np.uint8)
    if not ignored.any():
        return 0.0
    # What is beyond the border does not count against an area that touches it.
    solid = cv2.erode(ignored, _SOLID, borderType=cv2.BORDER_CONSTANT, borderValue=(1,))
    return float(np.asarray(solid).mean())


def _slivers(mask: NDArray[np.uint8], image: NDArray[np.uint8] | None) -> tuple[int, float]:
    """Thin lines of in-between ids, as interpolation and JPEG leave them along edges."""
    known = np.asarray(mask != IGNORE)
    low = np.asarray(cv2.erode(mask, _AROUND))
    high = np.asarray(cv2.dilate(np.where(known, mask, 0).astype(np.uint8), _AROUND))
    between = known & (mask > low) & (mask < high)
    if not between.any():
        return 0, 0.0
    ids = np.unique(mask[between])
    ghost = np.zeros(mask.shape, bool)
    for value in ids:
        area = np.asarray(mask == value, np.uint8)
        thin = area.astype(bool) & ~np.asarray(cv2.morphologyEx(area, cv2.MORPH_OPEN, _AROUND)).astype(bool)
        ghost |= thin & between
    sides = _sides(mask)
    ghost &= sides.between
    slivers = int(ghost.sum()) - (0 if image is None else _with_a_colour_of_their_own(ghost, sides, mask, image))
    # Where a quarter of the mask is thin it has no edges to speak of.
    if slivers == 0 or slivers > mask.size // 4:
        return 0, 0.0
    right, below = np.abs(np.diff(mask.astype(np.int16), axis=1)), np.abs(np.diff(mask.astype(np.int16), axis=0))
    both_known_x, both_known_y = known[:, 1:] & known[:, :-1], known[1:] & known[:-1]
    distant = int(((right >= 2) & both_known_x).sum()) + int(((below >= 2) & both_known_y).sum())
    return slivers, slivers / (slivers + distant)


@dataclass(frozen=True)
class _Sides:
    """``between`` where an id lies between those two pixels away on opposite sides, and nowhere between equal ones.

    A pole or a letter has the same class on both sides; what interpolation leaves along an edge has not. ``direction``
    is an index into ``_DIRECTIONS``, which says where the sides are.
    """

    between: NDArray[np.bool_]
    direction: NDArray[np.uint8]


def _sides(mask: NDArray[np.uint8]) -> _Sides:
    padded = np.pad(mask.astype(np.int16), _SIDE_PX, mode="edge")
    rows, columns = mask.shape
    between, alike = np.zeros(mask.shape, bool), np.zeros(mask.shape, bool)
    direction = np.zeros(mask.shape, np.uint8)
    for number, (down, right) in enumerate(_DIRECTIONS):
        one, other = (padded[_SIDE_PX + sign * down :, _SIDE_PX + sign * right :][:rows, :columns] for sign in (1, -1))
        here = (np.minimum(one, other) < mask) & (mask < np.maximum(one, other))
        direction[here & ~between] = number
        between |= here
        alike |= (one == other) & (one != mask)
    return _Sides(np.asarray(between & ~alike), direction)


def _with_a_colour_of_their_own(
    ghost: NDArray[np.bool_], sides: _Sides, mask: NDArray[np.uint8], image: NDArray[np.uint8]
) -> int:
    """How many of the pixels are of a class whose colour there is not a mixture of those on the two sides.

    Nor need it be one where most of them have the colour of the class elsewhere and not of a side. Such a class is
    drawn as an outline, or is one; interpolation of the mask does not change the image.
    """
    y, x = np.nonzero(ghost)
    step = np.asarray(_DIRECTIONS)[sides.direction[ghost]]

    def colours(sign: int) -> NDArray[np.float64]:
        rows = np.clip(y + sign * step[:, 0], 0, mask.shape[0] - 1)
        columns = np.clip(x + sign * step[:, 1], 0, mask.shape[1] - 1)
        return np.asarray(image[rows, columns], np.float64)

    here, one, other = colours(0), colours(1), colours(-1)
    across = other - one
    to_side = np.minimum(np.linalg.norm(here - one, axis=1), np.linalg.norm(here - other, axis=1))
    share = ((here - one) * across).sum(1) / np.maximum((across**2).sum(1), 1)
    beside = here - one - np.clip(share, 0, 1)[:, None] * across
    own = 0
    for value in np.unique(mask[ghost]):
        at = mask[ghost] == value
        off, contrast = beside[at], float(np.median(np.linalg.norm(across[at], axis=1)))
        least = max(_OWN_COLOUR_LEVELS, _OWN_COLOUR_SHARE * contrast, float(np.linalg.norm(off.std(0))))
        elsewhere = image[(mask == value) & ~ghost]
        usual = elsewhere.mean(0) if len(elsewhere) >= _ELSEWHERE_PIXELS else np.inf
        looks_so = float((np.linalg.norm(here[at] - usual, axis=1) < to_side[at]).mean()) > _LOOKS_SO_SHARE
        own += len(off) if looks_so or float(np.linalg.norm(off.mean(0))) > least else 0
    return own


def _small_objects(mask: NDArray[np.uint8], engine_hw: tuple[int, int]) -> dict[int, tuple[float, float]]:
    """Per class, how many of its pixels belong to objects under 8 × 8 pixels at the engine's size."""
    every = int(np.ceil(np.sqrt(mask.size / _MOST_PIXELS)))
    if every > 1:
        mask = np.ascontiguousarray(mask[::every, ::every])
    scale = (engine_hw[0] / mask.shape[0]) * (engine_hw[1] / mask.shape[1])
    small: dict[int, tuple[float, float]] = {}
    for value in np.flatnonzero(np.bincount(mask.ravel(), minlength=256)[:IGNORE]):
        _, _, stats, _ = cv2.connectedComponentsWithStats(np.asarray(mask == value, np.uint8), connectivity=8)
        areas = np.asarray(stats[1:, cv2.CC_STAT_AREA], np.float64)
        small[int(value)] = (float(areas[areas * scale < 64].sum()), float(areas.sum()))
    return small


def ids_of(facts: PairFacts) -> NDArray[Any]:
    """The class ids that occur in a mask."""
    return np.flatnonzero(facts.pixels[:IGNORE]) if facts.pixels is not None else np.zeros(0, np.intp)

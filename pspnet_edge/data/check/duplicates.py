"""Images of one split that are in another too, under another name, size or compression."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from .pair_facts import PairFacts

_SIDE = 8
_NEAR = 4.0
_MOST_DIFFERENCE = 3.0
_MOST_LOCAL = 14
_BLOCK = 1024


def duplicates(pairs: Sequence[PairFacts]) -> Iterator[tuple[PairFacts, PairFacts]]:
    """Pairs of images of different splits that show the same: the later one, and the first like it.

    Candidates are near each other as copies of 8 × 8 grey pixels; of them, copies of 32 × 32 differ by at most 3
    levels on average and at most 14 in any pixel. Blank images are like each other without being copies and do not
    count.
    """
    kept = [facts for facts in pairs if facts.thumb is not None and not facts.blank]
    if len({facts.split for facts in kept}) < 2:
        return
    origin = np.array([facts.split for facts in kept])
    tiny = np.stack([_tiny(facts) for facts in kept])
    squares = (tiny * tiny).sum(1)
    limit = _NEAR**2 * tiny.shape[1]
    for start in range(0, len(kept), _BLOCK):
        some = slice(start, start + _BLOCK)
        distance = squares[some, None] + squares[None] - 2 * (tiny[some] @ tiny.T)
        for row, column in zip(*np.nonzero(distance <= limit)):
            later, first = start + int(row), int(column)
            if first < later and origin[first] != origin[later] and _same(kept[first], kept[later]):
                yield kept[later], kept[first]


def _tiny(facts: PairFacts) -> NDArray[np.float32]:
    assert facts.thumb is not None
    return np.asarray(cv2.resize(facts.thumb, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.float32).ravel()


def _same(one: PairFacts, other: PairFacts) -> bool:
    assert one.thumb is not None
    assert other.thumb is not None
    difference = np.abs(one.thumb.astype(np.int16) - other.thumb)
    # An even picture hides differences that a busy one would show.
    allowed = min(_MOST_DIFFERENCE, 0.1 * float(one.thumb.std()) + 0.2)
    # A small thing that moved changes few pixels much; compression changes all of them a little.
    return float(difference.mean()) <= allowed and int(difference.max()) <= _MOST_LOCAL

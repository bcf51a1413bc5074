"""A mask as boolean regions, the form in which drawing and tracking libraries take it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..labels import IGNORE


@dataclass(frozen=True, eq=False)
class Regions:
    """``n`` regions of one frame.

    ``supervision.Detections(**regions.to_dict())`` takes them as they are.
    """

    xyxy: NDArray[np.float32]
    """``[n, 4]``: left, top, right, bottom in pixels; right and bottom are exclusive."""
    mask: NDArray[np.bool_]
    """``[n, H, W]``."""
    class_id: NDArray[np.int64]
    """``[n]``."""
    class_name: tuple[str, ...]
    confidence: NDArray[np.float32] | None = None
    """``[n]``: mean score of the region's pixels, where scores were given."""

    def __len__(self) -> int:
        return len(self.class_id)

    def to_dict(self) -> dict[str, object]:
        """Keyword arguments of ``supervision.Detections``."""
        return {
            "xyxy": self.xyxy,
            "mask": self.mask,
            "class_id": self.class_id,
            "confidence": self.confidence,
            "data": {"class_name": np.array(self.class_name)},
        }


def regions_of(
    mask: NDArray[np.uint8],
    classes: Sequence[str],
    *,
    scores: NDArray[np.float32] | None = None,
    split: bool = False,
    smallest: int = 1,
) -> Regions:
    """Cut a mask into regions, in the order of class ids.

    Args:
        mask: ``uint8 [H, W]`` of class ids; 255 is left out.
        classes: their names.
        scores: ``float32 [H, W]``, for the confidence.
        split: one region per connected part instead of one per class.
        smallest: regions of fewer pixels are left out.
    """
    found: list[tuple[int, NDArray[np.bool_]]] = []
    for class_id in np.unique(mask):
        if class_id != IGNORE:
            parts = _parts(mask == class_id) if split else [mask == class_id]
            found += [(int(class_id), part) for part in parts if np.count_nonzero(part) >= smallest]
    shape = (len(found), *mask.shape)
    stacked = np.stack([part for _, part in found]) if found else np.zeros(shape, np.bool_)
    return Regions(
        np.array([_box(part) for _, part in found], np.float32).reshape(-1, 4),
        stacked,
        np.array([class_id for class_id, _ in found], np.int64),
        tuple(classes[class_id] if class_id < len(classes) else str(class_id) for class_id, _ in found),
        None if scores is None else np.array([scores[part].mean() for _, part in found], np.float32),
    )


def _parts(of_class: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    count, numbers = cv2.connectedComponents(of_class.astype(np.uint8), connectivity=8)
    for number in range(1, count):
        yield numbers == number


def _box(part: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

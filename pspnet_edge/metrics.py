"""Segmentation quality from one confusion matrix over a whole split."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .labels import IGNORE


class ConfusionMatrix:
    """Counts of (label, prediction) pairs over any number of masks.

    ``counts[i, j]`` is the number of pixels with label ``i`` that were predicted as ``j``.
    """

    def __init__(self, classes: int) -> None:
        self.counts: NDArray[np.int64] = np.zeros((classes, classes), np.int64)

    def add(self, label: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> None:
        """Count one pair of masks ``uint8 [H, W]`` of equal size; pixels labelled IGNORE are left out.

        Raises:
            ValueError: shapes differ, or a mask holds an id that is no class.
        """
        if label.shape != predicted.shape:
            raise ValueError(f"masks differ in shape: label {label.shape}, predicted {predicted.shape}")
        classes = len(self.counts)
        # Masks are made of runs: one count a run of equal 16-bit pairs is three times as fast as one a pixel. Only the
        # last pixel of each is looked at. Sums of lengths stay whole in the float64 that bincount weighs with.
        pairs = label.astype(np.uint16).ravel()
        pairs <<= 8
        pairs |= predicted.ravel()
        ends = np.append(np.flatnonzero(pairs[1:] != pairs[:-1]), pairs.size - 1)
        table = np.bincount(pairs[ends], np.diff(ends, prepend=-1), 65536).reshape(256, 256)
        if table[classes:IGNORE].any():
            raise ValueError(f"the label holds ids that are none of the {classes} classes")
        if table[:classes, classes:].any():
            raise ValueError(f"the prediction holds ids that are none of the {classes} classes")
        self.counts += table[:classes, :classes].astype(np.int64)

    def iou(self) -> NDArray[np.float64]:
        """``float [classes]``: intersection over union, NaN for a class in neither labels nor predictions."""
        hit = np.diag(self.counts).astype(np.float64)
        union = self.counts.sum(0) + self.counts.sum(1) - np.diag(self.counts)
        iou: NDArray[np.float64] = np.divide(hit, union, out=np.full(len(hit), np.nan), where=union > 0)
        return iou

    def miou(self) -> float:
        """Mean of ``iou`` over the classes that occur; NaN when none does."""
        iou = self.iou()
        return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")

    def pixel_accuracy(self) -> float:
        """Share of the labelled pixels that were predicted right; NaN when there are none."""
        total = self.counts.sum()
        return float(np.trace(self.counts) / total) if total else float("nan")

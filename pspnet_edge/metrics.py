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
        # Label → where its row begins in the flat matrix; IGNORE is a row beyond it, and what is no class has none.
        self._rows = np.full(256, -1, np.intp)
        self._rows[:classes] = np.arange(classes) * classes
        self._rows[IGNORE] = classes * classes

    def add(self, label: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> None:
        """Count one pair of masks ``uint8 [H, W]`` of equal size; pixels labelled IGNORE are left out.

        Raises:
            ValueError: shapes differ, or a mask holds an id that is no class.
        """
        if label.shape != predicted.shape:
            raise ValueError(f"masks differ in shape: label {label.shape}, predicted {predicted.shape}")
        classes = len(self.counts)
        labels, ids = label.ravel(), predicted.ravel()
        # Masks are made of runs, so one count a run of equal pairs is faster than one a pixel: only the last pixel of
        # each is looked at. Sums of lengths stay whole in the float64 that bincount weighs with.
        changes = labels[1:] != labels[:-1]
        changes |= ids[1:] != ids[:-1]
        ends = np.append(np.flatnonzero(changes), labels.size - 1)
        labels, ids = labels[ends], ids[ends]
        cells = self._rows[labels]
        if cells.min() < 0:
            raise ValueError(f"the label holds ids that are none of the {classes} classes")
        if ids.max() >= classes and (ids[labels != IGNORE] >= classes).any():
            raise ValueError(f"the prediction holds ids that are none of the {classes} classes")
        cells += ids
        table = np.bincount(cells, np.diff(ends, prepend=-1), classes * classes)[: classes * classes]
        self.counts += table.reshape(classes, classes).astype(np.int64)

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

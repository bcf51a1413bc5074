"""Segmentation quality from one confusion matrix over a whole split."""

from __future__ import annotations

import cv2
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
            ValueError: shapes differ, or a mask holds an id that is not a class.
        """
        if label.shape != predicted.shape:
            raise ValueError(f"masks differ in shape: label {label.shape}, predicted {predicted.shape}")
        classes = len(self.counts)
        # OpenCV counts in float32, where whole numbers end at 2²⁴: that many pixels at a time.
        rows = 2**24 // max(label.shape[1], 1)
        for top in range(0, len(label), rows):
            part = [label[top : top + rows], predicted[top : top + rows]]
            pairs = cv2.calcHist(part, [0, 1], None, [256, 256], [0, 256, 0, 256])
            if pairs[classes:IGNORE].any():
                raise ValueError(f"the label holds ids that are none of the {classes} classes")
            if pairs[:classes, classes:].any():
                raise ValueError(f"the prediction holds ids that are none of the {classes} classes")
            self.counts += pairs[:classes, :classes].astype(np.int64)

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

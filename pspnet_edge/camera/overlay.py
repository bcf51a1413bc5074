"""What is drawn over a frame: class colours, a legend, a line of figures."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..data.geometry import mask_at
from ..labels import LabelSet

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_INK, _PAPER = (255, 255, 255), (24, 24, 24)


class Overlay:
    """Draws masks over frames of any size.

    Args:
        label_set: names and colours of the classes.
        opacity: share of the class colour in the blend, 0–1.
    """

    def __init__(self, label_set: LabelSet, opacity: float = 0.5) -> None:
        self._label_set = label_set
        self._opacity = opacity
        # applyColorMap wants a table of shape [256, 1, 3] and runs in one pass over the mask.
        self._table = np.ascontiguousarray(label_set.bgr_table()[:, None])
        self._legend: NDArray[np.uint8] | None = None
        self._legend_for = (0, 0)

    def draw(self, frame: NDArray[np.uint8], mask: NDArray[np.uint8], caption: str) -> NDArray[np.uint8]:
        """A new picture: ``frame`` with the mask's colours, the legend and a caption.

        Args:
            frame: ``uint8 [H, W, 3]`` BGR.
            mask: ``uint8 [h, w]`` of any size; it is stretched over the frame.
            caption: one line, drawn at the top left.
        """
        size_hw = (frame.shape[0], frame.shape[1])
        colours = cv2.applyColorMap(mask_at(mask, size_hw), self._table)
        picture = np.asarray(cv2.addWeighted(frame, 1 - self._opacity, colours, self._opacity, 0), np.uint8)
        if self._legend is None or self._legend_for != size_hw:
            self._legend, self._legend_for = self._drawn_legend(size_hw), size_hw
        height, width = self._legend.shape[:2]
        corner = picture[size_hw[0] - height :, :width]
        corner[:] = cv2.addWeighted(corner, 0.35, self._legend, 0.65, 0).reshape(corner.shape)
        self._write(picture, caption)
        return picture

    def _drawn_legend(self, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
        """A column of swatches and names, at most half the frame high."""
        row = max(8, min(size_hw[0] // 28, size_hw[0] // (2 * len(self._label_set))))
        scale = row / 30
        names = self._label_set.classes
        text_width = max(cv2.getTextSize(name, _FONT, scale, 1)[0][0] for name in names)
        legend = np.full((row * len(names) + row // 2, min(size_hw[1], text_width + 2 * row), 3), 24, np.uint8)
        for position, (name, (red, green, blue)) in enumerate(zip(names, self._label_set.palette)):
            top = row // 4 + position * row
            cv2.rectangle(legend, (row // 4, top + 2), (row, top + row - 2), (blue, green, red), -1)
            cv2.putText(legend, name, (row + row // 2, top + row - row // 4), _FONT, scale, _INK, 1, cv2.LINE_AA)
        return legend[: size_hw[0]]

    @staticmethod
    def _write(picture: NDArray[np.uint8], caption: str) -> None:
        scale = max(0.3, picture.shape[0] / 900)
        (width, height), descent = cv2.getTextSize(caption, _FONT, scale, 1)
        cv2.rectangle(picture, (0, 0), (width + 12, height + descent + 10), _PAPER, -1)
        cv2.putText(picture, caption, (6, height + 5), _FONT, scale, _INK, 1, cv2.LINE_AA)

"""What is drawn over a frame: class colours, a legend, a line of figures."""

from __future__ import annotations

import textwrap

import cv2
import numpy as np
from numpy.typing import NDArray

from ..data.geometry import mask_at
from ..labels import LabelSet

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_INK, _PAPER, _ALARM = (255, 255, 255), (24, 24, 24), (32, 32, 192)


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
        # With the size it was drawn for, in one attribute, so that threads never see one without the other.
        self._legend: tuple[tuple[int, int], NDArray[np.uint8]] | None = None

    def draw(
        self, frame: NDArray[np.uint8], mask: NDArray[np.uint8], caption: str, banner: str = ""
    ) -> NDArray[np.uint8]:
        """A new picture: ``frame`` with the mask's colours, the legend, a caption and a banner.

        Any thread may call it.

        Args:
            frame: ``uint8 [H, W, 3]`` BGR.
            mask: ``uint8 [h, w]`` of any size; it is stretched over the frame.
            caption: one line, drawn at the top left.
            banner: an alarm, drawn across the middle in as many lines as it needs; empty for none.
        """
        size_hw = (frame.shape[0], frame.shape[1])
        colours = cv2.applyColorMap(mask_at(mask, size_hw), self._table)
        picture = np.asarray(cv2.addWeighted(frame, 1 - self._opacity, colours, self._opacity, 0), np.uint8)
        legend = self._legend_at(size_hw)
        height, width = legend.shape[:2]
        corner = picture[size_hw[0] - height :, :width]
        corner[:] = cv2.addWeighted(corner, 0.35, legend, 0.65, 0).reshape(corner.shape)
        self._write(picture, [caption], 0, _PAPER)
        if banner:
            lines = _wrapped(banner, size_hw)
            self._write(picture, lines, size_hw[0] // 3, _ALARM)
        return picture

    def _legend_at(self, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
        kept = self._legend
        if kept is None or kept[0] != size_hw:
            self._legend = kept = (size_hw, self._drawn_legend(size_hw))
        return kept[1]

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
    def _write(picture: NDArray[np.uint8], lines: list[str], top: int, paper: tuple[int, int, int]) -> None:
        scale = _text_scale(picture.shape[0])
        for line in lines:
            (width, height), descent = cv2.getTextSize(line, _FONT, scale, 1)
            bottom = top + height + descent + 10
            cv2.rectangle(picture, (0, top), (width + 12, bottom), paper, -1)
            cv2.putText(picture, line, (6, top + height + 5), _FONT, scale, _INK, 1, cv2.LINE_AA)
            top = bottom


def _text_scale(height: int) -> float:
    return max(0.3, height / 900)


def _wrapped(text: str, size_hw: tuple[int, int]) -> list[str]:
    """``text`` in lines that fit the picture's width."""
    letter = cv2.getTextSize("n" * 20, _FONT, _text_scale(size_hw[0]), 1)[0][0] / 20
    return textwrap.wrap(text, max(8, int((size_hw[1] - 12) / letter)))

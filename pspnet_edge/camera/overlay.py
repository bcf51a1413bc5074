"""What is drawn over a frame: class colours, a legend, a line of figures."""

from __future__ import annotations

import textwrap
from collections.abc import Collection
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ..data.geometry import mask_at
from ..errors import OptionError
from ..inputs import as_number
from ..labels import LabelSet
from ..lettering import FONT, drawable

Show = Literal["overlay", "mask", "side-by-side"]
SHOWS: tuple[Show, ...] = ("overlay", "mask", "side-by-side")

_INK, _PAPER, _ALARM = (255, 255, 255), (24, 24, 24), (32, 32, 192)
_TALLEST_LEGEND = 4
"""The legend takes at most this part of the picture's height: a quarter."""
_MOST_LEGENDS = 8


class Overlay:
    """Draws masks over frames of any size. Pixels of a background class, of a hidden one or of none stay clear.

    Args:
        label_set: names and colours of the classes.
        opacity: share of the class colour in the blend, 0–1.
        legend: whether to name the classes in a strip at the top.
        hide: ids of classes to leave out.
        show: the blend, only the colours of the mask, on black, or the frame and the blend side by side.
    """

    def __init__(
        self,
        label_set: LabelSet,
        opacity: float = 0.5,
        *,
        legend: bool = True,
        hide: Collection[int] = (),
        show: Show = "overlay",
    ) -> None:
        opacity = as_number(opacity, "opacity", least=0, most=1)
        clear = {*label_set.background_ids, *hide}
        self._shown = [index for index in range(len(label_set)) if index not in clear]
        self._label_set = label_set
        self._names = [drawable(name) for name in label_set.classes]
        self._opacity = opacity if show != "mask" else 1.0
        self._show = show
        # applyColorMap wants a table of shape [256, 1, 3] and runs in one pass over the mask.
        self._table = np.ascontiguousarray(label_set.bgr_table()[:, None])
        self._is_clear = np.full(256, 255, np.uint8)
        self._is_clear[self._shown] = 0
        # By the size they were drawn for; replaced as a whole, so that threads never see a half-made one.
        self._legends: dict[tuple[int, int], NDArray[np.uint8]] | None = {} if legend and self._shown else None

    def draw(
        self, frame: NDArray[np.uint8], mask: NDArray[np.uint8], caption: str, banner: str = ""
    ) -> NDArray[np.uint8]:
        """Return a new picture: ``frame`` with the mask's colours, the legend, a caption and a banner.

        Any thread may call it.

        Args:
            frame: ``uint8 [H, W, 3]`` BGR; a fourth channel is not shown.
            mask: ``uint8 [h, w]`` of any size; it is stretched over the frame.
            caption: one line, drawn at the top left; empty for none.
            banner: an alarm, drawn across the middle in as many lines as it needs; empty for none.

        Returns:
            ``uint8 [H, W, 3]`` BGR, or ``[H, 2 W, 3]`` side by side.
        """
        size_hw = (frame.shape[0], frame.shape[1])
        if frame.shape[2] == 4:
            frame = np.ascontiguousarray(frame[..., :3])
        picture = self._blend(frame, mask_at(mask, size_hw))
        if self._show == "side-by-side":
            picture = np.concatenate([frame, picture], axis=1)
            size_hw = (size_hw[0], 2 * size_hw[1])
        bottom = _write(picture, [caption], 0, _PAPER) if caption else 0
        if self._legends is not None and bottom < size_hw[0]:
            legend = self._legend_at(size_hw)[: size_hw[0] - bottom]
            strip = picture[bottom : bottom + legend.shape[0]]
            if strip.size:  # a tiny frame may have no room below its caption
                strip[:] = cv2.addWeighted(strip, 0.35, legend, 0.65, 0).reshape(strip.shape)
        if banner:
            _write(picture, _wrapped(banner, size_hw), size_hw[0] // 3, _ALARM)
        return picture

    def _blend(self, frame: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The colours over the frame, where there is a class to show."""
        colours = cv2.applyColorMap(mask, self._table)
        below = np.zeros_like(frame) if self._show == "mask" else frame
        picture = np.asarray(cv2.addWeighted(below, 1 - self._opacity, colours, self._opacity, 0), np.uint8)
        clear = cv2.LUT(mask, self._is_clear)
        if clear.any():
            cv2.copyTo(below, clear, picture)
        return picture

    def _legend_at(self, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
        kept = self._legends or {}
        if size_hw not in kept:
            # Images of a folder may all differ in size: keep the newest few.
            newest = dict(list(kept.items())[1 - _MOST_LEGENDS :])
            self._legends = kept = {**newest, size_hw: self._draw_legend(size_hw)}
        return kept[size_hw]

    def _draw_legend(self, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
        """Swatches and names in rows across the top, where they hide the least; smaller letters for many classes."""
        tallest = max(8, size_hw[0] // _TALLEST_LEGEND)
        row = max(9, min(size_hw[0] // 24, 36))
        while len(rows := self._rows(size_hw[1], row)) * row > tallest and row > 9:
            row -= 1
        legend = np.full((min(len(rows) * row, tallest) + 2, size_hw[1], 3), _PAPER, np.uint8)
        for number, places in enumerate(rows):
            top = number * row + 1
            for left, index in places:
                red, green, blue = self._label_set.palette[index]
                cv2.rectangle(legend, (left, top + 1), (left + row - 4, top + row - 3), (blue, green, red), -1)
                at = (left + row, top + row - row // 3)
                cv2.putText(legend, self._names[index], at, FONT, row / 34, _INK, 1, cv2.LINE_AA)
        return legend

    def _rows(self, width: int, row: int) -> list[list[tuple[int, int]]]:
        """(left edge, class id) of every entry, row by row."""
        rows: list[list[tuple[int, int]]] = [[]]
        left = 4
        for index in self._shown:
            wide = cv2.getTextSize(self._names[index], FONT, row / 34, 1)[0][0] + 2 * row
            if left + wide > width and rows[-1]:
                rows.append([])
                left = 4
            rows[-1].append((left, index))
            left += wide
        return rows


def class_ids(label_set: LabelSet, names: Collection[str | int]) -> frozenset[int]:
    """Ids of classes that are given by name, in any case, or by number: one by one, or several with commas between.

    Raises:
        OptionError: there is no such class.
    """
    by_name = {name.lower(): index for index, name in enumerate(label_set.classes)}
    found = set()
    given = [names] if isinstance(names, str) else map(str, names)
    # A class may have a comma in its name.
    words = [part.strip() for word in given for part in ([word] if word.lower() in by_name else word.split(","))]
    for name in words:
        index = by_name.get(name.lower(), int(name) if name.isdecimal() else -1)
        if not 0 <= index < len(label_set):
            raise OptionError(
                f"unknown class {name!r}", f"choose from {', '.join(label_set.classes)}", parameter="hide"
            )
        found.add(index)
    return frozenset(found)


def _write(picture: NDArray[np.uint8], lines: list[str], top: int, paper: tuple[int, int, int]) -> int:
    """Write lines on paper; returns where they end."""
    scale = _text_scale(picture.shape[0])
    for line in map(drawable, lines):
        (width, height), descent = cv2.getTextSize(line, FONT, scale, 1)
        bottom = top + height + descent + 10
        cv2.rectangle(picture, (0, top), (width + 12, bottom), paper, -1)
        cv2.putText(picture, line, (6, top + height + 5), FONT, scale, _INK, 1, cv2.LINE_AA)
        top = bottom
    return min(top, int(picture.shape[0]))


def _text_scale(height: int) -> float:
    return max(0.3, height / 900)


def _wrapped(text: str, size_hw: tuple[int, int]) -> list[str]:
    """``text`` in lines that fit the picture's width."""
    letter = cv2.getTextSize("n" * 20, FONT, _text_scale(size_hw[0]), 1)[0][0] / 20
    return textwrap.wrap(drawable(text), max(8, int((size_hw[1] - 12) / letter)))

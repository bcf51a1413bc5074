"""What the loop hands to its sinks: a frame, its mask, and the picture drawn of both when a sink asks for it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .overlay import Overlay


@dataclass(slots=True, eq=False)
class Shot:
    """One segmented frame. Sinks may keep it as long as they like and write to none of its arrays."""

    camera: int
    """Which source it is from, counted from 0."""
    index: int
    """Number of the frame in its source, counted from 0 and over reopenings."""
    frame: NDArray[np.uint8]
    """BGR ``uint8 [H, W, 3]`` at the source's size; at the engine's where no sink asked for whole frames."""
    mask: NDArray[np.uint8]
    """Class ids ``uint8 [h, w]`` of any size, to be stretched over the frame; 255 where no engine looked. The shot
    owns it."""
    captured: float
    """``time.perf_counter()`` at the end of capture."""
    overlay: Overlay | None = field(default=None, repr=False)
    """Draws the picture; set by the loop."""
    caption: str = ""
    """The line of figures at the top."""
    banner: str = ""
    """Why this is an old frame shown again, and how to fix it; empty when the frame is new."""
    drawing_s: float = 0.0
    """How long drawing the picture took; 0 when no sink asked for it."""
    _picture: NDArray[np.uint8] | None = field(default=None, repr=False)

    def picture(self) -> NDArray[np.uint8]:
        """The frame with class colours, legend, caption and banner: BGR ``uint8 [H, W, 3]``.

        It is drawn at first use and kept, so a loop without a sink that wants it draws nothing.
        """
        if self._picture is None:
            if self.overlay is None:
                raise ValueError("this shot has no overlay to draw with: it comes from a loop's run")
            start = time.perf_counter()
            self._picture = self.overlay.draw(self.frame, self.mask, self.caption, self.banner)
            self.drawing_s = time.perf_counter() - start
        return self._picture

    def again(self, caption: str, banner: str) -> Shot:
        """The same frame for another showing, while its source gives no new one."""
        return Shot(self.camera, self.index, self.frame, self.mask, self.captured, self.overlay, caption, banner)

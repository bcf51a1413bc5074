from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pspnet_edge.pixels import PixelFormat


@dataclass
class Pictures:
    """Images in memory, without masks."""

    arrays: Sequence[np.ndarray]
    pixels = PixelFormat()

    def __len__(self) -> int:
        return len(self.arrays)

    def image(self, index: int) -> np.ndarray:
        return self.arrays[index]

    def name(self, index: int) -> str:
        return f"{index:03}.png"

"""Between a picture's size and an engine's: the one way in which frames go in and masks come out."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

FLIPS = ("none", "180", "horizontal", "vertical", "90", "270")
"""How a picture may be turned: by degrees clockwise, or mirrored left to right (horizontal) or top to bottom."""
_ROTATIONS = {"90": cv2.ROTATE_90_CLOCKWISE, "180": cv2.ROTATE_180, "270": cv2.ROTATE_90_COUNTERCLOCKWISE}


def turned(frame: NDArray[np.uint8], flip: str) -> NDArray[np.uint8]:
    """A frame ``uint8 [H, W, C]`` or mask ``uint8 [H, W]`` turned as one of ``FLIPS`` says; itself for ``none``."""
    if flip == "none":
        return frame
    if flip in _ROTATIONS:
        return np.asarray(cv2.rotate(frame, _ROTATIONS[flip]), np.uint8)
    return np.asarray(cv2.flip(frame, 1 if flip == "horizontal" else 0), np.uint8)


def frame_at(frame: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """A frame ``uint8 [H, W, 3]`` stretched to ``size_hw``: averaged when it shrinks to less than half, else bilinear.

    Bilinear reads two pixels a side, so down to half the size it leaves none out, at a sixth of the time.
    """
    if frame.shape[:2] == size_hw:
        return frame
    skips = frame.shape[0] > 2 * size_hw[0] or frame.shape[1] > 2 * size_hw[1]
    # Averaging is defined for shrinking alone: where one side grows, OpenCV takes bilinear for both.
    method = cv2.INTER_AREA if skips else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(frame, size_hw[::-1], interpolation=method), np.uint8)


def mask_at(mask: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """A mask ``uint8 [H, W]`` at another size; ids are taken from the nearest pixel."""
    if mask.shape == size_hw:
        return mask
    return np.asarray(cv2.resize(mask, size_hw[::-1], interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)

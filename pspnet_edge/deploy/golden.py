"""Golden frames: what a model must see again on a board, and how two sets of masks are compared."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..data.png import decoded
from ..engine.engine import Engine
from ..errors import PackError
from ..pack_file import PackFile, golden_part

Picture = NDArray[np.uint8]
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_FEWEST_PIXELS = 50
"""A class with fewer in all golden frames is not named as the one that differs most."""


@dataclass(frozen=True)
class Agreement:
    """How far two sets of masks are equal."""

    share: float
    """Of all pixels, 0 to 1."""
    worst_class: str | None
    """The class whose pixels differ most; None where the masks are equal."""
    worst_share: float
    """Of its pixels, those that are equal."""


def golden_frames(pack: PackFile) -> list[Picture]:
    """The frames, ``uint8 [H, W, channels]``.

    Raises:
        PackError: one is not a PNG of the model's size.
    """
    _, height, width = pack.manifest["shape_nhw"]
    channels = pack.manifest["channels"]
    names = (golden_part(index, None) for index in range(len(pack.manifest["golden"]["names"])))
    return [_decoded(pack, name, (height, width, channels)) for name in names]


def golden_masks(pack: PackFile, precision: str) -> list[Picture]:
    """The masks that a precision gave where the pack was made, ``uint8 [H, W]``.

    Raises:
        PackError: one is not a PNG of the model's size.
    """
    _, height, width = pack.manifest["shape_nhw"]
    names = (golden_part(index, precision) for index in range(len(pack.manifest["golden"]["names"])))
    return [_decoded(pack, name, (height, width, 1))[:, :, 0] for name in names]


def encoded(picture: Picture) -> bytes:
    """A frame or a mask as PNG."""
    done, content = cv2.imencode(".png", picture)
    if not done:
        raise PackError(f"a picture of shape {picture.shape} cannot be written as PNG")
    return content.tobytes()


def segment(engine: Engine, frames: Sequence[Picture]) -> list[Picture]:
    """The mask of each frame; a batch that the last frames do not fill is filled with black."""
    batch = np.zeros((engine.info.shape_nhw[0], *frames[0].shape), np.uint8)
    masks: list[Picture] = []
    for start in range(0, len(frames), len(batch)):
        taken = frames[start : start + len(batch)]
        batch[: len(taken)] = taken
        masks += list(engine.infer(batch)[: len(taken)])
    return masks


def compare(found: Sequence[Picture], expected: Sequence[Picture], classes: Sequence[str]) -> Agreement:
    """Compare masks pixel by pixel.

    Args:
        found: ``uint8 [H, W]`` each.
        expected: as many, of the same shapes.
        classes: names in the order of their ids.
    """
    total, equal = np.zeros(256, np.int64), np.zeros(256, np.int64)
    for mask, wanted in zip(found, expected, strict=True):
        total += np.bincount(wanted.ravel(), minlength=256)
        equal += np.bincount(wanted[mask == wanted].ravel(), minlength=256)
    share = float(equal.sum() / total.sum())
    counted = [index for index in range(len(classes)) if total[index] >= _FEWEST_PIXELS]
    if share == 1.0 or not counted:
        return Agreement(share, None, 1.0)
    worst = min(counted, key=lambda index: equal[index] / total[index])
    return Agreement(share, classes[worst], float(equal[worst] / total[worst]))


def _decoded(pack: PackFile, name: str, shape: tuple[int, int, int]) -> Picture:
    content = pack.read(name)
    height, width, channels = shape
    # Its header first: a decoder would allocate whatever size it claims.
    if content[:24] != _PNG + struct.pack(">II", width, height):
        raise PackError(f"{name} of {pack.path} is not a PNG of {height}x{width} pixels", "recreate the pack")
    try:
        picture = decoded(content)
    except ValueError as error:
        raise PackError(f"{name} of {pack.path} cannot be decoded: {error}", "recreate the pack") from error
    if picture.dtype != np.uint8:
        raise PackError(f"{name} of {pack.path} has pixels of {picture.dtype}, not 8 bits", "recreate the pack")
    picture = picture.reshape(height, width, -1)
    if picture.shape != shape:
        raise PackError(f"{name} of {pack.path} has {picture.shape[2]} channels, not {channels}", "recreate the pack")
    return picture

"""How a decoded picture becomes the network's frame: how many channels, and which values are black and white.

A frame is ``uint8``. Pictures of 8 bits are taken as they are; deeper ones (12-bit and 16-bit thermal cameras, float
TIFFs) are scaled so that ``pixel_range`` fills 0–255. The range belongs to the set that a network was trained on and
travels with the network, because a range measured on each picture would change the meaning of its values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHANNELS = (1, 3, 4)
PERCENTILES = (0.1, 99.9)
"""Where the range of a set of deep pictures begins and ends, in percent of its pixels."""


@dataclass(frozen=True)
class PixelFormat:
    """What a network takes.

    Args:
        channels: 1 (grey), 3 (BGR) or 4 (BGR and a fourth).
        pixel_range: the values (low, high) that become 0 and 255 in pictures of more than 8 bits; None where the set
            has none, or before it was measured.

    Raises:
        ValueError: another number of channels, or a range that is not finite or not rising.
    """

    channels: int = 3
    pixel_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.channels not in CHANNELS:
            raise ValueError(f"{self.channels} channels: choose 1, 3 or 4")
        if self.pixel_range is not None:
            low, high = self.pixel_range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"the pixel range {low} to {high} is not two rising finite numbers")

    def to_dict(self) -> dict[str, object]:
        """As JSON values, for sidecars and checkpoints."""
        return {"channels": self.channels, "pixel_range": list(self.pixel_range) if self.pixel_range else None}

    @staticmethod
    def from_dict(facts: Mapping[str, Any] | None) -> PixelFormat:
        """The inverse of ``to_dict``; a missing entry is the default.

        Raises:
            ValueError: the values are not what ``to_dict`` gives.
        """
        facts = facts or {}
        given = facts.get("pixel_range")
        try:
            span = None if given is None else (float(given[0]), float(given[1]))
            return PixelFormat(int(facts.get("channels", 3)), span)
        except (TypeError, IndexError, KeyError, OverflowError) as error:
            raise ValueError(f"{dict(facts)} is not a pixel format") from error

    def frame(self, decoded: NDArray[Any]) -> NDArray[np.uint8]:
        """Turn a decoded picture into a frame.

        Args:
            decoded: ``[H, W]`` grey, ``[H, W, 3]`` BGR or ``[H, W, 4]`` BGR and a fourth; any numeric type.

        Returns:
            ``uint8 [H, W, channels]``.

        Raises:
            ValueError: the picture lacks channels, or is deeper than 8 bits and there is no range to scale it by.
        """
        return self._with_channels(self._in_8_bits(decoded))

    def _in_8_bits(self, decoded: NDArray[Any]) -> NDArray[np.uint8]:
        if decoded.dtype == np.uint8:
            return decoded
        if self.pixel_range is None:
            raise ValueError(f"it holds {decoded.dtype} values and no pixel range says which are black and white")
        low, high = self.pixel_range
        scaled = (decoded.astype(np.float64) - low) * (255.0 / (high - low))
        # A pixel without a value is as dark as it gets.
        scaled = np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0)
        return np.asarray(np.rint(np.clip(scaled, 0, 255)), np.uint8)

    def _with_channels(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        has = 1 if picture.ndim == 2 else picture.shape[2]
        if has == self.channels:
            return picture.reshape(*picture.shape[:2], has)
        import cv2

        if self.channels == 3:
            code = {1: cv2.COLOR_GRAY2BGR, 4: cv2.COLOR_BGRA2BGR}.get(has)
        elif self.channels == 1:
            code = {3: cv2.COLOR_BGR2GRAY, 4: cv2.COLOR_BGRA2GRAY}.get(has)
        else:
            code = None
        if code is None:
            raise ValueError(f"it has {has} channels and the network takes {self.channels}")
        return np.asarray(cv2.cvtColor(picture, code), np.uint8).reshape(*picture.shape[:2], self.channels)


def sampled(picture: NDArray[Any]) -> NDArray[Any]:
    """About 100 000 values of a picture, evenly spaced: enough for its percentiles."""
    return np.array(picture.reshape(-1)[:: max(1, picture.size // 100_000)])


def measured_range(samples: list[NDArray[Any]]) -> tuple[float, float] | None:
    """The range of a set from values of some of its deep pictures: their 0.1 and 99.9 percentiles.

    None where there are none or all are of 8 bits. Values that are not finite do not count.
    """
    deep = [sampled(values).astype(np.float64) for values in samples if values.dtype != np.uint8]
    if not deep:
        return None
    values = np.concatenate(deep)
    values = values[np.isfinite(values)]
    if not values.size:
        return (0.0, 1.0)
    low, high = (float(value) for value in np.percentile(values, PERCENTILES))
    # Pictures of one value each have no contrast to keep; any range is as good that holds the value.
    return (low, high) if high > low else (low, low + 1.0)

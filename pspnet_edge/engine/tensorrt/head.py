"""The head in one kernel: a camera's pixels, of any size, to the network's input.

``--head kernel`` cuts the graph behind its normalization, or behind its first quantization, and leaves what comes
before to ``head.h``, with the resize that the processor does otherwise. The compiled kernels travel in the sidecar.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...data.geometry import MARGIN, Box
from ...graph.head import Head
from ..facts import HeadFacts
from .memory import Memory, Shape3
from .resample import resample
from .runner import Executor, Piece

_BLOCK = (32, 8, 1)
_KERNELS = {"float32": "head_float", "float16": "head_half", "int8": "head_int8"}


def head_facts(head: Head, kernels: bytes) -> HeadFacts:
    """The head as JSON values for the sidecar."""
    return {
        "order": list(head.order),
        "dtype": head.levels.dtype.name,
        "levels": base64.b64encode(head.levels.tobytes()).decode(),
        "kernels": base64.b64encode(kernels).decode(),
    }


def head_levels(facts: HeadFacts) -> NDArray[np.generic]:
    """``[C, 256]``: what a pixel's value becomes in each channel of the input."""
    stored = np.frombuffer(base64.b64decode(facts["levels"]), facts["dtype"])
    return stored.reshape(len(facts["order"]), 256)


def input_values(facts: HeadFacts, lanes: int, size_hw: tuple[int, int]) -> int:
    """How many values the network's input has for one frame, with what its format adds."""
    return size_hw[0] * size_hw[1] * (len(facts["order"]) if lanes == 1 else lanes)


@dataclass(frozen=True)
class HeadLaunch:
    """One launch of the kernel, behind which addresses of pixels, table, levels and input are still wanted."""

    kernel: str
    grid: Shape3
    numbers: tuple[int, ...]
    table: NDArray[np.int32]
    block: Shape3 = _BLOCK


def head_launch(
    facts: HeadFacts,
    size_hw: tuple[int, int],
    picture_hw: tuple[int, int],
    inner: Box,
    pixel_bytes: int,
    pitch: int,
    lanes: int = 1,
    order: Sequence[int] | None = None,
) -> HeadLaunch:
    """The kernel that brings one picture into the network's input.

    Args:
        facts: what ``head_facts`` gave.
        size_hw: rows and columns of the input.
        picture_hw: rows and columns of the picture.
        inner: where the picture lies in the input; a margin is around it.
        pixel_bytes: from one pixel to the next: 3 for BGR, 4 for BGRx.
        pitch: bytes from one row to the next.
        lanes: channels that lie beside each other in the input: 1 for NCHW, 4 for NC/4HW4, 8 for NHWC8.
        order: which byte of a pixel each channel of the input takes; None for pixels that begin as the frames do.
    """
    how = resample(picture_hw, inner.size_hw)
    chosen = facts["order"] if order is None else order
    packed = sum(byte << (8 * channel) for channel, byte in enumerate(chosen))
    numbers = (
        *(pitch, pixel_bytes, len(chosen), packed, *size_hw),
        *(inner.top, inner.left, *inner.size_hw),
        *(how.method, MARGIN, lanes),
    )
    grid = (-(-size_hw[1] // _BLOCK[0]), -(-size_hw[0] // _BLOCK[1]), 1)
    return HeadLaunch(_KERNELS[facts["dtype"]], grid, numbers, how.table)


@dataclass(frozen=True)
class _Place:
    """One picture of a batch: where its pixels begin in the buffer, and its launch."""

    offset: int
    launch: HeadLaunch
    table: int
    """Address of the launch's table."""


class KernelHead:
    """An executor of pictures to masks around one of the network's input to masks.

    Args:
        network: enqueues input → masks; this closes it.
        memory: the device, with its context current.
        facts: what ``head_facts`` gave.
        shape_nhw: frames a batch, height and width in pixels.
        lanes: as for ``head_launch``.
    """

    def __init__(
        self,
        network: Executor,
        memory: Memory,
        facts: HeadFacts,
        shape_nhw: tuple[int, int, int],
        lanes: int = 1,
    ) -> None:
        self._network, self._memory, self._facts, self._lanes = network, memory, facts, lanes
        self._size_hw = shape_nhw[1:]
        levels = head_levels(facts)
        self._kernel = memory.load_kernel(base64.b64decode(facts["kernels"]), _KERNELS[facts["dtype"]])
        self._frame_bytes = input_values(facts, lanes, self._size_hw) * levels.itemsize
        self._levels = memory.store(levels)
        try:
            # One is enough for all frames in flight: they follow each other on one stream.
            self._input = memory.allocate_device(shape_nhw[0] * self._frame_bytes)
        except BaseException:
            memory.free_device(self._levels)
            raise

    def fit(self, pieces: tuple[Piece, ...]) -> list[_Place]:
        """See ``runner.FittingExecutor``."""
        places: list[_Place] = []
        offset = 0
        try:
            for piece in pieces:
                pitch = piece.pitch or piece.size_hw[1] * piece.pixel_bytes
                launch = head_launch(
                    self._facts, self._size_hw, piece.size_hw, piece.inner, piece.pixel_bytes, pitch, self._lanes
                )
                places.append(_Place(offset, launch, self._memory.store(launch.table)))
                offset += piece.nbytes
        except BaseException:
            self.free(places)
            raise
        return places

    def free(self, fitted: list[_Place]) -> None:
        """See ``runner.FittingExecutor``."""
        with contextlib.ExitStack() as steps:
            for place in fitted:
                steps.callback(self._memory.free_device, place.table)

    def enqueue_fitted(self, fitted: list[_Place], pixels: int, masks: int, stream: int) -> None:
        """See ``runner.FittingExecutor``."""
        for index, place in enumerate(fitted):
            input_of_frame = self._input + index * self._frame_bytes
            addresses = (pixels + place.offset, place.table, self._levels, input_of_frame)
            self._kernel(place.launch.grid, place.launch.block, addresses, place.launch.numbers)
        self._network.enqueue(self._input, masks, stream)

    def close(self) -> None:
        """See ``runner.FittingExecutor``."""
        with contextlib.ExitStack() as steps:
            # The last first: all of them, even when one fails.
            steps.callback(self._network.close)
            steps.callback(self._memory.free_device, self._levels)
            steps.callback(self._memory.free_device, self._input)

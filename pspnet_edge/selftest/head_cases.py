"""The head's kernel on the processor and on the GPU, against the resize's and the normalization's definition."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..data.geometry import Box, Geometry
from ..engine.facts import HeadFacts
from ..engine.tensorrt.driver import load_driver
from ..engine.tensorrt.head import KernelHead, head_facts, head_launch, head_levels, input_values
from ..engine.tensorrt.host_kernels import HostKernels
from ..engine.tensorrt.memory import CudaMemory
from ..engine.tensorrt.runner import Piece
from ..graph.head import Head
from .gpu import device
from .outcome import require
from .reference import reference_input

Bring = Callable[[NDArray[np.uint8], HeadFacts, tuple[int, int], Box, int], NDArray[np.generic]]
"""A picture, the head, size of the input, where the picture lies in it and lanes → the input."""
_SIZES = (
    # picture, input: growing, shrinking by less and more than half, by whole factors, one side each way, a single pixel
    ((30, 41), (48, 60)),
    ((61, 83), (48, 60)),
    ((131, 67), (48, 60)),
    ((211, 307), (48, 60)),
    ((96, 120), (48, 60)),
    ((144, 180), (48, 60)),
    ((40, 200), (48, 60)),
    ((48, 60), (48, 60)),
    ((1, 1), (7, 5)),
    ((720, 1280), (97, 121)),
)
_FORMS = (("float32", 1), ("float16", 1), ("float16", 8), ("int8", 1), ("int8", 4))
"""Type of the input, and its lanes."""
_PIXELS = (((0,), 1), ((0, 1, 2), 3), ((2, 1, 0), 3), ((0, 1, 2), 4), ((2, 1, 0), 4), ((0, 1, 2, 3), 4))
"""Which byte each channel takes, of how many: grey, BGR, RGB, BGRx, RGBA, four channels."""


def compare_heads(bring: Bring, kernels: bytes = b"") -> int:
    """How many inputs agree in every value; fails at the first that does not."""
    compared = 0
    drawn = np.random.default_rng(5)
    for picture_hw, size_hw in _SIZES:
        for number, (order, pixel_bytes) in enumerate(_PIXELS):
            dtype, lanes = _FORMS[(number + compared) % len(_FORMS)]
            fit = ("stretch", "letterbox", "crop")[compared % 3]
            levels = drawn.normal(0, 40, (len(order), 256)).astype(dtype)
            facts = head_facts(Head(order, levels), kernels)
            picture = drawn.integers(0, 256, (*picture_hw, pixel_bytes), np.uint8)
            (window,) = Geometry(fit).layout(picture_hw, size_hw).windows
            region = picture[window.source.slices]
            found = bring(region, facts, size_hw, window.inner, lanes)
            expected = reference_input(region, levels, order, size_hw, window.inner, lanes)
            wrong = int((found.ravel() != expected.ravel()).sum())
            what = f"{picture_hw} to {size_hw}, {fit}, {pixel_bytes} bytes a pixel, {dtype}, {lanes} lanes"
            require(
                wrong == 0, f"{wrong} of {expected.size} values of the input differ from the resized frame's ({what})"
            )
            compared += 1
    return compared


def input_on_processor(kernels: HostKernels) -> Bring:
    """The kernel's arithmetic compiled by g++; pictures keep the pitch that they come with."""

    def bring(
        picture: NDArray[np.uint8], facts: HeadFacts, size_hw: tuple[int, int], inner: Box, lanes: int
    ) -> NDArray[np.generic]:
        pitch, pixel_bytes, _ = picture.strides
        launch = head_launch(facts, size_hw, (picture.shape[0], picture.shape[1]), inner, pixel_bytes, pitch, lanes)
        return kernels.input(picture, head_levels(facts), launch, input_values(facts, lanes, size_hw))

    return bring


class _KeptInput:
    """A network that copies its input to the processor."""

    def __init__(self, room: NDArray[np.generic]) -> None:
        self._room = room

    def enqueue(self, frames: int, masks: int, stream: int) -> None:
        """See ``runner.Executor``."""
        room = self._room.ctypes.data_as(ctypes.c_void_p)
        load_driver().call("cuMemcpyDtoHAsync_v2", room, frames, self._room.nbytes, stream)

    def close(self) -> None:
        """See ``runner.Executor``."""


def input_on_gpu(
    picture: NDArray[np.uint8], facts: HeadFacts, size_hw: tuple[int, int], inner: Box, lanes: int
) -> NDArray[np.generic]:
    """The same by the product's head on the GPU."""
    with device() as memory:
        return _input_on_gpu(memory, picture, facts, size_hw, inner, lanes)


def _input_on_gpu(
    memory: CudaMemory,
    picture: NDArray[np.uint8],
    facts: HeadFacts,
    size_hw: tuple[int, int],
    inner: Box,
    lanes: int,
) -> NDArray[np.generic]:
    room = np.zeros(input_values(facts, lanes, size_hw), facts["dtype"])
    head = KernelHead(_KeptInput(room), memory, facts, (1, *size_hw), lanes)
    fitted = head.fit((Piece((picture.shape[0], picture.shape[1]), picture.shape[2], inner),))
    pixels = memory.store(picture)
    head.enqueue_fitted(fitted, pixels, 0, memory.stream)
    memory.synchronise()
    memory.free_device(pixels)
    head.free(fitted)
    head.close()
    return room

"""The head's kernel on the processor and on the GPU, with networks of every kind."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..data.geometry import FITS, Box
from ..engine.facts import HeadFacts
from ..engine.tensorrt.head import KernelHead, head_facts, head_launch, head_levels, input_values
from ..engine.tensorrt.host_kernels import HostKernels
from ..engine.tensorrt.memory import CudaMemory
from ..engine.tensorrt.proof import PICTURES, Bring, input_complaint, input_on_gpu
from ..engine.tensorrt.runner import Piece
from ..graph.head import Head
from .gpu import device, milliseconds
from .outcome import require

_FORMS = (("float32", 1), ("float16", 1), ("float16", 8), ("int8", 1), ("int8", 4))
"""Type of the input, and its lanes."""
_PIXELS = (((0,), 1), ((0, 1, 2), 3), ((2, 1, 0), 3), ((0, 1, 2), 4), ((2, 1, 0), 4), ((0, 1, 2, 3), 4))
"""Which byte each channel takes, of how many: grey, BGR, RGB, BGRx, RGBA, four channels."""


def compare_heads(bring: Bring, kernels: bytes = b"") -> int:
    """How many inputs agree in every value; fails at the first that does not."""
    compared = 0
    drawn = np.random.default_rng(5)
    for picture_hw, size_hw in PICTURES:
        for number, (order, pixel_bytes) in enumerate(_PIXELS):
            dtype, lanes = _FORMS[(number + compared) % len(_FORMS)]
            facts = head_facts(Head(order, drawn.normal(0, 40, (len(order), 256)).astype(dtype)), kernels)
            picture = drawn.integers(0, 256, (*picture_hw, pixel_bytes), np.uint8)
            complaint = input_complaint(bring, facts, picture, size_hw, FITS[compared % len(FITS)], lanes)
            require(not complaint, complaint)
            compared += 1
    return compared


class _NoNetwork:
    """Behind a head that is timed."""

    def enqueue(self, frames: int, masks: int, stream: int) -> None:
        """See ``runner.Executor``."""

    def close(self) -> None:
        """See ``runner.Executor``."""


def time_heads(
    memory: CudaMemory, pictures: Sequence[tuple[int, int]], size_hw: tuple[int, int], kernels: bytes
) -> dict[str, float]:
    """Milliseconds that the head takes for BGRx pictures of these sizes, in the GPU's memory and in mapped memory.

    Args:
        memory: mapped, its context current.
        pictures: their sizes.
        size_hw: of the input, in INT8 (NC/4HW4) and in FP16 (NHWC8).
        kernels: as for ``head_facts``.
    """
    times: dict[str, float] = {}
    for height, width in pictures:
        for dtype, lanes in (("int8", 4), ("float16", 8)):
            facts = head_facts(Head((0, 1, 2), np.zeros((3, 256), dtype)), kernels)
            head = KernelHead(_NoNetwork(), memory, facts, (1, *size_hw), lanes)
            fitted = head.fit((Piece((height, width), 4, Box(0, 0, *size_hw)),))
            mapped, own = memory.allocate(4 * height * width), memory.allocate_device(4 * height * width)
            for kind, address in (("", own), ("_mapped", mapped.address)):
                taken = milliseconds(memory, partial(head.enqueue_fitted, fitted, address, 0, memory.stream))
                name = f"head_{height}x{width}_to_{size_hw[0]}x{size_hw[1]}_{dtype}{kind}_ms"
                times[name] = round(taken, 4)
            memory.free_device(own)
            memory.free(mapped)
            head.free(fitted)
            head.close()
    return times


def input_on_processor(kernels: HostKernels) -> Bring:
    """The kernel's arithmetic compiled by g++."""

    def bring(
        picture: NDArray[np.uint8], facts: HeadFacts, size_hw: tuple[int, int], inner: Box, lanes: int
    ) -> NDArray[np.generic]:
        pitch, pixel_bytes, _ = picture.strides
        launch = head_launch(facts, size_hw, (picture.shape[0], picture.shape[1]), inner, pixel_bytes, pitch, lanes)
        return kernels.input(picture, head_levels(facts), launch, input_values(facts, lanes, size_hw))

    return bring


def input_on_device(
    picture: NDArray[np.uint8], facts: HeadFacts, size_hw: tuple[int, int], inner: Box, lanes: int
) -> NDArray[np.generic]:
    """The same by the product's head on the GPU."""
    with device() as memory:
        return input_on_gpu(memory, picture, facts, size_hw, inner, lanes)

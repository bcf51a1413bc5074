"""The head's kernel on the processor and on the GPU, with networks of every kind."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..data.geometry import FITS, Box
from ..engine.facts import HeadFacts
from ..engine.tensorrt.head import head_facts, head_launch, head_levels, input_values
from ..engine.tensorrt.host_kernels import HostKernels
from ..engine.tensorrt.proof import PICTURES, Bring, input_complaint, input_on_gpu
from ..graph.head import Head
from .gpu import device
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

"""What the checks of the GPU share: whether there is one, its kernels, stand-ins for a network, and a clock."""

from __future__ import annotations

import base64
import contextlib
import ctypes
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ..engine.facts import TailFacts
from ..engine.tensorrt.driver import load_driver
from ..engine.tensorrt.gpu import Gpu, find_gpu
from ..engine.tensorrt.kernels import kernels_for
from ..engine.tensorrt.memory import CudaMemory, Kernel
from ..engine.tensorrt.tail import tail_launch
from .outcome import Skipped

CASES = (
    # classes, size of the logits, size of the mask
    (11, (96, 120), (384, 480)),
    (19, (32, 64), (256, 512)),
    (21, (60, 60), (473, 473)),
    (150, (9, 11), (71, 83)),
    (3, (1, 5), (7, 33)),
    (2, (8, 8), (8, 8)),
)


def needed_gpu() -> Gpu:
    """The GPU; skips the check where there is none."""
    gpu = find_gpu()
    if gpu is None:
        raise Skipped("CUDA finds no NVIDIA GPU on this machine")
    return gpu


@contextlib.contextmanager
def device(memory: CudaMemory | None = None) -> Iterator[CudaMemory]:
    """A device whose context is current, released at the end."""
    memory = memory or CudaMemory()
    try:
        with memory.current():
            yield memory
    finally:
        memory.release()


def tail_facts_of(logits: NDArray[np.floating], align_corners: bool, kernels: bytes | None = None) -> TailFacts:
    """The sidecar's part about a tail, for logits ``[N, classes, h, w]``."""
    return {
        "classes": logits.shape[1],
        "logits_hw": list(logits.shape[2:]),
        "align_corners": align_corners,
        "dtype": logits.dtype.name,
        "kernels": base64.b64encode(kernels or kernels_for(needed_gpu().compute_capability)).decode(),
    }


class FramesAsLogits:
    """A network whose frames are logits: their bytes, read as FP16. It runs the product's own kernel, so that each
    frame has another mask, which is known.
    """

    CLASSES, LOGITS_HW, SIZE_HW = 18, (16, 16), (48, 64)

    def __init__(self, memory: CudaMemory, batch: int = 1) -> None:
        facts = tail_facts_of(np.empty((batch, self.CLASSES, *self.LOGITS_HW), np.float16), False)
        name, self._grid, self._block, self._numbers = tail_launch(facts, (batch, *self.SIZE_HW))
        self._kernel: Kernel = memory.load_kernel(base64.b64decode(facts["kernels"]), name)

    @classmethod
    def frames(cls, seed: int, batch: int = 1) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """A random frame ``uint8 [batch, 48, 64, 3]`` and the logits that it is."""
        shape = (batch, cls.CLASSES, *cls.LOGITS_HW)
        logits = np.random.default_rng(seed).normal(size=shape).astype(np.float16)
        return logits.view(np.uint8).reshape(batch, *cls.SIZE_HW, 3), logits

    def enqueue(self, frames: int, masks: int, stream: int) -> None:
        """See ``runner.Executor``."""
        self._kernel(self._grid, self._block, (frames, masks), self._numbers)

    def close(self) -> None:
        """See ``runner.Executor``."""


def milliseconds(memory: CudaMemory, enqueue: Callable[[], None], times: int = 50) -> float:
    """How long enqueued work takes on the GPU, the median of several runs."""
    driver = load_driver()
    begin, end = driver.handle("cuEventCreate", 0), driver.handle("cuEventCreate", 0)
    taken = []
    try:
        for _ in range(times + 3):
            driver.call("cuEventRecord", begin, memory.stream)
            enqueue()
            driver.call("cuEventRecord", end, memory.stream)
            driver.call("cuEventSynchronize", end)
            elapsed = ctypes.c_float()
            driver.call("cuEventElapsedTime", ctypes.byref(elapsed), begin, end)
            taken.append(elapsed.value)
    finally:
        driver.call("cuEventDestroy_v2", begin)
        driver.call("cuEventDestroy_v2", end)
    return float(np.median(taken[3:]))

"""The tail in one kernel: upsampling and argmax without ever writing the full-resolution logits.

``--tail kernel`` cuts the graph where its logits are still small and leaves the rest to ``tail.h``, compiled for the
GPU. The compiled kernels travel in the sidecar, so an engine stays a pair of files.
"""

from __future__ import annotations

import base64

from ...graph.tail import Tail
from ..facts import TailFacts
from .memory import Memory, Shape3
from .runner import Executor

_BLOCK = (32, 8, 1)
"""Threads of a block: a warp is a row, each thread of it computes four pixels."""
_KERNELS = {"float32": "tail_masks", "float16": "tail_masks_half"}
_LOGIT_BYTES = {"float32": 4, "float16": 2}


def tail_facts(tail: Tail, kernels: bytes) -> TailFacts:
    """The tail as JSON values for the sidecar."""
    return {
        "classes": tail.classes,
        "logits_hw": list(tail.logits_hw),
        "align_corners": tail.align_corners,
        "dtype": tail.dtype,
        "kernels": base64.b64encode(kernels).decode(),
    }


def logits_bytes(facts: TailFacts, batch: int) -> int:
    """What the logits of a batch take."""
    rows, columns = facts["logits_hw"]
    return int(_LOGIT_BYTES[facts.get("dtype", "float32")] * batch * facts["classes"] * rows * columns)


def tail_launch(facts: TailFacts, shape_nhw: tuple[int, int, int]) -> tuple[str, Shape3, Shape3, tuple[int, ...]]:
    """The kernel of a tail, the blocks of its grid, the threads of a block, and its numbers behind logits and masks."""
    batch, height, width = shape_nhw
    rows, columns = facts["logits_hw"]
    grid = (-(-width // (4 * _BLOCK[0])), -(-height // _BLOCK[1]), batch)
    numbers = (facts["classes"], rows, columns, height, width, int(facts["align_corners"]))
    return _KERNELS[facts.get("dtype", "float32")], grid, _BLOCK, numbers


class KernelTail:
    """An executor of frames to masks around one of frames to logits.

    Args:
        network: enqueues frames → logits; this closes it.
        memory: the device, with its context current.
        facts: what ``tail_facts`` gave.
        shape_nhw: frames a batch, height and width in pixels.
    """

    def __init__(self, network: Executor, memory: Memory, facts: TailFacts, shape_nhw: tuple[int, int, int]) -> None:
        self._network, self._memory = network, memory
        name, self._grid, self._block, self._numbers = tail_launch(facts, shape_nhw)
        self._kernel = memory.load_kernel(base64.b64decode(facts["kernels"]), name)
        # One is enough for all frames in flight: they follow each other on one stream. Each logit is read dozens of
        # times, so it has to be memory that the GPU caches.
        self._logits = memory.allocate_device(logits_bytes(facts, shape_nhw[0]))

    def enqueue(self, frames: int, masks: int, stream: int) -> None:
        """See ``runner.Executor``."""
        self._network.enqueue(frames, self._logits, stream)
        self._kernel(self._grid, self._block, (self._logits, masks), self._numbers)

    def close(self) -> None:
        """See ``runner.Executor``."""
        try:
            self._memory.free_device(self._logits)
        finally:
            self._network.close()

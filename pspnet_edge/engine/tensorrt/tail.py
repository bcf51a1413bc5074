"""The tail in one kernel: upsampling and argmax without ever writing the full-resolution logits.

``--tail kernel`` cuts the graph where its logits are still small and leaves the rest to ``tail.cu``, compiled for the
GPU when the engine is built. The compiled kernels travel in the sidecar, so an engine stays a pair of files.
"""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ...artifact import scratch_folder
from ...errors import BuildError
from ...graph.tail import Tail
from .memory import Buffer, Memory
from .runner import Executor

SOURCE = Path(__file__).with_name("tail.cu")
_BLOCK = 16
"""Threads along each side of a block."""
_GRAPH = "build with --tail graph"


def compiled_kernels(compute_capability: str) -> bytes:
    """The kernels as machine code for one GPU, such as ``8.7``.

    Raises:
        BuildError: there is no nvcc, or it does not know that GPU.
    """
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if nvcc is None:
        raise BuildError(f"--tail kernel needs nvcc of the CUDA toolkit, which is not on PATH: install it, or {_GRAPH}")
    with scratch_folder() as folder:
        target = folder / "tail.cubin"
        arch = f"-arch=sm_{compute_capability.replace('.', '')}"
        # Fused multiply-adds would round otherwise than the graph does.
        command = [nvcc, "-cubin", "-O3", "-fmad=false", arch, "-o", str(target), str(SOURCE)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            reason = " ".join((done.stderr or done.stdout).split())[:200]
            raise BuildError(
                f"nvcc cannot compile the tail for compute capability {compute_capability} ({reason}): {_GRAPH}"
            )
        return target.read_bytes()


def tail_facts(tail: Tail, kernels: bytes) -> dict[str, Any]:
    """The tail as JSON values for the sidecar."""
    return {
        "classes": tail.classes,
        "logits_hw": list(tail.logits_hw),
        "align_corners": tail.align_corners,
        "kernels": base64.b64encode(kernels).decode(),
    }


class KernelTail:
    """An executor of frames to masks around one of frames to logits. Not run here, for want of a GPU.

    Args:
        network: enqueues frames → logits; this closes it.
        memory: the device, with its context current.
        facts: what ``tail_facts`` gave.
        shape_nhw: frames a batch, height and width in pixels.
    """

    def __init__(
        self, network: Executor, memory: Memory, facts: dict[str, Any], shape_nhw: tuple[int, int, int]
    ) -> None:
        self._network, self._memory = network, memory
        batch, self._height, self._width = shape_nhw
        rows, columns = facts["logits_hw"]
        self._numbers = (facts["classes"], rows, columns, self._height, self._width, int(facts["align_corners"]))
        self._grid = (-(-self._width // _BLOCK), -(-self._height // _BLOCK), batch)
        self._kernel = memory.load_kernel(base64.b64decode(facts["kernels"]), "tail_masks")
        # One is enough for all frames in flight: they follow each other on one stream.
        self._logits: Buffer = memory.allocate(4 * batch * facts["classes"] * rows * columns)

    def enqueue(self, frames: int, masks: int, stream: int) -> None:
        """See ``runner.Executor``."""
        self._network.enqueue(frames, self._logits.address, stream)
        self._kernel(self._grid, (_BLOCK, _BLOCK, 1), (self._logits.address, masks), self._numbers)

    def close(self) -> None:
        """See ``runner.Executor``."""
        try:
            self._memory.free(self._logits)
        finally:
            self._network.close()

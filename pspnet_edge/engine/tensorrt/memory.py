"""The seam between the runner and CUDA: buffers, one stream, events, replayed graphs.

``Memory`` is what the runner needs. ``PycudaMemory`` is the real one; nobody here could run it, for want of a GPU. The
tests drive the runner against an implementation in the processor's memory that checks every rule written here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import EngineError
from ...lazy import available, require

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: does not wait for the legacy default stream


@dataclass(frozen=True)
class Buffer:
    """Page-locked memory of the processor and where the GPU sees it."""

    host: NDArray[np.uint8]
    """``uint8 [nbytes]``."""
    address: int
    """For the GPU. On an integrated GPU it is the same memory, elsewhere a copy."""


Shape3 = tuple[int, int, int]
Kernel = Callable[[Shape3, Shape3, tuple[int, ...], tuple[int, ...]], None]
"""Enqueues a kernel: blocks in the grid, threads in a block, and its arguments: addresses, then 32-bit integers."""


class Memory(Protocol):
    """What a runner asks of CUDA. Everything but ``current`` and ``release`` is called with the context current.

    Work that is enqueued runs in order on one stream and is finished only after ``wait``. Any call may raise
    ``Exception``; the runner then gives up and frees everything.
    """

    def current(self) -> contextlib.AbstractContextManager[None]:
        """Make the primary context that of the calling thread, and put back what was there."""

    @property
    def stream(self) -> int:
        """The handle of the stream, which is not the default one."""

    def allocate(self, nbytes: int) -> Buffer:
        """A buffer of ``nbytes``."""

    def free(self, buffer: Buffer) -> None:
        """Give a buffer back; nothing enqueued may still use it."""

    def enqueue_upload(self, buffer: Buffer) -> None:
        """Let the GPU see what the host wrote."""

    def enqueue_download(self, buffer: Buffer) -> None:
        """Let the host see what the GPU wrote."""

    def load_kernel(self, binary: bytes, name: str) -> Kernel:
        """A kernel out of machine code for this GPU; it lives as long as what this returns."""

    def record(self) -> object:
        """A mark behind all that is enqueued so far."""

    def wait(self, mark: object) -> None:
        """Wait until the work before a mark is done."""

    def synchronise(self) -> None:
        """Wait until all that is enqueued is done."""

    def capture(self, enqueue: Callable[[], None]) -> Replay | None:
        """Record what ``enqueue`` enqueues, without running it; None where that cannot be done."""

    def release(self) -> None:
        """Destroy the stream and let go of the primary context. Called once, after all buffers are freed."""


class Replay(Protocol):
    """Recorded work."""

    def launch(self) -> None:
        """Enqueue it again, in one call."""

    def free(self) -> None:
        """Forget it."""


class PycudaMemory:
    """CUDA through pycuda, on the first GPU.

    Integrated GPUs (every Jetson) get mapped buffers, which both sides use without a copy: from Xavier on the caches
    are coherent. Elsewhere a page-locked buffer is copied to one of the device.

    Raises:
        MissingPackage: pycuda is not installed.
        EngineError: CUDA does not start.
    """

    def __init__(self) -> None:
        require("pycuda", "run a TensorRT engine")
        self._driver: Any = require("pycuda.driver", "run a TensorRT engine")
        self._device_memory: dict[int, Any] = {}
        try:
            self._driver.init()
            device = self._driver.Device(0)
            # pycuda.autoinit would make a context of its own, which neither TensorRT nor another library shares.
            self._context = device.retain_primary_context()
            self._mapped = bool(device.get_attribute(self._driver.device_attribute.INTEGRATED))
        except self._driver.Error as error:
            raise EngineError(f"CUDA does not start ({error}): check it with `pspnet-edge doctor`") from error
        with self.current():
            self._stream = self._driver.Stream(_NON_BLOCKING)

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        finally:
            self._driver.Context.pop()

    @property
    def stream(self) -> int:
        return int(self._stream.handle)

    def allocate(self, nbytes: int) -> Buffer:
        flags = self._driver.host_alloc_flags.DEVICEMAP if self._mapped else 0
        host = self._driver.pagelocked_empty(nbytes, np.uint8, mem_flags=flags)
        if self._mapped:
            return Buffer(host, int(host.base.get_device_pointer()))
        device = self._driver.mem_alloc(nbytes)
        self._device_memory[int(device)] = device
        return Buffer(host, int(device))

    def free(self, buffer: Buffer) -> None:
        if not self._mapped:
            self._device_memory.pop(buffer.address).free()
        base: Any = buffer.host.base
        base.free()

    def enqueue_upload(self, buffer: Buffer) -> None:
        if not self._mapped:
            self._driver.memcpy_htod_async(buffer.address, buffer.host, self._stream)

    def enqueue_download(self, buffer: Buffer) -> None:
        if not self._mapped:
            self._driver.memcpy_dtoh_async(buffer.host, buffer.address, self._stream)

    def load_kernel(self, binary: bytes, name: str) -> Kernel:
        function = self._driver.module_from_buffer(binary).get_function(name)

        def enqueue(grid: Shape3, block: Shape3, addresses: tuple[int, ...], numbers: tuple[int, ...]) -> None:
            arguments = (*map(np.uintp, addresses), *map(np.int32, numbers))
            function(*arguments, grid=grid, block=block, stream=self._stream)

        return enqueue

    def record(self) -> object:
        flags = self._driver.event_flags
        # A waiting thread that sleeps leaves the few cores of a board to capture and output.
        return self._driver.Event(flags.DISABLE_TIMING | flags.BLOCKING_SYNC).record(self._stream)

    def wait(self, mark: object) -> None:
        event: Any = mark
        event.synchronize()

    def synchronise(self) -> None:
        self._stream.synchronize()

    def capture(self, enqueue: Callable[[], None]) -> Replay | None:
        # pycuda has no CUDA graphs; cuda-python has, and shares the context and the stream by their handles.
        if not available("cuda") or not available("cuda.bindings"):
            return None
        from .cuda_graph import capture

        return capture(self.stream, enqueue)

    def release(self) -> None:
        with self.current():
            del self._stream
        self._context.detach()

"""The seam between the runner and CUDA: buffers, one stream, events, replayed graphs.

``Memory`` is what the runner needs and ``CudaMemory`` the real one. The tests drive the runner against an
implementation in the processor's memory that checks every rule written here; ``pspnet-edge selftest`` drives it on a
GPU.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import EngineError
from .cuda_graph import capture
from .driver import DriverError, driver_version, load_driver

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: does not wait for the legacy default stream
_DEVICE_MAP = 2  # CU_MEMHOSTALLOC_DEVICEMAP
_BLOCKING_SYNC, _DISABLE_TIMING = 1, 2  # CUevent_flags
_INTEGRATED = 18  # CU_DEVICE_ATTRIBUTE_INTEGRATED


@dataclass(frozen=True)
class Buffer:
    """Page-locked memory of the processor and where the GPU sees it."""

    host: NDArray[np.uint8]
    """``uint8 [nbytes]``."""
    address: int
    """For the GPU. On an integrated GPU it is the same memory, elsewhere a copy."""


Shape3 = tuple[int, int, int]
Kernel = Callable[[Shape3, Shape3, tuple[int, ...], tuple[int | float, ...]], None]
"""Enqueues a kernel: blocks in the grid, threads in a block, and its arguments: addresses, then 32-bit integers and
floats, told apart by their Python type."""


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

    def allocate_device(self, nbytes: int) -> int:
        """Memory that only the GPU uses: its address. Unlike page-locked memory, a Jetson's GPU caches it."""

    def free_device(self, address: int) -> None:
        """Give memory of ``allocate_device`` or ``store`` back; nothing enqueued may still use it."""

    def store(self, content: NDArray[np.generic]) -> int:
        """Memory as of ``allocate_device`` with the bytes of an array: its address. Waits for what is enqueued."""

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
        """Record what ``enqueue`` enqueues, without running it; None where that is refused."""

    def release(self) -> None:
        """Destroy the stream and let go of the primary context. Called once, after all buffers are freed."""


class Replay(Protocol):
    """Recorded work."""

    def launch(self) -> None:
        """Enqueue it again, in one call."""

    def free(self) -> None:
        """Forget it."""


class CudaMemory:
    """CUDA through its driver library, on the first GPU.

    Integrated GPUs (every Jetson) get mapped buffers, which both sides use without a copy: from Xavier on the caches
    are coherent. Elsewhere a page-locked buffer is copied to one of the device.

    Args:
        mapped: whether buffers are mapped; None decides by the GPU. Every GPU of today can map them.

    Raises:
        EngineError: CUDA does not start.
    """

    def __init__(self, mapped: bool | None = None) -> None:
        self._driver = load_driver()
        self._host: dict[int, int] = {}
        self._modules: dict[bytes, int] = {}
        self._events: set[int] = set()
        self._idle_events: list[int] = []
        try:
            self._device = self._driver.number("cuDeviceGet", 0)
            integrated = bool(self._driver.number("cuDeviceGetAttribute", _INTEGRATED, self._device))
            self._mapped = integrated if mapped is None else mapped
            # The primary context is the one that TensorRT and other libraries share.
            self._context = self._driver.handle("cuDevicePrimaryCtxRetain", self._device)
        except DriverError as error:
            raise EngineError(f"CUDA does not start ({error}): check it with `pspnet-edge doctor`") from error
        try:
            with self.current():
                self._stream = self._driver.handle("cuStreamCreate", _NON_BLOCKING)
        except DriverError:
            self._driver.call("cuDevicePrimaryCtxRelease_v2", self._device)
            raise

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        self._driver.call("cuCtxPushCurrent_v2", self._context)
        try:
            yield
        finally:
            self._driver.handle("cuCtxPopCurrent_v2")

    @property
    def stream(self) -> int:
        return self._stream

    def allocate(self, nbytes: int) -> Buffer:
        pointer = self._driver.handle("cuMemHostAlloc", nbytes, _DEVICE_MAP if self._mapped else 0)
        try:
            if self._mapped:
                address = self._driver.handle("cuMemHostGetDevicePointer_v2", pointer, 0)
            else:
                address = self.allocate_device(nbytes)
        except DriverError:
            self._driver.call("cuMemFreeHost", pointer)
            raise
        self._host[address] = pointer
        return Buffer(np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(pointer)), address)

    def free(self, buffer: Buffer) -> None:
        pointer = self._host.pop(buffer.address)
        try:
            if not self._mapped:
                self.free_device(buffer.address)
        finally:
            self._driver.call("cuMemFreeHost", pointer)

    def allocate_device(self, nbytes: int) -> int:
        return self._driver.handle("cuMemAlloc_v2", nbytes)

    def free_device(self, address: int) -> None:
        self._driver.call("cuMemFree_v2", address)

    def store(self, content: NDArray[np.generic]) -> int:
        content = np.ascontiguousarray(content)
        address = self.allocate_device(content.nbytes)
        try:
            self._driver.call("cuMemcpyHtoDAsync_v2", address, content.ctypes.data, content.nbytes, self._stream)
            self.synchronise()
        except DriverError:
            self.free_device(address)
            raise
        return address

    def enqueue_upload(self, buffer: Buffer) -> None:
        if not self._mapped:
            host = self._host[buffer.address]
            self._driver.call("cuMemcpyHtoDAsync_v2", buffer.address, host, buffer.host.nbytes, self._stream)

    def enqueue_download(self, buffer: Buffer) -> None:
        if not self._mapped:
            host = self._host[buffer.address]
            self._driver.call("cuMemcpyDtoHAsync_v2", host, buffer.address, buffer.host.nbytes, self._stream)

    def load_kernel(self, binary: bytes, name: str) -> Kernel:
        function = self._driver.handle("cuModuleGetFunction", self._module(binary), name.encode())

        def enqueue(grid: Shape3, block: Shape3, addresses: tuple[int, ...], numbers: tuple[int | float, ...]) -> None:
            values = [
                *(ctypes.c_uint64(address) for address in addresses),
                *(
                    ctypes.c_float(number) if isinstance(number, float) else ctypes.c_int32(number)
                    for number in numbers
                ),
            ]
            # The driver copies the values before it returns.
            pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
            self._driver.call("cuLaunchKernel", function, *grid, *block, 0, self._stream, pointers, None)

        return enqueue

    def _module(self, binary: bytes) -> int:
        if binary not in self._modules:
            try:
                # PTX is read up to its zero byte; machine code says its own length.
                self._modules[binary] = self._driver.handle("cuModuleLoadData", binary)
            except DriverError as error:
                version = "{}.{}".format(*driver_version())
                raise EngineError(
                    f"this driver, which supports CUDA {version}, does not take the kernels ({error.name}): they were "
                    "compiled for another GPU or by a newer CUDA: rebuild the engine on this machine, or build it with "
                    "--head graph --tail graph"
                ) from error
        return self._modules[binary]

    def record(self) -> object:
        # A waiting thread that sleeps leaves the few cores of a board to capture and output.
        if not self._idle_events:
            event = self._driver.handle("cuEventCreate", _BLOCKING_SYNC | _DISABLE_TIMING)
            self._events.add(event)
            self._idle_events.append(event)
        event = self._idle_events.pop()
        self._driver.call("cuEventRecord", event, self._stream)
        return event

    def wait(self, mark: object) -> None:
        assert isinstance(mark, int)
        self._driver.call("cuEventSynchronize", mark)
        self._idle_events.append(mark)

    def synchronise(self) -> None:
        self._driver.call("cuStreamSynchronize", self._stream)

    def capture(self, enqueue: Callable[[], None]) -> Replay | None:
        return capture(self._driver, self._stream, enqueue)

    def release(self) -> None:
        with contextlib.ExitStack() as steps:
            # The last first: all of them, even when one fails.
            steps.callback(self._driver.call, "cuDevicePrimaryCtxRelease_v2", self._device)
            steps.enter_context(self.current())
            steps.callback(self._driver.call, "cuStreamDestroy_v2", self._stream)
            for event in self._events:
                steps.callback(self._driver.call, "cuEventDestroy_v2", event)
            for module in self._modules.values():
                steps.callback(self._driver.call, "cuModuleUnload", module)

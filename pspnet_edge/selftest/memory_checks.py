"""CUDA's memory, contexts and streams, as the runner uses them."""

from __future__ import annotations

import ctypes
import threading

import numpy as np

from ..engine.tensorrt.driver import Driver, load_driver
from ..engine.tensorrt.memory import CudaMemory
from .gpu import device, needed_gpu
from .outcome import Answer, require

_OPENINGS = 1_000
_WARM_UP = 50
"""Openings after which the driver has the pools of its own that it keeps: 2 MiB on an H200."""


def check_memory() -> Answer:
    """Uploads and downloads, copied and mapped, in three threads at once."""
    needed_gpu()
    wrong: list[str] = []
    threads = [threading.Thread(target=_move, args=(number, wrong)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    require(not wrong, f"{len(wrong)} transfers went wrong: {wrong[0] if wrong else ''}")
    return Answer("bytes come back as they were sent, copied and mapped, from three threads")


def check_openings() -> Answer:
    """A thousand times opened and closed: no context left on the stack, no memory lost."""
    needed_gpu()
    driver = load_driver()
    depth = context_depth(driver)
    with device():
        for _ in range(_WARM_UP):
            _open_and_close()
        before = _free_bytes(driver)
        for _ in range(_OPENINGS):
            _open_and_close()
        lost = before - _free_bytes(driver)
    left = context_depth(driver) - depth
    require(left == 0, f"{left} contexts are left on the driver's stack after {_OPENINGS} openings")
    require(lost <= 0, f"{lost} bytes of the GPU's memory are lost after {_OPENINGS} openings")
    return Answer(
        f"{_OPENINGS} openings leave no context and {lost} bytes", {"openings": _OPENINGS, "lost_bytes": lost}
    )


def context_depth(driver: Driver) -> int:
    """How many contexts are on this thread's stack."""
    popped: list[int] = []
    while driver.handle("cuCtxGetCurrent"):
        popped.append(driver.handle("cuCtxPopCurrent_v2"))
    for context in reversed(popped):
        driver.call("cuCtxPushCurrent_v2", context)
    return len(popped)


def _open_and_close() -> None:
    with device() as memory:
        buffer, address = memory.allocate(100_000), memory.allocate_device(100_000)
        memory.enqueue_upload(buffer)
        memory.wait(memory.record())
        memory.free(buffer)
        memory.free_device(address)


def _free_bytes(driver: Driver) -> int:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    driver.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    return free.value


def _move(seed: int, wrong: list[str]) -> None:
    try:
        for mapped in (False, True):
            with device(CudaMemory(mapped)) as memory:
                for nbytes in (1, 4_096, 3_000_001):
                    buffer = memory.allocate(nbytes)
                    sent = np.random.default_rng(seed + nbytes).integers(0, 256, nbytes, np.uint8)
                    buffer.host[:] = sent
                    memory.enqueue_upload(buffer)
                    memory.wait(memory.record())
                    if not mapped:
                        buffer.host[:] = 0
                    memory.enqueue_download(buffer)
                    memory.wait(memory.record())
                    if not (buffer.host == sent).all():
                        wrong.append(f"{nbytes} bytes, {'mapped' if mapped else 'copied'}")
                    memory.free(buffer)
    except Exception as error:  # raised again as the failure of the check
        wrong.append(str(error))

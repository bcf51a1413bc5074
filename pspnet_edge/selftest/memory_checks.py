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
        # The driver's pools grow once, by 2 MiB on an H200; what is lost again with the second thousand is a leak.
        free = [_free_bytes(driver)]
        for _ in range(2):
            for _ in range(_OPENINGS):
                _open_and_close()
            free.append(_free_bytes(driver))
        grown, lost = free[0] - free[1], free[1] - free[2]
    left = context_depth(driver) - depth
    require(left == 0, f"{left} contexts are left on the driver's stack after {2 * _OPENINGS} openings")
    require(lost <= 0, f"{lost} bytes of the GPU's memory are lost with {_OPENINGS} openings")
    figures = {"openings": 2 * _OPENINGS, "grown_bytes": grown, "lost_bytes": lost}
    return Answer(f"{2 * _OPENINGS} openings leave no context, and the second thousand takes no memory", figures)


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

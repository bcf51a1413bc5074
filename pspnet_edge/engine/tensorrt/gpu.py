"""The GPU of this machine, asked of its driver; nothing has to be installed for that."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18  # CUdevice_attribute


@dataclass(frozen=True)
class Gpu:
    """The first GPU."""

    name: str
    compute_capability: str
    """``8.7`` for Orin."""
    integrated: bool
    """Whether it shares the memory of the processor, as on a Jetson."""


def find_gpu() -> Gpu | None:
    """The first GPU that CUDA can use, or None. Makes no context."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return None
    driver.cuDeviceGetName(name, len(name), device)

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(value), number, device)
        return value.value

    capability = f"{attribute(_MAJOR)}.{attribute(_MINOR)}"
    return Gpu(name.value.decode(errors="replace"), capability, bool(attribute(_INTEGRATED)))


def free_memory_bytes() -> int | None:
    """Memory available without swapping, by the kernel; on a Jetson also the GPU's. None if unknown."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None

"""CUDA's driver library through ctypes: nothing has to be installed or compiled for it, and no version has to fit.

The names and types are those of ``cuda.h``, whose ABI NVIDIA keeps from one driver to the next. A test compiles every
entry of ``PROTOTYPES`` against that header.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

from ...errors import EngineError

_P, _I, _U, _SIZE, _ADDRESS, _U64 = (
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.c_size_t,
    ctypes.c_uint64,
    ctypes.c_ulonglong,
)

PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "cuInit": (_U,),
    "cuDriverGetVersion": (_P,),
    "cuDeviceGet": (_P, _I),
    "cuDeviceGetName": (_P, _I, _I),
    "cuDeviceGetAttribute": (_P, _I, _I),
    "cuDevicePrimaryCtxRetain": (_P, _I),
    "cuDevicePrimaryCtxRelease_v2": (_I,),
    "cuCtxPushCurrent_v2": (_P,),
    "cuCtxPopCurrent_v2": (_P,),
    "cuCtxGetCurrent": (_P,),
    "cuMemGetInfo_v2": (_P, _P),
    "cuMemAlloc_v2": (_P, _SIZE),
    "cuMemFree_v2": (_ADDRESS,),
    "cuMemHostAlloc": (_P, _SIZE, _U),
    "cuMemFreeHost": (_P,),
    "cuMemHostGetDevicePointer_v2": (_P, _P, _U),
    "cuMemcpyHtoDAsync_v2": (_ADDRESS, _P, _SIZE, _P),
    "cuMemcpyDtoHAsync_v2": (_P, _ADDRESS, _SIZE, _P),
    "cuStreamCreate": (_P, _U),
    "cuStreamSynchronize": (_P,),
    "cuStreamDestroy_v2": (_P,),
    "cuEventCreate": (_P, _U),
    "cuEventRecord": (_P, _P),
    "cuEventSynchronize": (_P,),
    "cuEventElapsedTime": (_P, _P, _P),
    "cuEventDestroy_v2": (_P,),
    "cuModuleLoadData": (_P, _P),
    "cuModuleGetFunction": (_P, _P, _P),
    "cuModuleUnload": (_P,),
    "cuLaunchKernel": (_P, _U, _U, _U, _U, _U, _U, _U, _P, _P, _P),
    "cuStreamBeginCapture_v2": (_P, _I),
    "cuStreamEndCapture": (_P, _P),
    "cuGraphInstantiateWithFlags": (_P, _P, _U64),
    "cuGraphLaunch": (_P, _P),
    "cuGraphExecDestroy": (_P,),
    "cuGraphDestroy": (_P,),
    "cuGetErrorName": (_I, _P),
}
"""Function → types of its parameters. Pointers and handles are ``void *``, device addresses 64 bits."""


class DriverError(EngineError):
    """A call of the driver that failed.

    Attributes:
        call: the function.
        name: NVIDIA's name of the error, such as ``CUDA_ERROR_OUT_OF_MEMORY``.
    """

    def __init__(self, call: str, name: str) -> None:
        super().__init__(f"{call} answers {name}")
        self.call = call
        self.name = name


class Driver:
    """The driver library, with a check of every answer.

    Args:
        library: an opened ``libcuda.so.1``.
    """

    def __init__(self, library: Any) -> None:
        self._functions = {}
        for name, types in PROTOTYPES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = types, ctypes.c_int
            self._functions[name] = function

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of ``PROTOTYPES``; Python's lock is released meanwhile.

        Raises:
            DriverError: it does not answer CUDA_SUCCESS.
        """
        status = self._functions[name](*arguments)
        if status != 0:
            raise DriverError(name, self._error_name(status))

    def handle(self, name: str, *arguments: Any) -> int:
        """Call a function whose first parameter receives a pointer or a handle, and return that."""
        value = ctypes.c_void_p()
        self.call(name, ctypes.byref(value), *arguments)
        return value.value or 0

    def handle_of_capture(self, stream: int) -> int:
        """End a capture and return the graph, 0 when there is none."""
        graph = ctypes.c_void_p()
        self.call("cuStreamEndCapture", stream, ctypes.byref(graph))
        return graph.value or 0

    def number(self, name: str, *arguments: Any) -> int:
        """Call a function whose first parameter receives an ``int``, and return that."""
        value = ctypes.c_int()
        self.call(name, ctypes.byref(value), *arguments)
        return value.value

    def _error_name(self, status: int) -> str:
        text = ctypes.c_char_p()
        if self._functions["cuGetErrorName"](status, ctypes.byref(text)) != 0 or text.value is None:
            return f"error {status}"
        return text.value.decode(errors="replace")


@lru_cache(maxsize=1)
def load_driver() -> Driver:
    """The driver of this machine, initialized.

    Raises:
        EngineError: there is none, or it finds no GPU.
    """
    try:
        driver = Driver(ctypes.CDLL("libcuda.so.1"))
        driver.call("cuInit", 0)
    except (OSError, AttributeError, DriverError) as error:
        raise EngineError(
            f"CUDA does not start ({error}): install NVIDIA's driver, and check it with `pspnet-edge doctor`"
        ) from error
    return driver


def driver_version() -> tuple[int, int]:
    """The newest CUDA that the driver of this machine supports, such as ``(12, 6)``."""
    version = load_driver().number("cuDriverGetVersion")
    return version // 1000, version % 1000 // 10

"""The driver's functions against NVIDIA's own header."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest

from pspnet_edge.engine.tensorrt.driver import PROTOTYPES, Driver, DriverError

CHECK = """
#include <cuda.h>
#include <type_traits>
// What ctypes passes for each kind of parameter: a pointer or handle, or an integer of so many bytes.
template <typename T> constexpr int kind() {{ return std::is_pointer<T>::value ? -1 : static_cast<int>(sizeof(T)); }}
template <typename... P> struct Kinds {{
    template <int... K> static constexpr bool are() {{
        if constexpr (sizeof...(K) != sizeof...(P)) return false; else return ((kind<P>() == K) && ...);
    }}
}};
template <typename... P> Kinds<P...> of(CUresult (*)(P...));
{lines}
"""


def compiles(cuda_h: Path, lines: list[str], folder: Path) -> str:
    source = folder / "check.cpp"
    source.write_text(CHECK.format(lines="\n".join(lines)))
    command = ["g++", "-std=c++17", "-fsyntax-only", "-D__CUDA_API_VERSION_INTERNAL", f"-I{cuda_h}", str(source)]
    return subprocess.run(command, capture_output=True, text=True).stderr


def line_of(name: str, types: tuple) -> str:
    kinds = [-1 if kind is ctypes.c_void_p else ctypes.sizeof(kind) for kind in types]
    return f'static_assert(decltype(of(&{name}))::are<{", ".join(map(str, kinds))}>(), "{name}");'


def test_every_function_is_declared_with_these_parameters(cuda_h: Path, tmp_path: Path) -> None:
    assert compiles(cuda_h, [line_of(*entry) for entry in PROTOTYPES.items()], tmp_path) == ""


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("cuMemAlloc_v2", (ctypes.c_void_p, ctypes.c_int)),
        ("cuStreamBeginCapture_v2", (ctypes.c_void_p,)),
        ("cuGraphStart", (ctypes.c_void_p,)),
    ],
)
def test_a_planted_mistake_is_found(name: str, types: tuple, cuda_h: Path, tmp_path: Path) -> None:
    assert name in compiles(cuda_h, [line_of(name, types)], tmp_path)


def test_a_failed_call_names_the_function_and_the_error(processor_cuda: Path) -> None:
    driver = Driver(ctypes.CDLL(str(processor_cuda / "libcuda.so.1")))
    with pytest.raises(DriverError, match=r"cuMemFree_v2 answers CUDA_ERROR_") as caught:
        driver.call("cuMemFree_v2", 12345)
    assert caught.value.call == "cuMemFree_v2"

"""CUDA's runtime compiler through ctypes: kernels without nvcc, a host compiler or CUDA's headers."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import BuildError


class Nvrtc:
    """One version of the compiler.

    Args:
        library: path or name of ``libnvrtc.so``; its version decides which drivers take what it makes.

    Raises:
        BuildError: it cannot be loaded.
    """

    def __init__(self, library: str) -> None:
        try:
            # Its second half, which it would look for only on the system's library path.
            for built_ins in Path(library).parent.glob("libnvrtc-builtins.so*"):
                ctypes.CDLL(str(built_ins))
            self._library: Any = ctypes.CDLL(library)
        except OSError as error:
            raise BuildError(f"CUDA's runtime compiler cannot be loaded ({error}): name another libnvrtc") from error
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        self.version = f"{major.value}.{minor.value}"

    def compile(self, source: str, headers: Mapping[str, str], target: str) -> bytes:
        """Compile kernels.

        Args:
            source: CUDA C++.
            headers: name in ``#include`` → text.
            target: ``sm_87`` gives machine code, ``compute_75`` gives PTX.

        Raises:
            BuildError: with the compiler's first line.
        """
        program = ctypes.c_void_p()
        names = (ctypes.c_char_p * len(headers))(*(name.encode() for name in headers))
        texts = (ctypes.c_char_p * len(headers))(*(text.encode() for text in headers.values()))
        library = self._library
        library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", len(headers), texts, names)
        try:
            # Fused multiply-adds would round otherwise than the ONNX graph does.
            options = [f"--gpu-architecture={target}", "--fmad=false", "--std=c++17"]
            array = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
            if library.nvrtcCompileProgram(program, len(options), array) != 0:
                log = self._fetch(program, "ProgramLog").decode(errors="replace").strip("\0\n ")
                raise BuildError(f"CUDA {self.version} cannot compile the kernels for {target}: {log.splitlines()[0]}")
            if target.startswith("sm_"):
                return self._fetch(program, "CUBIN")
            return self._fetch(program, "PTX").rstrip(b"\0")
        finally:
            library.nvrtcDestroyProgram(ctypes.byref(program))

    def _fetch(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        getattr(self._library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        content = ctypes.create_string_buffer(size.value)
        getattr(self._library, f"nvrtcGet{what}")(program, content)
        return content.raw

"""The kernels' arithmetic compiled by g++: what the GPU computes, on a machine that has none."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...artifact import scratch_folder
from ...errors import BuildError
from .head import HeadLaunch

_SOURCE = Path(__file__).with_name("host_kernels.cpp")


class HostKernels:
    """The kernels as functions of the processor.

    Args:
        headers: folder that ``head.h`` and ``tail.h`` are read from; another than the package's own is for tests.

    Raises:
        BuildError: g++ is missing or refuses the source.
    """

    def __init__(self, headers: Path = _SOURCE.parent) -> None:
        compiler = shutil.which("g++")
        if compiler is None:
            raise BuildError("g++ is needed to compile the kernels for the processor: sudo apt-get install g++")
        with scratch_folder() as folder:
            library, source = folder / "kernels.so", folder / _SOURCE.name
            # Copied, because g++ looks for headers beside the source first.
            source.write_bytes(_SOURCE.read_bytes())
            flags = ["-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{headers}"]
            done = subprocess.run([compiler, *flags, "-o", str(library), str(source)], capture_output=True, text=True)
            if done.returncode != 0:
                raise BuildError(
                    f"g++ cannot compile the kernels ({done.stderr.strip()[:200]}): install g++ 9 or later"
                )
            self._library: Any = ctypes.CDLL(str(library))

    def masks(self, logits: NDArray[np.floating], size_hw: tuple[int, int], align_corners: bool) -> NDArray[np.uint8]:
        """Logits ``float32`` or ``float16 [N, classes, h, w]`` → class ids ``uint8 [N, H, W]``."""
        logits = np.ascontiguousarray(logits)
        masks = np.empty((logits.shape[0], *size_hw), np.uint8)
        function = self._library.tail_masks_half if logits.dtype == np.float16 else self._library.tail_masks
        function(_pointer(logits), _pointer(masks), *logits.shape, *size_hw, int(align_corners))
        return masks

    def input(
        self, pixels: NDArray[np.uint8], levels: NDArray[np.generic], launch: HeadLaunch, values: int
    ) -> NDArray[Any]:
        """One picture → the network's input for it, ``values`` numbers of the type of ``levels``.

        Args:
            pixels: bytes from the picture's first pixel on.
            levels: ``[C, 256]``.
            launch: what ``head_launch`` gave.
            values: how many the input has.
        """
        given = np.empty(values, levels.dtype)
        numbers = np.array(launch.numbers, np.int32)
        levels = np.ascontiguousarray(levels)
        function = getattr(self._library, launch.kernel)
        function(*(_pointer(each) for each in (pixels, launch.table, levels, given, numbers)))
        return given


def _pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)

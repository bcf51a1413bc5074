"""What the machine is, and what needs no GPU: the runtimes of the processor."""

from __future__ import annotations

import platform

from .. import bundled
from ..artifact import scratch_folder
from ..data.geometry import frame_at
from ..data.scenes import Drive
from ..engine.backends import CPU_RUNTIMES, open_engine
from ..engine.build import build_engine
from ..engine.tensorrt.driver import driver_version
from ..engine.tensorrt.gpu import find_gpu, free_memory_bytes
from ..engine.tensorrt.kernels import find_nvcc
from ..lazy import available
from .outcome import Answer, Skipped, require

_AGREEMENT = 0.98
"""Of INT8 masks of two runtimes, whose kernels round differently."""


def check_facts() -> Answer:
    """Driver, GPU, memory and compilers."""
    gpu, free = find_gpu(), free_memory_bytes()
    figures = {
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "gpu": gpu.name if gpu else None,
        "compute_capability": gpu.compute_capability if gpu else None,
        "integrated": gpu.integrated if gpu else None,
        "driver_cuda": "{}.{}".format(*driver_version()) if gpu else None,
        "nvcc": find_nvcc(),
        "free_memory_bytes": free,
        "tensorrt": available("tensorrt"),
        "tensorrt_rtx": available("tensorrt_rtx"),
    }
    where = f"{gpu.name}, compute capability {gpu.compute_capability}" if gpu else "no NVIDIA GPU"
    return Answer(f"{platform.machine()}, Python {platform.python_version()}, {where}", figures)


def check_processor_runtimes() -> Answer:
    """An INT8 engine of each runtime of the processor, built and run on drawn frames; their masks agree."""
    runtimes = [runtime for runtime in CPU_RUNTIMES if available(runtime)]
    if not runtimes:
        raise Skipped("neither OpenVINO nor ONNX Runtime is installed")
    masks = {}
    with scratch_folder() as folder:
        for runtime in runtimes:
            path = folder / f"{runtime}.engine"
            build_engine(bundled.DEFAULT, "int8", runtime, path)
            with open_engine(path) as engine:
                frame = frame_at(Drive().frame(30).image, engine.size_hw)
                masks[runtime] = engine.infer(frame[None])
    first = masks[runtimes[0]]
    agreement = min(float((mask == first).mean()) for mask in masks.values())
    require(len(set(first.ravel().tolist())) > 2, "the mask of a street shows fewer than three classes")
    require(
        agreement >= _AGREEMENT, f"INT8 masks of {' and '.join(runtimes)} agree in {agreement:.2%} of the pixels only"
    )
    return Answer(f"INT8 engines of {' and '.join(runtimes)} run, {agreement:.2%} of their pixels agree")

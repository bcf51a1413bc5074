"""The CUDA kernels as a GPU takes them: shipped with the package, or compiled here by nvcc.

``kernels/`` holds machine code for the Jetsons and PTX, which a driver compiles for any other GPU from Turing on. They
are made by ``python -m pspnet_edge.engine.tensorrt.compile_kernels``.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from ...artifact import scratch_folder
from ...errors import BuildError

SOURCE = Path(__file__).with_name("kernels.cu")
HEADERS = (Path(__file__).with_name("head.h"), Path(__file__).with_name("tail.h"))
SHIPPED = Path(__file__).with_name("kernels")
PTX_TARGET = "compute_75"
_GRAPH = "build with --head graph --tail graph"


def shipped_cubin(compute_capability: str) -> bytes | None:
    """The machine code that ships for one GPU, such as ``8.7``; None when there is none."""
    path = SHIPPED / f"sm_{compute_capability.replace('.', '')}.cubin"
    return path.read_bytes() if path.is_file() else None


def shipped_ptx() -> bytes:
    """The kernels as PTX, for the driver to compile."""
    return (SHIPPED / f"{PTX_TARGET}.ptx").read_bytes()


def has_kernels(compute_capability: str) -> bool:
    """Whether ``kernels_for`` has some for a GPU without a compiler on this machine."""
    return shipped_cubin(compute_capability) is not None or _takes_ptx(compute_capability)


def _takes_ptx(compute_capability: str) -> bool:
    return tuple(map(int, compute_capability.split("."))) >= (7, 5)


def kernels_for(compute_capability: str) -> bytes:
    """The kernels for one GPU: shipped machine code, else nvcc's, else PTX.

    Raises:
        BuildError: the GPU is older than Turing and no nvcc here knows it.
    """
    cubin = shipped_cubin(compute_capability)
    if cubin is not None:
        return cubin
    if find_nvcc() is not None:
        return compiled_kernels(compute_capability)
    if not _takes_ptx(compute_capability):
        raise BuildError(
            f"no kernels ship for compute capability {compute_capability}, and nvcc is not here: install CUDA, or "
            f"{_GRAPH}"
        )
    return shipped_ptx()


def find_nvcc() -> str | None:
    """CUDA's compiler, on PATH or where JetPack puts it."""
    return shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")


def compiled_kernels(compute_capability: str) -> bytes:
    """The kernels as machine code for one GPU, such as ``8.7``, compiled here.

    Raises:
        BuildError: nvcc is missing or does not know that GPU.
    """
    nvcc = find_nvcc()
    if nvcc is None:
        raise BuildError(f"compiling kernels needs nvcc, which is not on PATH: install the CUDA toolkit, or {_GRAPH}")
    with scratch_folder() as folder:
        target = folder / "kernels.cubin"
        arch = f"-arch=sm_{compute_capability.replace('.', '')}"
        # Fused multiply-adds would round otherwise than the graph does.
        command = [nvcc, "-cubin", "-O3", "-fmad=false", arch, "-o", str(target), str(SOURCE)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            reason = " ".join((done.stderr or done.stdout).split())[:200]
            raise BuildError(
                f"nvcc cannot compile the kernels for compute capability {compute_capability} ({reason}): {_GRAPH}"
            )
        return target.read_bytes()

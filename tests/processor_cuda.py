"""A CUDA driver in the processor's memory, for tests on machines without a GPU."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

from pspnet_edge.engine.tensorrt.host_kernels import HostKernels

CUDA_INCLUDE = Path("/usr/local/cuda/include")
DRIVER = Path(__file__).with_name("processor_cuda.cpp")
HEADERS = Path(HostKernels.__init__.__code__.co_filename).parent


@pytest.fixture(scope="session")
def cuda_h() -> Path:
    """The folder of ``cuda.h``: the toolkit's, or that of the packages which PyTorch brings."""
    nvcc = shutil.which("nvcc")
    folders = [CUDA_INCLUDE, *([Path(nvcc).resolve().parents[1] / "include"] if nvcc else [])]
    if packages := importlib.util.find_spec("nvidia"):
        places = packages.submodule_search_locations or ()
        folders += [folder for place in places for folder in Path(place).glob("*/include")]
    found = next((folder for folder in folders if (folder / "cuda.h").is_file()), None)
    if found is None or shutil.which("g++") is None:
        pytest.skip("the CUDA toolkit's headers or g++ are not here")
    return found


@pytest.fixture(scope="session")
def processor_cuda(cuda_h: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a ``libcuda.so.1`` that runs in the processor's memory: see ``processor_cuda.cpp``."""
    return compiled_driver(tmp_path_factory.mktemp("cuda"), cuda_h, HEADERS, DRIVER.read_text(encoding="utf-8"))


def compiled_driver(folder: Path, cuda_h: Path, kernels: Path, source: str) -> Path:
    """The folder, with a ``libcuda.so.1`` whose kernels are those of the headers in another."""
    (folder / DRIVER.name).write_text(source, encoding="utf-8")
    library = folder / "libcuda.so.1"
    flags = ["-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC", f"-I{cuda_h}", f"-I{kernels}"]
    command = ["g++", *flags, "-Wl,-soname,libcuda.so.1", "-o", str(library), str(folder / DRIVER.name)]
    subprocess.run(command, check=True)
    return folder

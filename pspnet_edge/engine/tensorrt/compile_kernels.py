"""Compile the kernels that ship with the package, into ``kernels/`` beside this file.

    pip install --target DIR nvidia-cuda-nvrtc-cu12==12.2.140     # and nvidia-cuda-nvrtc==13.0.88 into another
    python -m pspnet_edge.engine.tensorrt.compile_kernels DIR/nvidia/cuda_nvrtc/lib/libnvrtc.so.12 \\
        OTHER/nvidia/cu13/lib/libnvrtc.so.13

Machine code runs on drivers of the CUDA that made it or a later one. CUDA 12.2 is that of JetPack 6.0, so it makes what
Orin and all other GPUs get; CUDA 13 was the first to know Thor, as JetPack 7 was.
"""

from __future__ import annotations

import argparse
import hashlib

from ...artifact import write_bytes, write_json
from .kernels import HEADERS, PTX_TARGET, SHIPPED, SOURCE
from .nvrtc import Nvrtc

_BY_MAJOR = {"12": ("sm_87", PTX_TARGET), "13": ("sm_110",)}


def source_sha256() -> str:
    """The fingerprint of what the kernels are compiled from."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in (SOURCE, *HEADERS))).hexdigest()


def main() -> None:
    """Compile for every target with the version of the compiler that its boards take."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("libnvrtc", nargs=2, help="libnvrtc.so.12 and libnvrtc.so.13, in any order")
    headers = {path.name: path.read_text("utf-8") for path in HEADERS}
    made = {}
    for library in parser.parse_args().libnvrtc:
        compiler = Nvrtc(library)
        for target in _BY_MAJOR[compiler.version.split(".")[0]]:
            content = compiler.compile(SOURCE.read_text("utf-8"), headers, target)
            name = f"{target}.ptx" if target == PTX_TARGET else f"{target}.cubin"
            write_bytes(SHIPPED / name, content)
            made[name] = {"cuda": compiler.version, "bytes": len(content)}
            print(f"{name}: {len(content)} bytes, CUDA {compiler.version}")
    write_json(SHIPPED / "made.json", {"source_sha256": source_sha256(), "files": dict(sorted(made.items()))})


if __name__ == "__main__":
    main()

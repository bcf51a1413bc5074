"""Opens, runs and closes one engine many times, and prints what stays: threads, descriptors and memory of the process.

    python benchmarks/openings.py --runtime onnxruntime --times 1000 [--small]

One JSON object on stdout; exit status 1 when a thread or a descriptor stays, or more than 10 MB.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from fuzz_inputs import small_model

from pspnet_edge.camera.segmenter import Segmenter
from pspnet_edge.engine.build import build_engine, prepare_model
from pspnet_edge.graph.onnx_file import write_model

MOST_BYTES = 10_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtime", choices=("openvino", "onnxruntime"), required=True)
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument(
        "--small", action="store_true", help="a network of a few kilobytes, not the bundled one in INT8"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, model = Path(folder) / "x.engine", Path(folder) / "small.onnx"
        if options.small:
            write_model(model, small_model())
            build_engine(prepare_model(str(model)), "fp32", options.runtime, path)
        else:
            build_engine(prepare_model(None), "int8", options.runtime, path)
        open_and_close(path, options.times // 10)
        before = least(path)
        open_and_close(path, options.times - options.times // 10)
        after = least(path)
    grown = {"threads": after[0] - before[0], "descriptors": after[1] - before[1], "bytes": after[2] - before[2]}
    told = {"runtime": options.runtime, "small": options.small, "times": options.times, "grown": grown}
    print(json.dumps(told))
    if grown["threads"] or grown["descriptors"] or grown["bytes"] > MOST_BYTES:
        sys.exit(1)


def open_and_close(path: Path, times: int) -> None:
    frame = np.zeros((60, 80, 3), np.uint8)
    for _ in range(times):
        with Segmenter(path) as segmenter:
            segmenter(frame)


def least(path: Path) -> tuple[int, int, int]:
    """Allocators hold on to what one opening needed or not, in turn: the least of several says what stays."""
    return min(resources() for _ in range(5) if open_and_close(path, 1) is None)


def resources() -> tuple[int, int, int]:
    """Threads, descriptors and resident bytes of this process."""
    gc.collect()
    own = Path("/proc/self")
    resident = int((own / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return len(list((own / "task").iterdir())), len(list((own / "fd").iterdir())), resident


if __name__ == "__main__":
    main()

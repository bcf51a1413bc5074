"""What `pspnet-edge calibrate` takes: peak memory with 16 and with 320 images, and time an image beside plain inference.

    python benchmarks/calibrate.py --camvid ../shared/data/camvid

Memory is the peak resident set of the command's own process. The time an image is the difference of the two runs over the
difference of their images, so that starting up is not in it; plain inference is the same FP32 model in ONNX Runtime on the
same images, reading and resizing included, timed before the runs and after. Where other work shares the machine, the ratio
of processor time says more than that of the clock.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
from zoo import ROOT

from pspnet_edge import bundled
from pspnet_edge.artifact import write_json
from pspnet_edge.data.datasets import Dataset, open_dataset
from pspnet_edge.data.geometry import frame_at
from pspnet_edge.data.subset import evenly_spaced

FEW, MANY = 16, 320
PLAIN = 32


def main() -> None:
    """Parse the command line, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path, required=True)
    camvid = parser.parse_args().camvid
    images = evenly_spaced(open_dataset("camvid", camvid, "train"), PLAIN)
    before = plain(images)
    few, many = calibrate(camvid, FEW), calibrate(camvid, MANY)
    after = plain(images)
    image = (many.wall_s - few.wall_s) / (MANY - FEW), (many.cpu_s - few.cpu_s) / (MANY - FEW)
    inference = (before.wall_s + after.wall_s) / 2, (before.cpu_s + after.cpu_s) / 2
    facts = {
        "images": [FEW, MANY],
        "peak_bytes": [few.peak_bytes, many.peak_bytes],
        "peak_ratio": round(many.peak_bytes / few.peak_bytes, 3),
        "image_ms": round(1000 * image[0], 1),
        "plain_inference_ms": round(1000 * inference[0], 1),
        "time_ratio": round(image[0] / inference[0], 2),
        "processor_time_ratio": round(image[1] / inference[1], 2),
    }
    write_json(ROOT / "benchmarks" / "results" / "calibrate.json", facts)
    print(
        f"peak memory: {few.peak_bytes >> 20} MiB with {FEW} images, {many.peak_bytes >> 20} MiB with {MANY}: "
        f"{facts['peak_ratio']} times (at most 1.15)"
    )
    print(
        f"time an image: {facts['image_ms']} ms, plain FP32 inference {facts['plain_inference_ms']} ms: "
        f"{facts['time_ratio']} times, in processor time {facts['processor_time_ratio']} times (at most 10)"
    )


@dataclass(frozen=True)
class Cost:
    """Seconds by the clock, seconds of all processors together, and peak resident bytes."""

    wall_s: float
    cpu_s: float
    peak_bytes: int = 0


def calibrate(camvid: Path, count: int) -> Cost:
    """One run of the command."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--dataset", "camvid", "--root", camvid, "--images", count, "-o", Path(folder) / "table.json"]
        command = [sys.executable, "-m", "pspnet_edge", "calibrate", *map(str, options)]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"calibrate ended with status {process.returncode}")
        return Cost(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def plain(images: Dataset) -> Cost:
    """Of one image, from its file to its mask; the mean of all, warmed up."""
    path = bundled.onnx_path(bundled.DEFAULT)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    frames = session.get_inputs()[0]
    height, width = frames.shape[1:3]

    def segment(index: int) -> None:
        session.run(None, {frames.name: frame_at(images.image(index), (height, width))[None]})

    segment(0)
    wall, cpu = time.perf_counter(), time.process_time()
    for index in range(len(images)):
        segment(index)
    return Cost((time.perf_counter() - wall) / len(images), (time.process_time() - cpu) / len(images))


if __name__ == "__main__":
    main()

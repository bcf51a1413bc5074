"""The published report: the bundled model at three sizes, in three precisions and two runtimes, on CamVid's test split.

    python benchmarks/camvid.py --camvid ../shared/data/camvid [-o reports/camvid]

It runs `pspnet-edge benchmark`, prints the command, and copies what holds no image of CamVid (report.json, report.md and
report.png) to benchmarks/results; the page, whose overlays are drawn on CamVid, stays in the output folder. An interrupted
run goes on where it was.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from pspnet_edge.artifact import atomic_path

ROOT = Path(__file__).resolve().parents[1]
SIZES = "384x480,288x384,480x576"
PRECISIONS = "fp32,fp16,int8"
RUNTIMES = "openvino,onnxruntime"
BOARDS = "orin-nano,agx-orin"
PUBLISHED = ("report.json", "report.md", "report.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("-o", "--output", type=Path, default=Path("reports/camvid"))
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", help="where copies go")
    options = parser.parse_args()
    what = ("--size", SIZES, "--precision", PRECISIONS, "--runtime", RUNTIMES, "--estimate", BOARDS)
    data = ("--dataset", "camvid", "--root", options.camvid, "--split", "test")
    how = ("--rounds", options.rounds, "--seconds", options.seconds, "-o", options.output, "--overwrite")
    start = time.monotonic()
    command = [sys.executable, "-m", "pspnet_edge", "benchmark", *map(str, (*what, *data, *how))]
    print("$ pspnet-edge", *command[3:], flush=True)
    done = subprocess.run(command, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    for name in PUBLISHED:
        with atomic_path(options.results / name) as temporary:
            shutil.copyfile(options.output / name, temporary)
    print(f"{(time.monotonic() - start) / 60:.1f} minutes; see {options.output / 'report.html'}")


if __name__ == "__main__":
    main()

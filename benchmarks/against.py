"""Does `benchmark --against` find a slow-down of a tenth, and is it silent when nothing changed?

    python benchmarks/against.py [--pairs 10] [--rounds 7] [--seconds 1] [--slower 0.1]

Runs the same benchmark again and again on this machine as it is. Each plain run is held against the plain one before it,
and each slowed one, whose engine sleeps for that share of every inference, against the plain one before it. What was
planted is planted from outside, through Python's sitecustomize and what it changes in the start of child processes;
nothing in the package knows of it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pspnet_edge.artifact import write_json

ROOT = Path(__file__).resolve().parents[1]
SLOWED = """
import time
from pspnet_edge.engine.engine import Engine
plain = Engine.infer
def slowed(self, frames):
    start = time.perf_counter()
    masks = plain(self, frames)
    time.sleep({share} * (time.perf_counter() - start))
    return masks
Engine.infer = slowed
"""
# Engines are timed in processes that run no sitecustomize (pspnet_edge/child.py).
SITECUSTOMIZE = """
from pspnet_edge import child
assert "import runpy" in child._START
child._START = child._START.replace("import runpy", "import slowed, runpy")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--slower", type=float, default=0.10, help="by what share the slowed engine is slower")
    parser.add_argument("--precision", default="fp32,int8")
    parser.add_argument("--runtime", default="openvino,onnxruntime")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "benchmarks" / "results" / "against.json")
    options = parser.parse_args()
    silent = found = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images(folder / "images")
        (folder / "planted").mkdir()
        (folder / "planted" / "slowed.py").write_text(SLOWED.format(share=options.slower))
        (folder / "planted" / "sitecustomize.py").write_text(SITECUSTOMIZE)
        last = run(folder, "plain0", options)
        for pair in range(1, options.pairs + 1):
            slowed, changes = compared(folder, f"slowed{pair}", last, options, slow=True)
            found += slowed
            print(f"slowed {pair}: {'found' if slowed else 'MISSED'} {changes}", flush=True)
            _, changes = compared(folder, f"plain{pair}", last, options)
            silent += not changes
            print(f"plain {pair}: {'ALARM' if changes else 'silent'} {changes}", flush=True)
            last = folder / f"plain{pair}" / "report.json"
    facts = {"pairs": options.pairs, "rounds": options.rounds, "seconds": options.seconds, "slowed_by": options.slower}
    facts |= {"engines": f"{options.precision} × {options.runtime}", "found": found, "silent": silent}
    write_json(options.output, facts)
    print(json.dumps(facts))


def images(folder: Path) -> None:
    """mIoU is not the matter here: one image to agree on."""
    import cv2

    from pspnet_edge.data.datasets import SceneSet

    folder.mkdir()
    cv2.imwrite(str(folder / "street.png"), SceneSet("test")[0][0])


def compared(
    folder: Path, name: str, old: Path, options: argparse.Namespace, slow: bool = False
) -> tuple[bool, list[str]]:
    """Whether a run is said to be worse than an older one, and all that is said to have changed."""
    report = json.loads(run(folder, name, options, "--against", old, slow=slow).read_text(encoding="utf-8"))
    changes = [f"{change['row']} {change['what']} {change['change']:+.1%}" for change in report["against"]["changes"]]
    return report["against"]["regressed"], changes


def run(folder: Path, name: str, options: argparse.Namespace, *more: object, slow: bool = False) -> Path:
    """One benchmark; the place of its report.json."""
    what = ("--precision", options.precision, "--runtime", options.runtime, "--root", folder / "images")
    how = ("--rounds", options.rounds, "--seconds", options.seconds, "-o", folder / name)
    command = [sys.executable, "-m", "pspnet_edge", "benchmark", *map(str, (*what, *how, *more))]
    path = os.pathsep.join(filter(None, (str(folder / "planted"), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, **({"PYTHONPATH": path} if slow else {})}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1) or not (folder / name / "report.json").is_file():
        sys.exit(done.stderr)
    return folder / name / "report.json"


if __name__ == "__main__":
    main()

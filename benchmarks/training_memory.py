"""What keeping freed memory saves in a training step on a CPU: processor time in the program and in the kernel.

    python benchmarks/training_memory.py --camvid ../shared/data/camvid [--rounds 3] [--steps 7]

Two processes a round train `pspnet_fast` from its bundled weights with the default recipe on one thread, on the same
batches, one of them with glibc as it is. Prints the medians over rounds of a step's seconds and page faults.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

WAYS = ("as it is", "kept")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(step_costs(options.camvid, options.steps, options.way == "kept")))
        return
    costs: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way in WAYS:
            command = [sys.executable, *sys.argv, "--way", way]
            costs[way].append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    print("| freed memory | s in the program | s in the kernel | page faults |\n|---|---|---|---|")
    for way in WAYS:
        user, kernel, faults = np.median(costs[way], axis=0)
        print(f"| {way} | {user:.2f} | {kernel:.2f} | {faults:.0f} |")
    before, after = (np.sum(np.median(costs[way], axis=0)[:2]) for way in WAYS)
    print(f"kept: {after / before:.2f} of the processor time")


def step_costs(camvid: Path, steps: int, keep: bool) -> list[float]:
    """Seconds in the program and in the kernel, and page faults, of one step."""
    import torch

    from pspnet_edge import bundled
    from pspnet_edge.data.datasets import open_dataset
    from pspnet_edge.model.checkpoint import load_checkpoint
    from pspnet_edge.train.memory import keep_freed_memory
    from pspnet_edge.train.recipe import Recipe
    from pspnet_edge.train.step import Run

    torch.set_num_threads(1)
    if keep:
        keep_freed_memory()
    model = load_checkpoint(bundled.checkpoint_path("pspnet_fast_camvid")).model
    run = Run(Recipe(), model, open_dataset("camvid", camvid, "train"), None, workers=0)
    batches = run.micro_batches(range(1))
    ready = [next(batches) for _ in range(2 + steps)]
    run.begin_epoch(0)
    for step in range(2):  # the first allocate what the others use again
        run.step([ready[step]], step)
    before = resource.getrusage(resource.RUSAGE_SELF)
    for step in range(2, 2 + steps):
        run.step([ready[step]], step)
    after = resource.getrusage(resource.RUSAGE_SELF)
    names = ("ru_utime", "ru_stime", "ru_minflt")
    return [(getattr(after, name) - getattr(before, name)) / steps for name in names]


if __name__ == "__main__":
    main()

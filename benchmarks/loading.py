"""Whether preparing batches holds training back: steps on batches as `train` reads them, and on batches kept in memory.

    python benchmarks/loading.py --camvid ../shared/data/camvid [--rounds 5] [--steps 12]

Blocks of steps take turns, so that drift of the machine falls on both alike. One reader lives through all of them, as it does
through a run. What it has ready when a block begins is thrown away first, so that a block of N steps pays for preparing at
least N batches, and it is at rest while the other kind of block runs. Both train the bundled recipe: crops of 288×384,
batches of 8, one worker. Figures are medians over rounds; the ratio is taken round by round.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from speed import processor
from zoo import ROOT

from pspnet_edge import bundled
from pspnet_edge.artifact import write_bytes, write_json
from pspnet_edge.data.datasets import open_dataset
from pspnet_edge.model.checkpoint import load_checkpoint
from pspnet_edge.train.batches import PREFETCHED, MicroBatch
from pspnet_edge.train.recipe import Recipe
from pspnet_edge.train.step import Run

BAR = 0.9
REST_S = 3.0
"""Far longer than a worker needs to have its batches ready again."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12, help="steps a block")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "benchmarks" / "results" / "loading.json")
    options = parser.parse_args()
    recipe = Recipe(epochs=1000)
    run = Run(
        recipe,
        load_checkpoint(bundled.checkpoint_path(bundled.DEFAULT)).model,
        open_dataset("camvid", options.camvid, "train"),
        open_dataset("scenes", None, "train"),
        workers=options.workers,
    )
    if options.steps > run.steps_per_epoch:
        parser.error(f"an epoch has {run.steps_per_epoch} steps, and a block must be shorter")
    seconds = interleaved(run, options.rounds, options.steps, options.workers)
    windows = options.steps * recipe.batch
    ratios = np.array(seconds["kept"]) / np.array(seconds["read"])
    facts = {
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "workers": options.workers,
        "rounds": options.rounds,
        "steps_a_block": options.steps,
        "batch": recipe.batch,
        "crop_hw": list(recipe.crop_hw),
        "images_per_s": {name: round(windows / float(np.median(times)), 3) for name, times in seconds.items()},
        "ratio": round(float(np.median(ratios)), 4),
        "ratio_of_each_round": [round(float(ratio), 4) for ratio in ratios],
        "bar": BAR,
    }
    write_json(options.output, facts)
    write_bytes(options.output.with_suffix(".md"), table(facts).encode())
    print(table(facts))


def interleaved(run: Run, rounds: int, steps: int, workers: int) -> dict[str, list[float]]:
    """Seconds a block of each kind in each round; the first round warms up and is not counted."""
    seconds: dict[str, list[float]] = {"read": [], "kept": []}
    reader = run.micro_batches(range(1000))
    kept = [next(reader) for _ in range(steps)]
    for turn in range(rounds + 1):
        for _ in range(PREFETCHED * workers):
            next(reader)
        start = time.perf_counter()
        block(run, reader, turn, steps)
        read = time.perf_counter() - start
        time.sleep(REST_S)
        start = time.perf_counter()
        block(run, iter(kept), turn, steps)
        if turn:
            seconds["read"].append(read)
            seconds["kept"].append(time.perf_counter() - start)
    reader.close()
    return seconds


def block(run: Run, parts: Iterable[MicroBatch], epoch: int, steps: int) -> None:
    run.begin_epoch(epoch)
    for step, part in zip(range(steps), parts):
        run.step([part], epoch * run.steps_per_epoch + step)


def table(facts: dict) -> str:
    speed = facts["images_per_s"]
    return (
        f"| batches | images/s |\n|---|---|\n| as `train` reads them | {speed['read']:.2f} |\n"
        f"| kept in memory | {speed['kept']:.2f} |\n\nRatio {facts['ratio']:.3f}, median of {facts['rounds']} rounds of "
        f"{facts['steps_a_block']} steps on {facts['processor']}.\n"
    )


if __name__ == "__main__":
    main()

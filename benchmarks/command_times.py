"""Processor time of everyday commands, held against an older commit in interleaved rounds.

    python benchmarks/command_times.py --against COMMIT [--rounds 8] [--json]

The older commit is checked out into a temporary worktree and runs with this environment's packages. Time is of the
processor, user and system, children included: other work on the machine counts for little. Modules are compiled before.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OPEN = """
from pathlib import Path
try: from pspnet_edge.engine.backends import open_engine
except ImportError: from pspnet_edge.engine.base import open_engine  # before 0.2
for _ in range(3): open_engine(Path({!r})).close()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", required=True, metavar="COMMIT")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        old, folder = Path(name, "old"), Path(name, "out")
        git("worktree", "add", "--quiet", "--detach", old, options.against)
        try:
            facts = measure(old, folder, options.rounds)
        finally:
            git("worktree", "remove", "--force", old)
    for command, (before, now, ratio) in facts.items():
        print(
            f"{command:9} {before:6.3f} s  {now:6.3f} s  {ratio:.3f}", file=sys.stderr if options.json else sys.stdout
        )
    if options.json:
        print(json.dumps(facts))


def measure(old: Path, folder: Path, rounds: int) -> dict[str, tuple[float, float, float]]:
    """By command: medians of the seconds before and now, and the median of the rounds' ratios."""
    folder.mkdir()
    trees = (old, ROOT)
    jobs = [commands(tree, folder / f"{number}.engine") for number, tree in enumerate(trees)]
    for tree, job in zip(trees, jobs):
        compileall.compile_dir(tree / "pspnet_edge", quiet=2)
        seconds(tree, job["build"])
    times: dict[str, list[list[float]]] = {command: [] for command in jobs[0]}
    for turn in range(rounds):
        for command, found in times.items():
            order = (0, 1) if turn % 2 else (1, 0)
            one = {number: seconds(trees[number], jobs[number][command]) for number in order}
            found.append([one[0], one[1]])
    return {
        command: (*map(statistics.median, zip(*found)), statistics.median(now / before for before, now in found))
        for command, found in times.items()
    }


def commands(tree: Path, engine: Path) -> dict[str, list[object]]:
    """What Python is given."""
    ours = ["-m", "pspnet_edge"]
    return {
        "build": [*ours, "build", "--precision", "int8", "-o", engine],
        "open": ["-c", OPEN.format(str(engine))],
        "run": [*ours, "run", engine, "--input", "demo", "--frames", "200", "--view", "none"],
        "evaluate": [*ours, "evaluate", engine, "--dataset", "scenes"],
        "help": [*ours, "--help"],
        "import": ["-c", "import pspnet_edge"],
    }


def seconds(tree: Path, arguments: list[object]) -> float:
    """Of the processor, for one call."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment | {"PYTHONPATH": str(tree)}, cwd=tree.parent, check=True, capture_output=True,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def git(*arguments: object) -> None:
    """In this checkout."""
    subprocess.run(["git", "-C", ROOT, *map(str, arguments)], check=True, capture_output=True)


if __name__ == "__main__":
    main()

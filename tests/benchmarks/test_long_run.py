"""The long run counts what grows, and a short one of it is flat."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def long_run() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return importlib.import_module("long_run")


@pytest.mark.parametrize(
    ("memory_mb", "descriptors", "flat"), [(0.0, 0, True), (9.0, 0, True), (20.0, 0, False), (0.0, 1, False)]
)
def test_what_grows_after_the_warm_up_is_told(
    long_run: ModuleType, memory_mb: float, descriptors: int, flat: bool
) -> None:
    samples = [
        {
            "progress": index,
            "memory_mb": 50 * min(index, 10) + memory_mb * index / 80,
            "threads": 5,
            "descriptors": 9 + descriptors * index // 50,
        }
        for index in range(101)
    ]
    told = long_run.judged({"source": "demo", "samples": samples})
    assert told["flat"] is flat
    assert told["memory_mb_growth"] == pytest.approx(memory_mb, abs=0.1)


@pytest.mark.slow
def test_a_short_run_is_flat() -> None:
    command = [
        sys.executable,
        str(ROOT / "benchmarks/long_run.py"),
        "--frames",
        "20000",
        "--reconnects",
        "20",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    told = json.loads(done.stdout)
    assert done.returncode == 0, told
    assert told["frames"] > 20_000
    assert [run["source"] for run in told["runs"]] == ["demo", "folder", "http", "reconnects"]
    assert told["runs"][3]["reopened"] >= 20

"""The script that kills commands covers every output option, and finds what is planted."""

from __future__ import annotations

import importlib
import os
import random
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ..cli.test_outputs import FILES, FOLDERS

ROOT = Path(__file__).resolve().parents[2]

PLANTED = """
import pathlib, sys
if sys.argv[1] == "status" and pathlib.Path("out").exists():
    sys.exit(1)
if sys.argv[1] == "left":
    pathlib.Path(f"scratch-{id(sys)}").mkdir()
with open("out", "w") as stream:
    stream.write("half")
    stream.flush()
    pathlib.Path("step").mkdir(exist_ok=True)
    stream.write(" and half")
if sys.argv[1] == "left":
    pathlib.Path(f"scratch-{id(sys)}").rmdir()
"""


@pytest.fixture(scope="module")
def kills() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return importlib.import_module("kills")


def test_every_output_option_is_killed(kills: ModuleType) -> None:
    jobs = {name.partition(" (")[0] for name in kills.jobs_of(Path("seeds"), "http://127.0.0.1:9")}
    assert jobs >= {*FILES, *FOLDERS}


@pytest.mark.parametrize("fault", ["half", "status", "left"])
def test_a_command_that_does_harm_is_found(
    kills: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(kills, "MODULE", "planted")
    monkeypatch.setattr(kills, "make_place", lambda root, seeds: (root / "work").mkdir(parents=True))
    (tmp_path / "planted.py").write_text(PLANTED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    job, tally, rng = kills.Job((fault,), over=False), kills.Tally(), random.Random(0)
    reference = kills.refer(job, tmp_path, tmp_path)
    assert reference.steps == (4 if fault == "left" else 2)
    assert reference.differences(kills.values_of(tmp_path / "run")) == []
    while tally.at_step < 8:
        kills.kill(job, reference, tmp_path, tmp_path, rng, tally)
    assert any(found.startswith(fault) for found in tally.faults), tally.faults


@pytest.mark.slow
def test_a_few_kills_do_no_harm(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "benchmarks/kills.py"),
        "--kills",
        "12",
        "--seed",
        str(random.randrange(1000)),
    ]
    for name in (
        "build -o",
        "calibrate -o",
        "data split --root",
        "data import -o",
        "run --save-masks",
        "deploy --home",
    ):
        command += ["--job", name]
    done = subprocess.run([*command, "-o", str(tmp_path)], capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    assert "12 kills, 0 faults" in done.stdout


@pytest.fixture(scope="module")
def inputs(kills: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs") / "seeds"
    kills.make_inputs(folder)
    return folder


def ordinary_files(root: Path) -> set[Path]:
    return {path.relative_to(root) for path in root.rglob("*") if path.is_file() and not path.is_symlink()}


HEAVY = {"export -o", "import -o", "train -o", "benchmark -o", "benchmark --from"}
"""Looked at in tests/cli/test_outputs.py."""


@pytest.mark.slow
def test_no_file_that_a_command_writes_takes_the_place_of_a_fifo(
    kills: ModuleType, inputs: Path, tmp_path: Path
) -> None:
    """Every file, also those whose names nobody gives: sidecars, lists, records, versions, engines in the cache."""
    faults = []
    with kills.serving(inputs / "served") as server:
        for name, job in kills.jobs_of(inputs, server).items():
            if name in HEAVY:
                continue
            root = tmp_path / "run"
            kills.make_place(root, inputs)
            before = ordinary_files(root)
            assert kills.finish(job.words, root)[0] == 0, name
            written = sorted(ordinary_files(root) - before)
            for path in dict.fromkeys((written[0], written[-1])):
                shutil.rmtree(root)
                kills.make_place(root, inputs)
                (root / path.parent).mkdir(parents=True, exist_ok=True)
                os.mkfifo(root / path)
                status, said = kills.finish(job.words, root)
                if not stat.S_ISFIFO((root / path).lstat().st_mode) or status not in (0, 1) or "Traceback" in said:
                    faults.append((name, str(path), status, said))
            shutil.rmtree(root)
    assert faults == []

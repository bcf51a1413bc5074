"""The fuzzer finds what is planted, gives the same inputs for the same seed, and what it once found stays fixed."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests/corpus"


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return importlib.import_module("fuzz")


@pytest.fixture(scope="module")
def seeds(fuzz: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeds") / "seeds"
    fuzz.make_seeds(folder)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "area", ["onnx", "sidecar", "table", "image", "video", "pack", "labels", "recipe", "kept", "adapted"]
)
def test_the_same_seed_gives_the_same_input(fuzz: ModuleType, seeds: Path, tmp_path: Path, area: str) -> None:
    made = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        made.append((fuzz.case_of(area, 3, 5, seeds).write(folder), files_of(folder)))
    assert made[0] == made[1]
    assert fuzz.case_of(area, 3, 5, seeds) != fuzz.case_of(area, 3, 6, seeds)


@pytest.mark.parametrize("area", ["onnx", "sidecar", "table", "image", "pack", "labels", "kept", "adapted"])
def test_an_input_without_edits_is_sound(fuzz: ModuleType, seeds: Path, tmp_path: Path, area: str) -> None:
    arguments = fuzz.Case(area, [], 1, str(seeds)).write(tmp_path)
    assert fuzz.judge(arguments, tmp_path)["status"] == 0


@pytest.mark.parametrize("error", [KeyError("planted"), OSError(36, "File name too long"), MemoryError()])
def test_an_exception_that_became_a_sentence_is_a_fault(
    fuzz: ModuleType, seeds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("pspnet_edge.engine.build.build_engine", fail)
    command = ["build", f"{seeds}/small.onnx", "--runtime", "onnxruntime", "-o", "x.engine"]
    answer = fuzz.judge(command, tmp_path)
    assert answer["status"] == 1
    assert answer["fault"].startswith(f"fault: {type(error).__name__}")


def test_a_crash_and_a_hang_end_a_worker_and_not_the_fuzzer(
    fuzz: ModuleType, seeds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz, "WAITS_S", 0.0)
    worker = fuzz.Worker(tmp_path)
    case = fuzz.Case("table", [], 1, str(seeds))
    assert worker.try_case(case)["fault"].startswith("hang")
    monkeypatch.setattr(fuzz, "WAITS_S", 90.0)
    monkeypatch.setattr(fuzz, "_cpu_s", lambda pid: worker.process.kill() or 0.0)
    assert worker.try_case(case)["fault"] == "crash: status -9"
    monkeypatch.undo()
    assert worker.try_case(case)["fault"] is None
    worker.close()


def test_a_node_of_dev_that_changed_is_told(fuzz: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "fd").symlink_to("/proc/self/fd")
    os.mkfifo(tmp_path / "null")
    before = fuzz._device_nodes(tmp_path)
    os.mkfifo(tmp_path / "video0")  # as when a camera is plugged in
    assert fuzz._changed_nodes(before, fuzz._device_nodes(tmp_path)) == []
    for name in ("null", "fd"):
        (tmp_path / name).unlink()
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "new").write_bytes(b"")
    assert fuzz._changed_nodes(before, fuzz._device_nodes(tmp_path)) == ["fd", "new", "null"]


@pytest.mark.parametrize("name", sorted(path.parent.name for path in CORPUS.glob("*/case.json")))
def test_what_was_found_once_stays_fixed(fuzz: ModuleType, seeds: Path, tmp_path: Path, name: str) -> None:
    arguments = fuzz.Case("stored", [], 0, str(seeds), str(CORPUS / name)).write(tmp_path)
    assert fuzz.judge(arguments, tmp_path)["fault"] is None


@pytest.mark.slow
def test_a_short_run_finds_no_fault(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks/fuzz.py"), "--inputs", "180", "--seed", "1", "--json"]
    done = subprocess.run([*command, "--corpus", str(tmp_path)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert sum(told["inputs"].values()) == 180
    assert told["faults"] == {}

"""What is measured, in which order, and that an interrupted benchmark goes on."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pspnet_edge import bundled
from pspnet_edge.engine.build import build_engine, prepare_model
from pspnet_edge.errors import EngineError, ModelError, OptionError
from pspnet_edge.measure import worker
from pspnet_edge.measure.benchmark import Protocol, exact_of, measure, write_demo_video
from pspnet_edge.measure.store import Store
from pspnet_edge.measure.subjects import Subject, models_at_sizes, subjects_of
from pspnet_edge.measure.worker import run_task
from pspnet_edge.report.rows import pareto, rows_of

from ..benchmark_command import benchmark


@pytest.fixture
def subjects(tmp_path: Path) -> list[Subject]:
    models, engines = models_at_sizes([], [], None, tmp_path, Store(tmp_path / "done"))
    return subjects_of(models, engines, ["fp32", "fp16"], ["onnxruntime"], tmp_path)


@pytest.fixture
def protocol(tmp_path: Path, few_scenes: Path) -> Protocol:
    write_demo_video(tmp_path / "demo.mp4", frames=3)
    images = {"dataset": "folder", "root": str(few_scenes), "split": "test"}
    return Protocol(3, 0.01, images, str(tmp_path / "demo.mp4"))


class Tasks:
    """Stands for processes: answers at once, remembers what it was asked, and is interrupted when it is told to."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        self.stop_at = stop_at

    def __call__(self, task: dict[str, Any], on_done: Any = None) -> dict[str, Any]:
        if len(self.asked) == self.stop_at:
            raise KeyboardInterrupt
        self.asked.append((task["kind"], Path(task["engine"]).name))
        if task["kind"] == "time":
            part = {"ms": [2.0, 2.0 + len(self.asked)], "reference_ms": [1.0], "window": [0.0, 1.0]}
            return {"open_s": 0.1, "engine": part, "loop": part, "peak_memory_bytes": 1000}
        if task["kind"] == "samples":
            return {"samples": []}
        return {
            "miou": 0.5,
            "pixel_accuracy": 0.9,
            "per_class_iou": {"sky": 0.5},
            "confusion_matrix": [[9, 1], [0, 10]],
            "images": 4,
        }


def measured(subjects: list[Subject], protocol: Protocol, folder: Path, tasks: Tasks) -> list[dict[str, Any]]:
    entries, _ = measure(subjects, protocol, folder, Store(folder / "done"), None, lambda done, note: None, tasks)
    return rows_of(entries)


def test_every_engine_runs_once_in_each_round(subjects: list[Subject], protocol: Protocol, tmp_path: Path) -> None:
    tasks = Tasks()
    measured(subjects, protocol, tmp_path, tasks)
    turns = [name for kind, name in tasks.asked if kind == "time"]
    assert len(turns) == 6
    assert all(len(set(turns[first : first + 2])) == 2 for first in (0, 2, 4))
    assert Counter(kind for kind, _ in tasks.asked) == {"time": 6, "score": 2, "samples": 1}


@pytest.mark.parametrize("stop_at", [0, 3, 7, 8])
def test_an_interrupted_benchmark_repeats_nothing(
    subjects: list[Subject], protocol: Protocol, tmp_path: Path, stop_at: int
) -> None:
    before, after, whole = Tasks(stop_at), Tasks(), Tasks()
    with pytest.raises(KeyboardInterrupt):
        measured(subjects, protocol, tmp_path, before)
    resumed = measured(subjects, protocol, tmp_path, after)
    assert len(before.asked) == stop_at
    assert len(before.asked) + len(after.asked) == 9
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    rows = measured(subjects, protocol, fresh, whole)
    assert [row["id"] for row in resumed] == [row["id"] for row in rows]
    assert before.asked + after.asked == whole.asked


def test_other_options_or_another_engine_are_measured_again(
    subjects: list[Subject], protocol: Protocol, tmp_path: Path
) -> None:
    measured(subjects, protocol, tmp_path, Tasks())
    again, longer, other = Tasks(), Tasks(), Tasks()
    measured(subjects, protocol, tmp_path, again)
    assert again.asked == []
    measured(subjects, Protocol(3, 0.02, protocol.images, protocol.video), tmp_path, longer)
    assert Counter(kind for kind, _ in longer.asked) == {"time": 6}
    subjects[1].engine.write_bytes(subjects[1].engine.read_bytes() + b"\0")  # no longer what was built
    build_engine(prepare_model(None), "fp32", "onnxruntime", subjects[1].engine)
    measured(subjects, protocol, tmp_path, other)
    assert other.asked == []  # built again to the very same file


def test_two_runtimes_that_share_a_file_are_both_measured(protocol: Protocol, tmp_path: Path) -> None:
    engine = tmp_path / "a.engine"
    build_engine(prepare_model(None), "fp32", "onnxruntime", engine)
    both = [Subject("m", "fp32", (384, 480), runtime, engine, None) for runtime in ("openvino", "onnxruntime")]
    tasks = Tasks()
    measured(both, protocol, tmp_path, tasks)
    assert Counter(kind for kind, _ in tasks.asked) == {"time": 6, "score": 2}


def test_a_damaged_result_counts_as_absent(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put({"a": 1}, {"value": 2})
    assert store.get({"a": 1}) == {"value": 2}
    assert store.get({"a": 2}) is None
    next(tmp_path.glob("*.json")).write_text('{"key": {"a"')
    assert store.get({"a": 1}) is None
    store.clear()
    assert not tmp_path.exists()


def test_fp32_of_the_same_runtime_is_what_one_is_held_against() -> None:
    def subject(precision: str, runtime: str, size: tuple[int, int] = (8, 8)) -> Subject:
        return Subject("m", precision, size, runtime, Path(), None)

    openvino, onnxruntime = subject("fp32", "openvino"), subject("fp32", "onnxruntime")
    known = [subject("fp32", "openvino", (9, 9)), openvino, onnxruntime]
    assert exact_of(subject("int8", "onnxruntime"), known) is onnxruntime
    assert exact_of(subject("int8", "tensorrt"), known) is openvino
    assert exact_of(subject("int8", "tensorrt", (7, 7)), known) is None


def test_the_pareto_front_has_what_nothing_beats_in_both() -> None:
    rows = [
        {"id": name, "fps": fps, "miou": miou}
        for name, fps, miou in (("slow", 10, 0.7), ("beaten", 9, 0.69), ("fast", 90, 0.6), ("equal", 5, 0.70001))
    ]
    assert pareto([*rows, {"id": "unknown", "fps": 999, "miou": None}]) == ["slow", "fast"]


def test_images_without_labels_are_held_against_fp32(
    subjects: list[Subject], protocol: Protocol, tmp_path: Path, few_scenes: Path
) -> None:
    images = {"dataset": None, "root": str(few_scenes / "images" / "test"), "split": "test"}

    class Real(Tasks):
        def __call__(self, task: dict[str, Any], on_done: Any = None) -> dict[str, Any]:
            return super().__call__(task) if task["kind"] == "time" else worker.perform(task, lambda done: None)

    rows = measured(subjects, Protocol(2, 0.01, images, protocol.video), tmp_path, Real())
    assert rows[0]["agreement"] == 1.0
    assert 0.99 < rows[1]["agreement"] <= 1.0
    assert rows[0]["miou"] is None


def test_a_task_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = {"kind": "time", "engine": str(tmp_path / "absent.engine"), "input": "demo", "seconds": 0.1}
    with pytest.raises(EngineError, match="there is no engine"):
        run_task(task)
    killed = tmp_path / "python"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(killed))
    with pytest.raises(EngineError, match=r"`time absent.engine` ended with status -9 and no result: if the machine"):
        run_task(task)


def test_a_process_counts_its_own_memory_alone() -> None:
    """What the parent held at the fork is not the child's."""
    ballast = bytearray(400 << 20)
    code = "from pspnet_edge.measure.worker import peak_memory_bytes; print(peak_memory_bytes())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 20e6 < int(done.stdout) < 300e6
    assert len(ballast) < worker.peak_memory_bytes()


def test_models_engines_and_sizes(tmp_path: Path) -> None:
    store = Store(tmp_path / "done")
    engine = tmp_path / "mine.engine"
    build_engine(prepare_model(None), "fp32", "onnxruntime", engine)
    models, engines = models_at_sizes([bundled.DEFAULT, str(engine)], [], None, tmp_path, store)
    found = subjects_of(models, engines, ["int8"], ["openvino"], tmp_path)
    assert [(subject.precision, subject.runtime, subject.size_hw) for subject in found] == [
        ("int8", "openvino", (384, 480)),
        ("fp32", "onnxruntime", (384, 480)),
    ]
    with pytest.raises(OptionError, match="is in the benchmark more than once"):
        subjects_of(models * 2, [], ["int8"], ["openvino"], tmp_path)
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(bundled.onnx_path(bundled.DEFAULT).read_bytes())
    with pytest.raises(OptionError, match=r"no checkpoint alone.pt beside it: give the .pt to build it at 96x96"):
        models_at_sizes([str(alone)], [(96, 96)], None, tmp_path, store)
    (tmp_path / "alone.pt").write_bytes(b"of another training")
    (tmp_path / "alone.onnx.json").write_text('{"checkpoint_sha256": "abc"}')
    with pytest.raises(OptionError, match=r"alone.pt is not the checkpoint that alone.onnx was exported from"):
        models_at_sizes([str(alone)], [(96, 96)], None, tmp_path, store)
    with pytest.raises(ModelError, match="there is no model"):
        models_at_sizes(["resnet"], [], None, tmp_path, store)


@pytest.mark.slow
def test_killed_and_given_again_it_goes_on(tmp_path: Path, few_scenes: Path) -> None:
    out = tmp_path / "out"
    options = ("--precision", "fp32", "--runtime", "onnxruntime", "--size", "96x96", "--rounds", 4)
    options += ("--seconds", 0.1, "--dataset", "folder", "--root", few_scenes, "--split", "test", "-o", out)
    command = [sys.executable, "-m", "pspnet_edge", "benchmark", *map(str, options)]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, start_new_session=True)
    done = out / ".unfinished" / "done"
    deadline = time.monotonic() + 120
    while len(list(done.glob("*.json"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "report.json").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in done.glob("*.json")}
    assert len(kept) >= 4
    # Held by a second name, because a finished benchmark removes its folder.
    for path in done.glob("*.json"):
        os.link(path, tmp_path / path.name)
    resumed = benchmark(*options, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in kept} == kept
    assert all((tmp_path / name).stat().st_nlink == 1 for name in kept)  # read, not written again
    assert len(json.loads((out / "report.json").read_text())["rows"][0]["rounds_ms"]) == 4
    assert not done.parent.exists()


def test_against_fails_when_something_got_worse(small_report: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, _ = small_report
    report = json.loads((folder / "report.json").read_text())
    better = copy.deepcopy(report)
    better["rows"][1]["miou"] += 0.01
    (tmp_path / "old.json").write_text(json.dumps(better))
    again = ("--from", folder / "report.json", "-o", tmp_path / "out")
    worse = benchmark(*again, "--against", tmp_path / "old.json", cwd=tmp_path)
    assert worse.returncode == 1
    assert "WORSE" in worse.stdout
    assert "Traceback" not in worse.stderr
    assert "WORSE" in (tmp_path / "out" / "report.html").read_text()
    same = benchmark(*again, "--against", folder / "report.json", "--json", cwd=tmp_path)
    assert same.returncode == 0
    assert json.loads(same.stdout)["against"]["changes"] == []

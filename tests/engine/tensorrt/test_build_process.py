"""Building in a separate process, with the real TensorRT-RTX and with children that misbehave."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pspnet_edge import bundled
from pspnet_edge.engine.tensorrt import build_process
from pspnet_edge.engine.tensorrt.build_process import build_in_child
from pspnet_edge.engine.tensorrt.builder import BuildOptions
from pspnet_edge.errors import BuildError, MissingPackage, OptionError
from pspnet_edge.graph.onnx_file import ModelFile, read_model


@pytest.fixture(scope="module")
def fp32() -> ModelFile:
    return read_model(bundled.onnx_path(bundled.DEFAULT))


def child_that(code: str, monkeypatch: pytest.MonkeyPatch, fp32: ModelFile, cache: Path, limit_s: float = 60) -> None:
    """Build with a child that runs other code, with ``folder`` and ``stream`` as the real one has them."""
    head = "import os, sys, time, signal\nfolder, stream = sys.argv[1], os.fdopen(int(sys.argv[2]), 'w')\n"
    start = subprocess.Popen

    def other(command: list[str], **options: object) -> subprocess.Popen:
        return start([sys.executable, "-c", head + code, *command[-2:]], **options)

    monkeypatch.setattr(build_process.subprocess, "Popen", other)
    build_in_child("tensorrt-rtx", fp32, "fp32", BuildOptions(), cache=cache, limit_s=limit_s)


def test_a_crash_is_one_sentence_with_what_the_builder_said_last(monkeypatch, fp32, tmp_path: Path) -> None:
    code = "print('first'); print('[E] about to dereference'); sys.stdout.flush(); os.kill(os.getpid(), signal.SIGSEGV)"
    with pytest.raises(BuildError, match=r"crashed \(SIGSEGV\), after it said: \[E\] about to dereference") as caught:
        child_that(code, monkeypatch, fp32, tmp_path)
    assert "\n" not in str(caught.value)


def test_an_exit_without_an_answer_is_one_sentence(monkeypatch, fp32, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="ended with status 3"):
        child_that("sys.exit(3)", monkeypatch, fp32, tmp_path)


def test_a_build_that_takes_too_long_is_ended_with_all_its_processes(monkeypatch, fp32, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    code = (
        "import subprocess, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(mark)!r}).write_text(str(child.pid))\n"
        "time.sleep(600)"
    )
    with pytest.raises(BuildError, match="took longer than 3 s"):
        child_that(code, monkeypatch, fp32, tmp_path, limit_s=3)
    for _ in range(100):
        status = Path(f"/proc/{int(mark.read_text())}/status")
        if not status.exists() or "Z (zombie)" in status.read_text():
            break
        time.sleep(0.1)
    else:
        pytest.fail("the grandchild lives")


def test_a_build_that_takes_the_last_memory_is_ended(monkeypatch, fp32, tmp_path: Path) -> None:
    monkeypatch.setattr(build_process, "free_memory_bytes", lambda: 50 << 20)
    with pytest.raises(BuildError, match="only 50 MiB of memory were left"):
        child_that("time.sleep(600)", monkeypatch, fp32, tmp_path)


def test_nothing_is_left_behind(monkeypatch, fp32, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(BuildError):
        child_that("sys.exit(3)", monkeypatch, fp32, tmp_path)
    assert list(tmp_path.glob("*scratch*")) == []
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_errors_keep_their_kind_and_parts(fp32: ModelFile, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="pip install 'pspnet-edge[tensorrt-rtx]' to build with the real one")
    with pytest.raises(OptionError, match="unknown tail 'rubber'"):
        build_in_child("tensorrt-rtx", fp32, "fp32", BuildOptions(tail="rubber"), cache=tmp_path)
    with pytest.raises(OptionError, match="unknown head 'hydra'"):
        build_in_child("tensorrt-rtx", fp32, "fp32", BuildOptions(head="hydra"), cache=tmp_path)
    with pytest.raises(OptionError, match="leave --dla out"):
        build_in_child("tensorrt-rtx", fp32, "fp32", BuildOptions(dla_core=0), cache=tmp_path)


def test_a_missing_runtime_is_said_as_always(fp32: ModelFile, tmp_path: Path) -> None:
    if pytest.importorskip("importlib.util").find_spec("tensorrt"):
        pytest.skip("TensorRT is installed here")
    with pytest.raises(MissingPackage, match="TensorRT is needed to build an engine"):
        build_in_child("tensorrt", fp32, "fp32", BuildOptions(), cache=tmp_path)


@pytest.mark.slow
def test_the_real_builder_reports_progress_and_logs_every_message(
    fp32: ModelFile, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="pip install 'pspnet-edge[tensorrt-rtx]' to build with the real one")
    heard: list[int] = []
    with caplog.at_level(logging.DEBUG, "pspnet_edge"):
        plan = build_in_child(
            "tensorrt-rtx", fp32, "fp16", BuildOptions(), cache=tmp_path, report=lambda done, note: heard.append(done)
        )
    assert plan.content[:4] == b"vtrt"
    assert plan.facts["precision_by_convolution"]
    assert heard == sorted(heard)
    assert heard
    assert any("LayerType: correlation" in record.getMessage() for record in caplog.records)


def test_an_error_in_the_callers_report_ends_the_build_and_comes_out(monkeypatch, fp32, tmp_path: Path) -> None:
    def report(done: int, note: str) -> None:
        raise ZeroDivisionError("in the report")

    code = "import json\nfor n in range(20000): print(json.dumps({'done': 1, 'note': 'x' * 80}), file=stream)"
    start = subprocess.Popen
    head = "import os, sys\nfolder, stream = sys.argv[1], os.fdopen(int(sys.argv[2]), 'w')\n"
    monkeypatch.setattr(
        build_process.subprocess,
        "Popen",
        lambda command, **more: start([sys.executable, "-c", head + code, *command[-2:]], **more),
    )
    with pytest.raises(ZeroDivisionError, match="in the report"):
        build_in_child("tensorrt-rtx", fp32, "fp32", BuildOptions(), cache=tmp_path, report=report, limit_s=60)


@pytest.mark.slow
def test_a_killed_command_leaves_no_builder_behind(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="pip install 'pspnet-edge[tensorrt-rtx]' to build with the real one")
    command = [sys.executable, "-m", "pspnet_edge", "build", "--runtime", "tensorrt-rtx", "--precision", "int8"]
    parent = subprocess.Popen([*command, "-o", str(tmp_path / "e.engine")], stderr=subprocess.DEVNULL)
    try:
        builder = next(filter(None, (child_of(parent.pid) for _ in patiently())), None)
        assert builder is not None
    finally:
        parent.kill()
        parent.wait()
    assert any(not Path(f"/proc/{builder}").exists() for _ in patiently())


def patiently() -> Iterator[None]:
    for _ in range(600):
        yield
        time.sleep(0.05)


def child_of(pid: int) -> int | None:
    """The builder that a process has started, if any."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            is_child = f"PPid:\t{pid}\n" in status.read_text()
            line = status.with_name("cmdline").read_bytes()
        except OSError:
            continue
        if is_child and b"build_process" in line:
            return int(status.parent.name)
    return None

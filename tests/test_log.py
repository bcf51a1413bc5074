from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pspnet_edge.log import redacted


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rtsp://admin:pw@10.0.0.5:554/live", "rtsp://…@10.0.0.5:554/live"),
        ("https://user@host/a.zip failed", "https://…@host/a.zip failed"),
        ("http://u:p@ss@host/", "http://…@host/"),
        ("https://host/a?token=abc&size=3&Signature=x%2F", "https://host/a?token=…&size=3&Signature=…"),
        ("Authorization: Bearer abcdef123", "Authorization: Bearer …"),
        ("a@b.example wrote to /tmp/x@y", "a@b.example wrote to /tmp/x@y"),
        ("https://host/@user/file", "https://host/@user/file"),
    ],
)
def test_credentials_are_left_out(text: str, expected: str) -> None:
    assert redacted(text) == expected


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60)


def test_a_library_writes_nothing_by_itself() -> None:
    done = run("import logging, pspnet_edge; logging.getLogger('pspnet_edge.x').info('hello')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


NATIVE = """
import os, sys
from pspnet_edge.log import native_lines_logged, set_verbosity, start_log
start_log()
set_verbosity(int(sys.argv[1]) if len(sys.argv) > 1 else VERBOSITY)
with native_lines_logged():
    os.write(2, b"[h264 @ 0x1] a line of C\\n")
    print("ours", file=sys.stderr)
os.write(2, b"after\\n")
"""


def test_lines_of_libraries_in_c_go_to_the_log_and_ours_do_not() -> None:
    quiet = run(NATIVE.replace("VERBOSITY", "0")).stderr
    assert quiet.splitlines() == ["ours", "after"]
    loud = run(NATIVE.replace("VERBOSITY", "2")).stderr
    assert "pspnet_edge.native: [h264 @ 0x1] a line of C" in loud
    assert {"ours", "after"} <= set(loud.splitlines())


def test_a_closed_stderr_is_no_trouble() -> None:
    code = NATIVE.replace("VERBOSITY", "0")
    done = subprocess.run(["sh", "-c", f'exec "{sys.executable}" -c "$0" 2>&-', code], capture_output=True, timeout=60)
    assert done.returncode in (0, 1)


def test_the_cause_is_shown_at_v_before_and_after_the_command(command_line, tmp_path: Path) -> None:
    damaged = tmp_path / "m.onnx"
    damaged.write_bytes(b"\x08\x07junk")
    plain = command_line("build", damaged).stderr
    assert len(plain.strip().splitlines()) == 1
    for arguments in (("-v", "build", damaged), ("build", damaged, "-v")):
        done = command_line(*arguments)
        assert done.returncode == 1
        assert "INFO" in done.stderr
        assert "Traceback" not in done.stderr
    assert "Traceback" in command_line("build", damaged, "-vv").stderr


def test_the_log_file_gets_everything_without_secrets(command_line, tmp_path: Path, monkeypatch) -> None:
    log = tmp_path / "logs" / "edge.log"
    monkeypatch.setenv("PSPNET_EDGE_LOG", str(log))
    done = command_line("run", "--input", "http://me:hidden@127.0.0.1:1/cam?token=hidden", "--view", "none")
    assert done.returncode == 1
    text = log.read_text()
    assert "SourceError" in text
    assert "hidden" not in text + done.stderr


def test_a_log_that_cannot_be_written_is_one_sentence(command_line, tmp_path: Path, monkeypatch) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    monkeypatch.setenv("PSPNET_EDGE_LOG", str(fifo))
    done = command_line("models")
    assert done.returncode == 1
    assert "FIFO" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_log_may_lie_in_the_folder_above(command_line, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    monkeypatch.setenv("PSPNET_EDGE_LOG", "../above.log")
    assert command_line("models").returncode == 0


def test_every_command_takes_v(command_line) -> None:
    for command in (("models",), ("data", "check"), ("run",), ("doctor",)):
        assert "--verbose" in command_line(*command, "--help").stdout


def test_v_logs_each_step_and_the_file_gets_what_was_printed_too(command_line, tmp_path: Path, monkeypatch) -> None:
    log, engine = tmp_path / "edge.log", tmp_path / "a.engine"
    monkeypatch.setenv("PSPNET_EDGE_LOG", str(log))
    build = ("build", "--precision", "fp32", "--runtime", "onnxruntime", "-o", engine)
    quiet = command_line(*build)
    assert len(quiet.stderr.splitlines()) == 1
    steps = [f"building {engine} from", f"built {engine}"]
    text = log.read_text()
    assert all(f"pspnet_edge.engine.build: {step}" in text for step in steps)
    assert quiet.stderr.strip() in text
    assert quiet.stdout.strip() in text
    assert f"wrote {engine}" in text
    loud = command_line(*build, "-v").stderr
    assert all(f"INFO    pspnet_edge.engine.build: {step}" in loud for step in steps)
    assert loud.splitlines().count(quiet.stderr.strip()) == 1
    assert f"wrote {engine}" not in loud
    command_line("evaluate", tmp_path / "absent.engine", "--dataset", "scenes", "--json")
    assert "there is no engine" in log.read_text()
    assert "(exit status 1)" in log.read_text()


def test_a_log_on_a_full_disk_loses_lines_and_nothing_else(tmp_path: Path) -> None:
    command = f'ulimit -f 0; PSPNET_EDGE_LOG="{tmp_path}/log" "{sys.executable}" -m pspnet_edge models --json'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "log").stat().st_size == 0


def test_an_application_sees_the_steps_through_logging() -> None:
    code = (
        "import logging, pspnet_edge\n"
        "logging.basicConfig(level=logging.INFO)\n"
        "pspnet_edge.open_engine(precision='fp32', runtime='onnxruntime').close()\n"
    )
    assert "INFO:pspnet_edge.engine.backends:opening " in run(code).stderr

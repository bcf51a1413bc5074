"""How ``run`` ends when it is told to, when nobody reads what it prints, and when it can no longer write."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from pspnet_edge.engine.build import build_engine, prepare_model

DEMO = ("--input", "demo", "--view", "none")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engine") / "int8.engine"
    build_engine(prepare_model(None), "int8", "openvino", path)
    return path


def command(engine: Path, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "pspnet_edge", "run", str(engine), *map(str, (*DEMO, *arguments))]


def start(engine: Path, *arguments: object, **options: object) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(command(engine, *arguments), text=True, **pipes)


def count_frames(video: Path) -> int:
    capture = cv2.VideoCapture(str(video))
    count = 0
    while capture.read()[0]:
        count += 1
    capture.release()
    return count


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_the_summary_and_a_recording_that_plays(
    engine: Path, tmp_path: Path, number: signal.Signals
) -> None:
    video = tmp_path / "v.mp4"
    running = start(engine, "--record", video, "--json")
    end = time.monotonic() + 60
    while not (video.exists() and video.stat().st_size > 20_000):
        assert time.monotonic() < end
        time.sleep(0.05)
    running.send_signal(number)
    running.send_signal(number)  # a second one, as of an impatient user, changes nothing
    out, problems = running.communicate(timeout=30)
    assert running.returncode == 0, problems
    assert problems == ""
    facts = json.loads(out)
    assert facts["outputs"] == [str(video)]
    assert count_frames(video) == facts["frames"] > 0


@pytest.mark.slow
def test_nohup_keeps_it_running(engine: Path) -> None:
    ignored = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *command(engine, "--frames", 40, "--json")]
    running = subprocess.Popen(ignored, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(20):
        time.sleep(0.1)
        running.send_signal(signal.SIGHUP)
    out, problems = running.communicate(timeout=60)
    assert running.returncode == 0, problems
    assert json.loads(out)["frames"] == 40


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_fault_and_get_into_no_file(engine: Path, tmp_path: Path, closed: str) -> None:
    video = tmp_path / "v.mp4"
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *command(engine, "--frames", 10, "--record", video, "--stats", "s.jsonl")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert count_frames(video) == 10
    for line in (tmp_path / "s.jsonl").read_text().splitlines():
        json.loads(line)


@pytest.mark.slow
def test_nobody_who_reads_its_messages_is_no_reason_to_end(engine: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "00000000.png").write_bytes(b"")  # so that there is something to say
    running = start(engine, "--frames", 5, "--save-masks", tmp_path / "m", "--json", stderr=writing)
    os.close(writing)
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 0
    assert json.loads(out)["frames"] == 5


@pytest.mark.slow
def test_nobody_who_reads_its_result_is_exit_1_without_a_traceback(engine: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    running = start(engine, "--frames", 3, "--json", stdout=writing)
    os.close(writing)
    _, problems = running.communicate(timeout=60)
    assert running.returncode == 1
    assert problems == ""


@pytest.mark.slow
def test_a_deleted_working_folder_is_one_sentence_where_it_matters(engine: Path, tmp_path: Path) -> None:
    for arguments, status in ((("--frames", 3), 0), (("--frames", 3, "--record", "v.mp4"), 1)):
        here = 'mkdir "$0"; cd "$0"; rmdir "$0"; exec "$@"'
        done = subprocess.run(
            ["sh", "-c", here, str(tmp_path / "gone"), *command(engine, *arguments)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == status, done.stderr
        assert len(done.stderr.splitlines()) == status
        assert "Traceback" not in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "none", place], check=False).returncode:
        pytest.skip("mounting a small tmpfs is not allowed here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.slow
def test_a_full_disk_ends_saving_and_not_the_run(engine: Path, small_disk: Path) -> None:
    outputs = {name: small_disk / name for name in ("v.mp4", "masks", "overlays", "s.jsonl")}
    options = ("--record", "--save-masks", "--save-overlays", "--stats")
    pairs = [item for pair in zip(options, outputs.values()) for item in pair]
    running = start(engine, "--frames", 120, *pairs, "--json")
    out, problems = running.communicate(timeout=120)
    assert running.returncode == 0, problems
    facts = json.loads(out)
    assert facts["frames"] == 120
    for what in ("recording", "saving masks", "saving overlays"):
        assert sum(line.startswith(what) and "No space left" in line for line in problems.splitlines()) == 1, problems
    assert "Traceback" not in problems
    assert 0 < count_frames(outputs["v.mp4"]) < 120
    assert not [path for path in small_disk.rglob(".*") if path.is_file()], "no half file stays"


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--record", "--save-masks", "--save-overlays", "--stats"])
def test_a_read_only_place_is_one_sentence(engine: Path, small_disk: Path, option: str) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    running = start(engine, "--frames", 3, option, small_disk / "x.mp4")
    out, problems = running.communicate(timeout=60)
    assert (running.returncode, out) == (1, "")
    (sentence,) = problems.splitlines()
    assert "Read-only file system" in sentence

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from pspnet_edge.camera.stats import StatsFile
from pspnet_edge.errors import OutputError


def test_a_line_a_second_and_one_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "stats.jsonl"
    path.write_text('{"old": 1}\n')
    with StatsFile(path, lambda: {"frames": 3, "age_ms": {"p50": float("nan")}}, every_s=0.05):
        time.sleep(0.28)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0] == {"old": 1}
    assert 4 <= len(lines) <= 8
    assert lines[-1]["frames"] == 3
    assert lines[-1]["age_ms"] == {"p50": None}
    assert abs(lines[-1]["time"] - time.time()) < 5


def test_a_moved_file_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "stats.jsonl"
    with StatsFile(path, lambda: {}, every_s=0.02):
        time.sleep(0.1)
        path.rename(tmp_path / "old.jsonl")
        time.sleep(0.1)
    assert path.read_text().count("\n") >= 1


def test_a_full_disk_costs_lines_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_device: Path
) -> None:
    path = tmp_path / "stats.jsonl"
    monkeypatch.setattr("pspnet_edge.camera.stats.open_for_append", lambda path: os.open(full_device, os.O_WRONLY))
    with StatsFile(path, lambda: {}, every_s=0.02) as stats:
        time.sleep(0.1)
        lost = stats.lost
        monkeypatch.undo()
        time.sleep(0.1)
    assert lost >= 1
    assert [set(json.loads(line)) for line in path.read_text().splitlines()][-1] == {"time"}


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        StatsFile(tmp_path, lambda: {})

from __future__ import annotations

import csv
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the train extra is not installed")

from pspnet_edge.train.metrics_log import EpochResult, best_miou, board, write_metrics

ROWS = [EpochResult(1, 2.0, float("nan"), float("nan"), 0.1), EpochResult(2, 1.5, 0.4, 0.8, 0.05)]


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="TensorBoard is not installed"
    )
    events = event_accumulator.EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_metrics_are_a_table(tmp_path: Path) -> None:
    write_metrics(tmp_path / "metrics.csv", ROWS)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [row["miou"] for row in rows] == ["nan", "0.4"]
    assert best_miou(ROWS) == 0.4
    assert best_miou(ROWS[:1]) is None


def test_tensorboard_gets_losses_and_scores(tmp_path: Path) -> None:
    with board(tmp_path, 0) as shown:
        for step in (1, 2):
            shown.step(step, 3.0 - step)
        shown.epoch(ROWS[0])
        shown.step(3, 0.5)
        shown.epoch(ROWS[1])
    assert scalars(tmp_path, "loss/step") == [(1, 2.0), (2, 1.0), (3, 0.5)]
    assert scalars(tmp_path, "val/miou") == [(3, pytest.approx(0.4))]
    assert [step for step, _ in scalars(tmp_path, "loss/epoch")] == [2, 3]


def test_steps_that_a_resumed_run_repeats_are_shown_once(tmp_path: Path) -> None:
    with board(tmp_path, 0) as killed:
        for step in range(1, 6):
            killed.step(step, 9.0)
    with board(tmp_path, 3) as resumed:
        for step in (4, 5, 6):
            resumed.step(step, 1.0)
    assert scalars(tmp_path, "loss/step") == [(1, 9.0), (2, 9.0), (3, 9.0), (4, 1.0), (5, 1.0), (6, 1.0)]


def test_nothing_is_written_unless_wanted(tmp_path: Path) -> None:
    with board(None, 0) as shown:
        shown.step(1, 1.0)
        shown.epoch(ROWS[0])
    assert not list(tmp_path.iterdir())

from __future__ import annotations

from pathlib import Path

import pytest

from pspnet_edge.cli.output import duration, progress
from pspnet_edge.cli.training_progress import TrainingProgress, class_line, epoch_line, header_lines, zero_warnings
from pspnet_edge.train.history import EpochResult
from pspnet_edge.train.listener import RunHeader

NAN = float("nan")
HEADER = RunHeader(
    model="pspnet_lite0", folder=Path("runs/mine"), device="CPU", autocast="bf16", processes=2, workers=1, images=48,
    validation_images=12, scenes=4, classes=("road", "car"), parameters=3_330_000, trained_parameters=500_000,
    epochs_done=2, epochs=6, steps_per_epoch=10,
)  # fmt: skip


def test_the_header_says_what_a_run_will_do() -> None:
    assert header_lines(HEADER) == [
        "model    pspnet_lite0, 3.33 M parameters (0.50 M trained)",
        "classes  2: road, car",
        "images   48 to train and 4 procedural scenes, 12 to validate",
        "steps    40: from epoch 3, 4 epochs of 10",
        "device   CPU in bfloat16, 2 processes, 1 loader process",
        "output   runs/mine",
    ]


def test_an_epoch_is_a_line_with_its_time_and_one_with_its_classes() -> None:
    row = EpochResult(5, 0.5, 0.25, 0.8, 0.01, (0.5, 0.0), 75.0)
    assert epoch_line(row, 6, True) == "epoch 5/6: loss 0.5000, val mIoU 0.2500 (best), 75 s"
    assert epoch_line(EpochResult(1, 0.5, NAN, NAN, 0.01), 6, False) == "epoch 1/6: loss 0.5000"
    assert class_line(("road", "car"), (0.5, NAN)) == "  IoU: road 0.500, car absent"


def test_a_class_that_is_never_found_is_pointed_at_and_an_absent_one_is_not() -> None:
    assert zero_warnings(("road", "car", "tree"), (0.5, 0.0, NAN))[0].startswith("car is at IoU 0")
    assert zero_warnings(("road", "car"), (0.0, 0.0))[0].startswith("road, car are at IoU 0")
    assert zero_warnings(("road", "car"), (0.5, NAN)) == []


@pytest.mark.parametrize(("seconds", "text"), [(0.44, "0.4 s"), (35, "35 s"), (720, "12 min"), (7500, "2 h 5 min")])
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("rank", "lines"), [("0", 8), ("1", 0)])
def test_only_the_first_process_prints(rank: str, lines: int, monkeypatch, capsys) -> None:
    monkeypatch.setenv("RANK", rank)
    with TrainingProgress() as shown:
        shown.start(HEADER)
        shown.epoch(EpochResult(3, 0.5, 0.25, 0.8, 0.01, (0.5, 0.1), 75.0), best=True)
    assert len(capsys.readouterr().err.splitlines()) == lines


def test_a_run_that_is_over_has_no_expected_time(monkeypatch, capsys) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("pspnet_edge.cli.training_progress.time.monotonic", lambda: float(next(clock)))
    for steps, estimates in ((5, 0), (50, 1)):
        with TrainingProgress() as shown:
            for step in range(1, 6):
                shown.step(step, steps, 0.5)
        assert capsys.readouterr().err.count("expected time") == estimates


def test_progress_tells_long_times_in_minutes(monkeypatch, capsys) -> None:
    clock = iter((0.0, 0.0, 60.0))
    monkeypatch.setattr("pspnet_edge.cli.output.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    with progress("train", 61) as advance:
        advance(0)
        advance(1)
    assert "train: 1/61, 60 min left" in capsys.readouterr().err

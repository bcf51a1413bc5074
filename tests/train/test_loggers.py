from __future__ import annotations

import time
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the train extra is not installed")

from pspnet_edge.errors import OptionError, PspnetEdgeError
from pspnet_edge.train.history import EpochResult
from pspnet_edge.train.loggers import LoggerSet, opened_loggers
from pspnet_edge.train.recipe import Recipe

NAN = float("nan")
ROWS = [EpochResult(1, 2.0, NAN, NAN, 0.1, elapsed_s=3.0), EpochResult(2, 1.5, 0.4, 0.8, 0.05, (0.6, 0.2), 4.0)]
CLASSES = ("road", "car")


@pytest.fixture(autouse=True)
def _packages_tell_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="TensorBoard is not installed"
    )
    events = event_accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def opened(names: tuple[str, ...], folder: Path, steps_done: int = 0):
    return opened_loggers(names, folder, Recipe(), CLASSES, steps_done)


def log_two_epochs(logger: LoggerSet) -> None:
    for step in (1, 2):
        logger.step(step, 3.0 - step)
    logger.epoch(ROWS[0])
    logger.step(3, 0.5)
    logger.epoch(ROWS[1])


def test_tensorboard_gets_losses_and_scores(tmp_path: Path) -> None:
    with opened(("tensorboard",), tmp_path) as logger:
        log_two_epochs(logger)
    assert scalars(tmp_path, "loss/step") == [(1, 2.0), (2, 1.0), (3, 0.5)]
    assert scalars(tmp_path, "val/miou") == [(3, pytest.approx(0.4))]
    assert scalars(tmp_path, "val/iou/car") == [(3, pytest.approx(0.2))]
    assert [step for step, _ in scalars(tmp_path, "loss/epoch")] == [2, 3]


def test_steps_that_a_resumed_run_repeats_are_shown_once(tmp_path: Path) -> None:
    with opened(("tensorboard",), tmp_path) as killed:
        for step in range(1, 6):
            killed.step(step, 9.0)
    with opened(("tensorboard",), tmp_path, 3) as resumed:
        for step in (4, 5, 6):
            resumed.step(step, 1.0)
    assert scalars(tmp_path, "loss/step") == [(1, 9.0), (2, 9.0), (3, 9.0), (4, 1.0), (5, 1.0), (6, 1.0)]


def test_nothing_is_written_unless_wanted(tmp_path: Path) -> None:
    with opened((), tmp_path) as logger:
        log_two_epochs(logger)
    assert not list(tmp_path.iterdir())


def test_an_unknown_logger_is_one_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(OptionError, match="unknown logger 'neptune': choose tensorboard, wandb or mlflow"),
        opened(("neptune",), tmp_path),
    ):
        pass


def test_mlflow_gets_the_recipe_and_the_figures_and_a_resumed_run_continues(tmp_path: Path, monkeypatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the dev extra is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    folder = tmp_path / "mine"
    with opened(("mlflow",), folder) as logger:
        log_two_epochs(logger)
    with opened(("mlflow",), folder, 3) as logger:
        logger.step(4, 0.25)
    run = mlflow.get_run((folder / "mlflow_run.txt").read_text().strip())
    assert run.info.run_name == "mine"
    assert run.info.status == "FINISHED"
    assert run.data.params["optimizer"] == "adamw"
    assert run.data.metrics["val/miou"] == 0.4
    assert run.data.metrics["loss/step"] == 0.25


def test_wandb_gets_the_figures_offline(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("wandb", reason="the dev extra is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder = tmp_path / "mine"
    folder.mkdir()
    with opened(("wandb",), folder) as logger:
        log_two_epochs(logger)
    records = list((folder / "wandb").glob("offline-run-*/*.wandb"))
    assert len(records) == 1
    # Its own process writes the file, and may still do so when the run is finished.
    deadline = time.monotonic() + 30
    while b"val/miou" not in records[0].read_bytes():
        assert time.monotonic() < deadline, "the figures were never written"
        time.sleep(0.1)
    assert (folder / "wandb_run.txt").read_text().strip() in records[0].name


def test_a_logger_that_cannot_be_opened_is_one_sentence(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("mlflow", reason="the dev extra is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
    with pytest.raises(PspnetEdgeError, match="mlflow cannot be used"), opened(("mlflow",), tmp_path):
        pass


def test_a_logger_that_fails_on_the_way_does_not_end_the_run(caplog) -> None:
    class Failing:
        calls = 0

        def log(self, figures: dict[str, float], step: int) -> None:
            self.calls += 1
            raise ConnectionError("server gone")

        def close(self, failed: bool) -> None:
            pass

    failing = Failing()
    log_two_epochs(LoggerSet([failing], CLASSES, 0))
    assert failing.calls == 1
    assert "stopped logging (server gone); training continues" in caplog.text

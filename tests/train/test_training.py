from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from pspnet_edge import bundled  # noqa: E402
from pspnet_edge.data.datasets import SceneSet  # noqa: E402
from pspnet_edge.data.subset import evenly_spaced  # noqa: E402
from pspnet_edge.errors import OptionError, PspnetEdgeError  # noqa: E402
from pspnet_edge.labels import LabelSet  # noqa: E402
from pspnet_edge.metrics import ConfusionMatrix  # noqa: E402
from pspnet_edge.model.checkpoint import load_checkpoint  # noqa: E402
from pspnet_edge.train import checkpoints, start, training  # noqa: E402
from pspnet_edge.train.history import EpochResult  # noqa: E402
from pspnet_edge.train.listener import Listener, RunHeader  # noqa: E402
from pspnet_edge.train.recipe import Recipe  # noqa: E402
from pspnet_edge.train.step import Run  # noqa: E402
from pspnet_edge.train.training import run_training  # noqa: E402

RECIPE = Recipe(
    "pspnet_lite0", epochs=3, batch=2, crop_hw=(96, 96), scenes_share=0.0, warmup_epochs=0.5, learning_rate=2e-3
)


def run(folder: Path, recipe: Recipe = RECIPE, **options):
    training_set = evenly_spaced(SceneSet("train"), 8)
    validation_set = evenly_spaced(SceneSet("val"), 1)
    return run_training(recipe, training_set, validation_set, None, folder, workers=0, validate_every=3, **options)


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_a_run_that_was_killed_ends_like_one_that_was_not(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")

    class Killer(Listener):
        def step(self, step: int, steps: int, loss: float) -> None:
            if step == 7:  # in the middle of the second epoch
                raise Killed

    with pytest.raises(Killed):
        run(tmp_path / "killed", listener=Killer())
    resumed = run(tmp_path / "killed", resume=True)
    assert (tmp_path / "killed" / "metrics.csv").read_text() == (tmp_path / "whole" / "metrics.csv").read_text()
    assert resumed.miou == whole.miou
    first, second = (load_checkpoint(result.checkpoint).model.state_dict() for result in (whole, resumed))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.slow
def test_a_run_that_was_killed_at_its_end_has_every_picture_after_it_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = checkpoints.save_checkpoint

    def save_and_die(path: Path, *content: object) -> None:
        save(path, *content)
        if path.name == "last.pt":
            raise Killed

    monkeypatch.setattr(checkpoints, "save_checkpoint", save_and_die)
    recipe = replace(RECIPE, epochs=1)
    with pytest.raises(Killed):
        run(tmp_path, recipe, samples=1)
    monkeypatch.undo()
    assert run(tmp_path, recipe, samples=1, resume=True).epochs == 1
    made = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert {"metrics.csv", "results.png", "confusion_matrix.png"} < made
    assert any(name.startswith("epoch001_") for name in made)


@pytest.mark.slow
def test_training_learns(tmp_path: Path) -> None:
    run(tmp_path, replace(RECIPE, epochs=6))
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == list("123456")
    assert float(rows[-1]["loss"]) < 0.9 * float(rows[0]["loss"])
    assert 0 < float(rows[-1]["miou"]) < 1


def test_without_validation_the_last_epoch_is_kept(tmp_path: Path) -> None:
    recipe = Recipe(epochs=1, batch=2, crop_hw=(96, 96), scenes_share=0.0)
    images = evenly_spaced(SceneSet("train"), 2)
    done = run_training(recipe, images, None, None, tmp_path, workers=0, trained_split="scenes train")
    assert done.checkpoint == tmp_path / "final.pt"
    assert done.miou is None
    facts = load_checkpoint(done.checkpoint).facts
    assert (facts["epochs"], facts["trained_split"]) == (1, "scenes train")


def test_resuming_with_another_recipe_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(OptionError, match=r"another recipe \(--learning-rate was 0\.002, not 0\.0001\): leave"):
        run(tmp_path, replace(RECIPE, learning_rate=1e-4), resume=True)


def test_resuming_with_other_classes_is_refused(tmp_path: Path) -> None:
    run(tmp_path, replace(RECIPE, epochs=1))
    names = SceneSet("train").label_set.classes
    for classes in ((*names, "new"), (names[1], names[0], *names[2:])):
        other = LabelSet("folder", classes, tuple((index, 0, 0) for index in range(len(classes))))
        with pytest.raises(OptionError, match=rf"trained on the classes {names[0]}, .* start a new run with --init"):
            start.resumable_checkpoint(tmp_path / "last.pt", RECIPE, None, other)


def test_resuming_with_fewer_images_is_said(tmp_path: Path) -> None:
    run(tmp_path, replace(RECIPE, epochs=1))
    said: list[str] = []

    class Told(Listener):
        def note(self, line: str) -> None:
            said.append(line)

    fewer, val = evenly_spaced(SceneSet("train"), 6), evenly_spaced(SceneSet("val"), 1)
    run_training(replace(RECIPE, epochs=2), fewer, val, None, tmp_path, resume=True, workers=0, listener=Told())
    assert said == ["this run had 8 training images before, and continues with 6"]


def test_resuming_from_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"has saved no epoch yet: start it again without resume"):
        run(tmp_path, resume=True)


def test_fewer_images_than_a_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="lower --batch"):
        run_training(Recipe(batch=9), evenly_spaced(SceneSet("train"), 8), None, None, tmp_path, workers=0)


def test_resuming_with_another_teacher_is_refused(tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=1)
    run(tmp_path, recipe)
    with pytest.raises(OptionError, match="another teacher or none: give the same --distil"):
        run(tmp_path, recipe, resume=True, teacher=bundled.checkpoint_path(bundled.DEFAULT))


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_too_little_memory_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def step(*_: object) -> float:
        raise error

    monkeypatch.setattr(Run, "step", step)
    with pytest.raises(PspnetEdgeError) as caught:
        run(tmp_path)
    assert str(caught.value) == (
        "2 crops of 96x96 at a time do not fit into the memory of cpu: raise --accumulate or lower --batch or --crop"
    )


def test_without_validation_samples_are_of_the_training_images(tmp_path: Path) -> None:
    recipe = Recipe(epochs=1, batch=2, crop_hw=(96, 96), scenes_share=0.0)
    run_training(
        recipe,
        evenly_spaced(SceneSet("train"), 2),
        None,
        None,
        tmp_path,
        workers=0,
        samples=1,
        loggers=("tensorboard",),
    )
    assert [path.suffix for path in (tmp_path / "samples").iterdir()] == [".jpg"]
    assert any((tmp_path / "tensorboard").iterdir())


class Recorder(Listener):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.headers: list[RunHeader] = []
        self.epochs: list[tuple[int, bool]] = []
        self.validated: list[tuple[int, int]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def start(self, header: RunHeader) -> None:
        self.headers.append(header)

    def validation(self, done: int, images: int) -> None:
        self.validated.append((done, images))

    def epoch(self, result: EpochResult, best: bool) -> None:
        self.epochs.append((result.epoch, best))


def test_a_run_leaves_its_figures_and_pictures_and_says_what_it_does(tmp_path: Path) -> None:
    told = Recorder()
    done = run(tmp_path / "mine", replace(RECIPE, epochs=1), samples=1, listener=told)
    names = {path.name for path in (tmp_path / "mine").iterdir()}
    assert names == {"best.pt", "last.pt", "metrics.csv", "results.png", "confusion_matrix.png", "samples"}
    for name in ("results.png", "confusion_matrix.png"):
        assert cv2.imread(str(tmp_path / "mine" / name)).std() > 5, "a picture with something on it"
    (header,) = told.headers
    assert (header.images, header.validation_images, header.steps_per_epoch, header.device) == (8, 1, 4, "CPU")
    assert header.parameters == header.trained_parameters > 3e6
    assert told.validated == [(1, 1)]
    assert told.epochs == [(1, True)]
    assert set(done.per_class_iou) == set(SceneSet("val").label_set.classes)
    assert done.to_dict()["checkpoint"] == str(tmp_path / "mine" / "best.pt")
    assert load_checkpoint(done.checkpoint).facts["trained_on"] == ["camvid"]


def test_a_finished_run_can_be_trained_further(tmp_path: Path) -> None:
    run(tmp_path, replace(RECIPE, epochs=1))
    told = Recorder()
    done = run(tmp_path, replace(RECIPE, epochs=2), resume=True, listener=told)
    assert done.epochs == 2
    assert told.headers[0].epochs_done == 1
    assert [epoch for epoch, _ in told.epochs] == [2]
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2"]


def test_a_run_without_progress_stops_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The validation sees the same figures every time, so the first epoch is the best."""
    matrix = ConfusionMatrix(11)
    matrix.counts[0, 0] = 5
    monkeypatch.setattr(training, "validate", lambda *_: matrix)
    told = Recorder()
    done = run_training(
        replace(RECIPE, epochs=9, patience=2), evenly_spaced(SceneSet("train"), 2), evenly_spaced(SceneSet("val"), 1),
        None, tmp_path, workers=0, validate_every=1, listener=told,
    )  # fmt: skip
    assert told.epochs == [(1, True), (2, False), (3, False)]
    assert done.stopped_early
    assert done.epochs == 3
    assert "stopping early: val mIoU has not improved for 2 epochs" in told.notes
    with pytest.raises(OptionError, match="early stopping needs validation images"):
        run_training(replace(RECIPE, patience=2), evenly_spaced(SceneSet("train"), 2), None, None, tmp_path, workers=0)


def test_last_pt_is_read_once_to_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, replace(RECIPE, epochs=1))
    read: list[Path] = []
    original = start.load_checkpoint
    monkeypatch.setattr(start, "load_checkpoint", lambda path: read.append(path) or original(path))
    run(tmp_path, replace(RECIPE, epochs=2), resume=True)
    assert read == [tmp_path / "last.pt"]


def test_few_crops_at_a_time_are_warned_about_unless_statistics_are_frozen(tmp_path: Path) -> None:
    for freeze, expected in (((), 1), (("batchnorm",), 0)):
        told = Recorder()
        run(tmp_path / str(expected), replace(RECIPE, epochs=1, freeze=freeze), accumulate=2, listener=told)
        assert len([line for line in told.warnings if "BatchNorm sees only 1 crop at a time" in line]) == expected

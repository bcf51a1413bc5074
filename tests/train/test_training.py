from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from pspnet_edge import bundled  # noqa: E402
from pspnet_edge.data.datasets import SceneSet  # noqa: E402
from pspnet_edge.data.subset import evenly_spaced  # noqa: E402
from pspnet_edge.errors import ModelError, OptionError  # noqa: E402
from pspnet_edge.model.checkpoint import load_checkpoint  # noqa: E402
from pspnet_edge.train.step import Run  # noqa: E402
from pspnet_edge.train.training import Recipe, train  # noqa: E402

RECIPE = Recipe(epochs=3, batch=2, crop_hw=(96, 96), scenes_share=0.0, warmup_epochs=0.5, learning_rate=2e-3)


def run(folder: Path, recipe: Recipe = RECIPE, **options):
    training_set = evenly_spaced(SceneSet("train"), 8)
    validation_set = evenly_spaced(SceneSet("val"), 1)
    return train(recipe, training_set, validation_set, None, folder, workers=0, validate_every=3, **options)


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_a_run_that_was_killed_ends_like_one_that_was_not(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")

    def kill(step: int, steps: int, loss: float) -> None:
        if step == 7:  # in the middle of the second epoch
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path / "killed", on_step=kill)
    resumed = run(tmp_path / "killed", resume=True)
    assert (tmp_path / "killed" / "metrics.csv").read_text() == (tmp_path / "whole" / "metrics.csv").read_text()
    assert resumed.miou == whole.miou
    first, second = (load_checkpoint(result.checkpoint).model.state_dict() for result in (whole, resumed))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.slow
def test_training_learns(tmp_path: Path) -> None:
    run(tmp_path, replace(RECIPE, epochs=6))
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == list("123456")
    assert float(rows[-1]["loss"]) < 0.9 * float(rows[0]["loss"])
    assert 0 < float(rows[-1]["miou"]) < 1


def test_without_validation_the_last_epoch_is_kept(tmp_path: Path) -> None:
    recipe = Recipe(epochs=1, batch=2, crop_hw=(96, 96), scenes_share=0.0)
    done = train(recipe, evenly_spaced(SceneSet("train"), 2), None, None, tmp_path, workers=0)
    assert done.checkpoint == tmp_path / "final.pt"
    assert done.miou is None
    assert load_checkpoint(done.checkpoint).facts["epochs"] == 1


def test_resuming_with_another_recipe_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(OptionError, match="learning_rate"):
        run(tmp_path, replace(RECIPE, learning_rate=1e-4), resume=True)


def test_resuming_from_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no checkpoint .*last\.pt"):
        run(tmp_path, resume=True)


def test_fewer_images_than_a_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="lower --batch"):
        train(Recipe(batch=9), evenly_spaced(SceneSet("train"), 8), None, None, tmp_path, workers=0)


def test_resuming_with_another_teacher_is_refused(tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=1)
    run(tmp_path, recipe)
    with pytest.raises(OptionError, match="another teacher or none: give the same --distil"):
        run(tmp_path, recipe, resume=True, teacher=bundled.checkpoint_path(bundled.DEFAULT))


def test_a_recipe_saved_by_an_older_version_has_the_defaults_of_younger_fields() -> None:
    saved = RECIPE.facts()
    del saved["rotate"]
    assert RECIPE.differences(saved) == []
    assert replace(RECIPE, rotate=5.0).differences(saved) == ["rotate"]
    assert RECIPE.differences(saved | {"seed": 9}) == ["seed"]


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
    with pytest.raises(OptionError) as caught:
        run(tmp_path)
    assert str(caught.value) == (
        "2 windows of 96x96 at a time do not fit into the memory of cpu: raise --accumulate, or lower --batch or --crop"
    )


def test_without_validation_samples_are_of_the_training_images(tmp_path: Path) -> None:
    recipe = Recipe(epochs=1, batch=2, crop_hw=(96, 96), scenes_share=0.0)
    train(recipe, evenly_spaced(SceneSet("train"), 2), None, None, tmp_path, workers=0, samples=1, tensorboard=True)
    assert [path.suffix for path in (tmp_path / "samples").iterdir()] == [".jpg"]
    assert any((tmp_path / "tensorboard").iterdir())

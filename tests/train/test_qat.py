from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from pspnet_edge import bundled  # noqa: E402
from pspnet_edge.data.datasets import SceneSet  # noqa: E402
from pspnet_edge.data.subset import evenly_spaced  # noqa: E402
from pspnet_edge.errors import OptionError  # noqa: E402
from pspnet_edge.model.checkpoint import load_checkpoint  # noqa: E402
from pspnet_edge.model.pspnet import PSPNet  # noqa: E402
from pspnet_edge.model.quantiser import Quantiser  # noqa: E402
from pspnet_edge.train.listener import Listener  # noqa: E402
from pspnet_edge.train.qat import quantise  # noqa: E402
from pspnet_edge.train.recipe import Recipe  # noqa: E402
from pspnet_edge.train.step import Run  # noqa: E402
from pspnet_edge.train.training import run_training  # noqa: E402
from pspnet_edge.train.validate import prediction  # noqa: E402

INIT = bundled.checkpoint_path(bundled.DEFAULT)
RECIPE = Recipe(qat=True, epochs=2, batch=2, crop_hw=(96, 96), scenes_share=0.0, learning_rate=1e-4)


def few(split: str, count: int):
    return evenly_spaced(SceneSet(split), count)


def run(folder: Path, recipe: Recipe = RECIPE, **options):
    return run_training(
        recipe, few("train", 4), few("val", 1), None, folder, workers=0, validate_every=2, samples=0, **options
    )


def network() -> PSPNet:
    return load_checkpoint(INIT).model


def test_it_starts_close_to_the_network_that_it_refines() -> None:
    model, scenes = network(), few("test", 2)
    exact = prediction(model, scenes.image(0), torch.device("cpu"))
    quantise(model, scenes)
    rounded = prediction(model, scenes.image(0), torch.device("cpu"))
    assert 0.98 < np.mean(exact == rounded) < 1
    assert model.quantiser.ranges[0] == pytest.approx(127 / 128, rel=1e-6), "a step of the frames is one grey level"


def test_wrong_ranges_learn() -> None:
    model = network()
    quantise(model, few("train", 2))
    frames, *others = model.quantiser.ranges
    model.quantiser = Quantiser([frames, *(value / 6 for value in others)])
    recipe = replace(RECIPE, learning_rate=0.02, freeze=("batchnorm",), dropout=0.0, autocast="none", warmup_epochs=0.0)
    trained = Run(recipe, model, few("train", 2), None, workers=0)
    batch = next(trained.micro_batches(range(1)))
    trained.begin_epoch(0)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("quantiser."))
    losses = [trained.step([batch], 0) for _ in range(12)]
    assert losses[-1] < 0.8 * losses[0]
    assert model.quantiser.ranges[0] == frames, "the range of frames is known"


def test_a_bfloat16_step_keeps_every_weight_finite() -> None:
    model = network()
    quantise(model, few("train", 2))
    trained = Run(replace(RECIPE, autocast="bf16"), model, few("train", 2), None, workers=0)
    trained.begin_epoch(0)
    trained.step([next(trained.micro_batches(range(1)))], 0)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


@pytest.mark.slow
def test_a_run_that_was_ended_goes_on_to_the_same_end(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", init=INIT)

    class Ended(BaseException):
        pass

    class Ending(Listener):
        def step(self, step: int, steps: int, loss: float) -> None:
            if step == 3:  # in the second of two epochs of two steps
                raise Ended

    with pytest.raises(Ended):
        run(tmp_path / "ended", init=INIT, listener=Ending())
    # Where it started from is not asked for again.
    resumed = run(tmp_path / "ended", resume=True)
    assert resumed.miou == whole.miou
    first, second = (load_checkpoint(result.checkpoint).model.state_dict() for result in (whole, resumed))
    assert "quantiser.log_ranges" in first
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_it_needs_a_trained_network(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--qat refines a trained network: give --init"):
        run(tmp_path)


def test_what_it_leaves_can_be_trained_with_and_without_quantisation(tmp_path: Path) -> None:
    first = run(tmp_path / "first", replace(RECIPE, epochs=1), init=INIT)
    ranges = load_checkpoint(first.checkpoint).model.quantiser.ranges
    again = run(tmp_path / "again", replace(RECIPE, epochs=1, learning_rate=0.0), init=first.checkpoint)
    assert load_checkpoint(again.checkpoint).model.quantiser.ranges == pytest.approx(ranges, rel=1e-6)
    plain = run(tmp_path / "plain", replace(RECIPE, epochs=1, qat=False), init=first.checkpoint)
    assert load_checkpoint(plain.checkpoint).model.quantiser is None

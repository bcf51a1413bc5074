from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from pspnet_edge.data.datasets import SceneSet  # noqa: E402
from pspnet_edge.data.subset import evenly_spaced  # noqa: E402
from pspnet_edge.errors import ModelError  # noqa: E402
from pspnet_edge.model.pspnet import PSPNet  # noqa: E402
from pspnet_edge.train.recipe import DEFAULT_MODEL, Recipe  # noqa: E402
from pspnet_edge.train.step import Run  # noqa: E402

# Without dropout and with BatchNorm's statistics as they are, a batch in parts is the batch.
RECIPE = Recipe(
    batch=8, crop_hw=(64, 64), scenes_share=0.0, autocast="none", dropout=0.0, freeze=("batchnorm",), warmup_epochs=0
)


def run_of(recipe: Recipe, accumulate: int = 1) -> Run:
    torch.manual_seed(0)
    model = PSPNet(DEFAULT_MODEL, 11)
    model.backbone.load_imagenet()
    return Run(recipe, model, evenly_spaced(SceneSet("train"), 8), None, accumulate=accumulate, workers=0)


def losses_of(run: Run, epochs: int, accumulate: int = 1) -> list[float]:
    batches = run.micro_batches(range(epochs))
    losses = []
    for epoch in range(epochs):
        run.begin_epoch(epoch)
        losses.append(run.step([next(batches) for _ in range(accumulate)], epoch))
    return losses


@pytest.mark.parametrize("changes", [{}, {"ohem": True, "optimizer": "sgd", "learning_rate": 0.01}])
def test_accumulation_gives_the_same_step(changes: dict[str, object]) -> None:
    recipe = replace(RECIPE, **changes)
    whole, parts = losses_of(run_of(recipe), 3), losses_of(run_of(recipe, 2), 3, 2)
    assert parts == pytest.approx(whole, abs=1e-5)
    assert whole[2] != whole[0]


def test_sgd_with_every_option_learns() -> None:
    recipe = replace(
        RECIPE, batch=4, optimizer="sgd", learning_rate=0.05, ohem=True, class_weights=False, rotate=10.0,
        freeze=(), lovasz_weight=0.5, autocast="bf16", scales=(0.5, 2.0)
    )  # fmt: skip
    run = run_of(recipe)
    batch = next(run.micro_batches(range(1)))
    run.begin_epoch(0)
    losses = [run.step([batch], 0) for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]


def test_frozen_statistics_stay_and_the_rest_learns() -> None:
    run = run_of(replace(RECIPE, batch=2))
    before = {key: value.clone() for key, value in run.model.state_dict().items()}
    losses_of(run, 1)
    after = run.model.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert not any(key.endswith(("running_mean", "running_var")) for key in changed)
    assert {"fuse.0.weight", "fuse.1.weight", "classifier.weight"} <= changed


def test_dropout_is_the_recipes() -> None:
    for rate in (0.0, 0.1, 0.4):
        modules = run_of(replace(RECIPE, dropout=rate)).model.modules()
        assert {module.p for module in modules if isinstance(module, torch.nn.Dropout2d)} == {rate}


def test_a_loss_that_is_no_number_is_one_sentence() -> None:
    run = run_of(replace(RECIPE, batch=2))
    with torch.no_grad():
        run.model.classifier.bias.fill_(float("nan"))
    with pytest.raises(ModelError, match=r"the loss became nan at step 0: lower the learning rate and resume"):
        losses_of(run, 1)


@pytest.mark.parametrize(
    ("freeze", "changing"),
    [
        (("backbone",), {"fuse.0.weight", "fuse.1.running_mean", "classifier.weight", "aux_head.0.0.weight"}),
        (("features",), {"classifier.weight", "classifier.bias", "aux_head.2.weight", "aux_head.2.bias"}),
    ],
)
def test_what_is_frozen_does_not_change_and_the_rest_does(freeze, changing: set[str]) -> None:
    run = run_of(replace(RECIPE, batch=2, freeze=freeze))
    before = {key: value.clone() for key, value in run.model.state_dict().items()}
    losses_of(run, 1)
    after = run.model.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changing <= changed
    assert not any(key.startswith("backbone.") for key in changed)
    if freeze == ("features",):
        assert changed == changing


@pytest.mark.parametrize("preset", ["pspnet_lite0", "pspnet_r18"])
def test_a_single_crop_trains_and_its_one_by_one_bin_keeps_its_statistics(preset: str) -> None:
    recipe = replace(RECIPE, model=preset, batch=2, freeze=(), optimizer="sgd", learning_rate=0.01)
    torch.manual_seed(0)
    run = Run(recipe, PSPNet(preset, 11), evenly_spaced(SceneSet("train"), 2), None, accumulate=2, workers=0)
    before = {key: value.clone() for key, value in run.model.state_dict().items()}
    loss = losses_of(run, 1, 2)[0]
    after = run.model.state_dict()
    assert loss > 0
    assert torch.equal(after["pyramid.stages.0.1.running_var"], before["pyramid.stages.0.1.running_var"])
    assert not torch.equal(after["pyramid.stages.0.0.weight"], before["pyramid.stages.0.0.weight"])
    assert not torch.equal(after["pyramid.stages.1.1.running_var"], before["pyramid.stages.1.1.running_var"])
    assert run.model.pyramid.stages[0][1].training

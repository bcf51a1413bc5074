from __future__ import annotations

import inspect
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

import pspnet_edge  # noqa: E402
from pspnet_edge import OptionError, Recipe  # noqa: E402
from pspnet_edge.deploy.calls import deploy  # noqa: E402
from pspnet_edge.train import api  # noqa: E402
from pspnet_edge.train.training import TrainingResult  # noqa: E402


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """What ``train`` asks of the trainer, which does nothing here."""
    seen: dict[str, object] = {}

    def instead(recipe: Recipe, *arguments: object, **options: object) -> TrainingResult:
        seen.update(options, recipe=recipe)
        return TrainingResult(tmp_path / "final.pt", 1, None, {}, tmp_path)

    monkeypatch.setattr(api, "run_training", instead)

    def run(**options: object) -> dict[str, object]:
        pspnet_edge.train("scenes", output=tmp_path / "out", **options)
        return seen

    return run


def test_the_packages_that_are_functions_have_their_signatures() -> None:
    assert inspect.signature(pspnet_edge.train) == inspect.signature(api.train)
    assert "validate_every" in inspect.signature(pspnet_edge.train).parameters
    assert inspect.signature(pspnet_edge.deploy) == inspect.signature(deploy)


@pytest.mark.parametrize("train", [pspnet_edge.train, api.train])
def test_a_field_of_the_recipe_is_named_as_that(train, tmp_path: Path) -> None:
    with pytest.raises(OptionError) as caught:
        train(root=tmp_path, epochs=1, crop_hw=(64, 64), output=tmp_path / "run")
    wanted = "epochs: it is a field of the recipe: give recipe=Recipe(epochs=1, crop_hw=(64, 64))"
    assert str(caught.value) == wanted
    with pytest.raises(
        OptionError, match=r"crop: it is a field of the recipe: give recipe=Recipe\(crop_hw=\(64, 64\)\)"
    ):
        train(root=tmp_path, crop=(64, 64))
    with pytest.raises(TypeError, match="epoch"):
        train(root=tmp_path, epoch=1)


def test_the_network_is_that_of_the_checkpoint_where_the_recipe_names_none(asked) -> None:
    assert asked()["recipe"].model == "pspnet_lite0"
    assert asked(init="pspnet_fast_camvid")["recipe"].model == "pspnet_fast"
    assert asked(init="pspnet_fast_camvid", recipe=Recipe(epochs=2))["recipe"].model == "pspnet_fast"
    assert asked(init="pspnet_fast_camvid", recipe=Recipe(model="pspnet_r18"))["recipe"].model == "pspnet_r18"
    assert asked(recipe=Recipe(qat=True))["recipe"].model == "pspnet_lite0"

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pspnet_edge.errors import OptionError
from pspnet_edge.train.recipe import Recipe, qat_defaults
from pspnet_edge.train.recipe_file import read_recipe_file

RECIPE = Recipe(epochs=3, crop_hw=(96, 128), freeze=("batchnorm",), rotate=5.0)


def read(tmp_path: Path, text: str, name: str = "mine.toml"):
    (tmp_path / name).write_text(text)
    return read_recipe_file(tmp_path / name).values


def test_a_recipe_survives_json() -> None:
    assert Recipe.from_facts(json.loads(json.dumps(RECIPE.to_dict()))) == RECIPE


def test_a_recipe_of_an_older_version_has_the_defaults_of_newer_fields() -> None:
    saved = RECIPE.to_dict()
    for name in ("rotate", "freeze", "patience"):
        del saved[name]
    old = Recipe.from_facts(saved | {"freeze_batchnorm": True, "autocast": True})
    assert old == replace(RECIPE, rotate=0.0, freeze=("batchnorm",), autocast="bf16")


def test_differences_name_both_values_and_leave_out_what_may_change() -> None:
    saved = replace(RECIPE, seed=9, crop_hw=(64, 64), epochs=40, patience=3, freeze=())
    assert RECIPE.differences(saved) == [
        "--seed was 9, not 0", "--crop was 64x64, not 96x128", "--freeze was none, not batchnorm",
    ]  # fmt: skip
    assert RECIPE.differences(RECIPE) == []


def test_a_toml_file_names_options_as_the_command_line_does(tmp_path: Path) -> None:
    text = 'crop = "96x128"\nlearning-rate = 1\nfreeze = ["batchnorm"]\nohem = true\nscales = [0.5, 2]\n'
    assert read(tmp_path, text) == {
        "crop_hw": (96, 128), "learning_rate": 1.0, "freeze": ("batchnorm",), "ohem": True, "scales": (0.5, 2.0),
    }  # fmt: skip
    assert read(tmp_path, 'crop_hw = [96, 128]\nfreeze = "batchnorm"') == {
        "crop_hw": (96, 128), "freeze": ("batchnorm",),
    }  # fmt: skip


def test_the_recipe_of_a_run_is_a_recipe_file(tmp_path: Path) -> None:
    run = {"recipe": RECIPE.to_dict(), "dataset": "folder", "root": None, "samples": 2, "pspnet_edge": "0.2.0"}
    (tmp_path / "recipe.json").write_text(json.dumps(run))
    found = read_recipe_file(tmp_path / "recipe.json")
    assert Recipe(**found.values) == RECIPE
    assert found.run == {"dataset": "folder", "samples": 2}


@pytest.mark.parametrize(
    "change", [{"samples": -1}, {"validate_every": 0}, {"accumulate": "two"}, {"loggers": "wandb"}, {"root": 5}]
)
def test_a_damaged_recipe_of_a_run_is_one_sentence(change: dict[str, object], tmp_path: Path) -> None:
    [name] = change
    (tmp_path / "recipe.json").write_text(json.dumps({"recipe": RECIPE.to_dict(), **change}))
    with pytest.raises(OptionError, match=rf"recipe of the run .*recipe\.json is damaged \(it\.{name} is"):
        read_recipe_file(tmp_path / "recipe.json")


@pytest.mark.parametrize("key", ["crop", "size", "crop_hw", "size_hw", "crop-hw"])
def test_every_size_is_written_as_on_the_command_line_and_called_as_its_writer_does(key: str, tmp_path: Path) -> None:
    field = f"{key[:4]}_hw"
    for text in ('"96x128"', '"96X128"', '"96×128"', "[96, 128]"):
        assert read(tmp_path, f"{key} = {text}") == {field: (96, 128)}
    for wrong in ('"large"', '"96x"', '"96x128x3"', "96", "[96]"):
        with pytest.raises(OptionError, match=rf'^{key} in the recipe .* give HEIGHTxWIDTH, such as "\d+x\d+"$'):
            read(tmp_path, f"{key} = {wrong}")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("epochs = ", "cannot be read"),
        ("epoch = 4", "has an unknown option 'epoch': choose from .*epochs"),
        ('epochs = "four"', "epochs in the recipe .* is 'four': give a whole number such as 45"),
        ("epochs = true", "give a whole number"),
        ('ohem = "yes"', "give true or false, such as false"),
        ("scales = [1]", r"give a list such as \[0.7, 2.0\]"),
        ('learning-rate = "fast"', "learning-rate in the recipe .* is 'fast': give a number"),
    ],
)
def test_a_mistake_in_a_recipe_file_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence):
        read(tmp_path, text)


def test_a_missing_recipe_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"none\.toml.*: give a TOML file"):
        read_recipe_file(tmp_path / "none.toml")


def test_a_recipe_that_is_a_fifo_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "recipe.toml")
    with pytest.raises(OptionError, match="is a device, FIFO or socket, not a recipe"):
        read_recipe_file(tmp_path / "recipe.toml")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"optimizer": "lion"}, "optimizer: unknown value 'lion': choose adamw or sgd"),
        ({"autocast": "fp8"}, "autocast: unknown value 'fp8': choose auto, bf16, fp16 or none"),
        ({"freeze": ("head",)}, "freeze: unknown value 'head': choose batchnorm, backbone or features"),
        ({"scales": (2.0, 0.5)}, "scales: 2 to 0.5 is not a range: give two numbers above 0, the smaller first"),
        ({"ohem_kept": 0.0}, "ohem_kept: 0 is too small: give a value above 0"),
        ({"ohem_kept": 1.5}, "ohem_kept: 1.5 is too large: give at most 1"),
        ({"batch": 0}, "batch: 0 is too small: give at least 1"),
        ({"distil_scale": 0.0}, "distil_scale: 0 is too small: give a value above 0"),
        ({"crop_hw": (0, 64)}, "crop_hw: 0x64 is not a size: give at least 1x1"),
        ({"crop_hw": (7,)}, "crop_hw: (7,) does not fit: give a list such as [288, 384]"),
        ({"crop_hw": "96x128"}, "crop_hw: '96x128' does not fit: give a list such as [288, 384]"),
        ({"crop_hw": 5}, "crop_hw: 5 does not fit: give a list such as [288, 384]"),
        ({"crop_hw": (96.5, 128)}, "crop_hw: (96.5, 128) does not fit: give a list such as [288, 384]"),
        ({"size_hw": None}, "size_hw: None does not fit: give a list such as [384, 480]"),
        ({"scales": 1}, "scales: 1 does not fit: give a list such as [0.7, 2.0]"),
        ({"freeze": "batchnorm"}, "freeze: 'batchnorm' does not fit: give a list such as [\"batchnorm\"]"),
        ({"epochs": "3"}, "epochs: '3' does not fit: give a whole number such as 45"),
        ({"epochs": True}, "epochs: True does not fit: give a whole number such as 45"),
        ({"learning_rate": float("nan")}, "learning_rate: nan does not fit: give a number such as 0.001"),
        ({"ohem": "no"}, "ohem: 'no' does not fit: give true or false, such as false"),
        ({"model": 5}, 'model: 5 does not fit: give a text such as "auto"'),
    ],
)
def test_values_outside_their_limits_name_their_parameter(change, sentence: str) -> None:
    with pytest.raises(OptionError) as caught:
        replace(Recipe(), **change).check()
    assert str(caught.value) == sentence


def test_a_list_is_as_good_as_a_tuple() -> None:
    recipe = Recipe(crop_hw=[96, 128], freeze=["batchnorm"], scales=[1, 2])  # type: ignore[arg-type]
    recipe.check()
    assert recipe == Recipe(crop_hw=(96, 128), freeze=("batchnorm",), scales=(1, 2))


def test_quantization_aware_training_is_short_and_careful() -> None:
    recipe = qat_defaults(Recipe())
    assert (recipe.qat, recipe.epochs, recipe.learning_rate) == (True, 10, 3e-5)

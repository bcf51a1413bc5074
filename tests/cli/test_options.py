from __future__ import annotations

import json
from pathlib import Path

import pytest

from pspnet_edge import bundled
from pspnet_edge.bundled import names_model
from pspnet_edge.cli.build import accuracy_sentence
from pspnet_edge.cli.options import parse_camera_size, parse_size
from pspnet_edge.errors import OptionError


def test_a_size_is_height_and_width() -> None:
    assert parse_size("384x480") == (384, 480)
    assert parse_size("384X480") == (384, 480)
    assert parse_size("384×480") == (384, 480)


NO_SIZES = ("", "384", "x480", "384x", "0x480", "384x480x3", "-1x5", "1.5x2", "9" * 5000 + "x1", "²x2", "70000x1")


@pytest.mark.parametrize("text", NO_SIZES)
def test_what_is_not_a_size_is_named(text: str) -> None:
    with pytest.raises(OptionError, match="give --crop as HEIGHTxWIDTH"):
        parse_size(text, "--crop")


def test_a_camera_size_in_the_former_order_is_understood(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse_camera_size(None) is None
    assert parse_camera_size("720x1280") == (1280, 720)
    assert capsys.readouterr().err == ""
    assert parse_camera_size("1280x720") == (1280, 720)
    assert capsys.readouterr().err == "--size is HEIGHTxWIDTH now: taking 1280x720 as 720x1280\n"


def test_models_are_told_from_engines() -> None:
    assert all(map(names_model, (bundled.DEFAULT, "a.onnx", "b/c.PT", Path("d.pspnet"))))
    assert not any(map(names_model, ("a.engine", "onnx", "model", "a.json")))


def test_engine_may_be_a_model_and_what_auto_chose_is_said(command_line, tmp_path: Path) -> None:
    for arguments in (("evaluate", bundled.DEFAULT), ("evaluate", bundled.onnx_path(bundled.DEFAULT))):
        done = command_line(*arguments, "--dataset", "scenes", "--split", "val", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["precision"] == "int8"
        assert "int8 (auto)" in done.stderr


@pytest.mark.parametrize(
    ("drop", "words"), [(0.002, "INT8 0.5000, lost 0.0020 of 0.003 allowed;"), (-0.0068, "INT8 0.5000, gained 0.0068;")]
)
def test_an_int8_engine_that_is_better_gained(drop: float, words: str) -> None:
    measured = {"metric": "miou", "images": 6, "measured_on": "folder val", "fp32": 0.5 + drop, "int8": 0.5}
    sentence = accuracy_sentence(measured | {"drop": drop, "max_drop": 0.003, "left_in_float": []})
    assert sentence.startswith("mIoU on 6 images, folder val, in ONNX Runtime: FP32")
    assert words in sentence

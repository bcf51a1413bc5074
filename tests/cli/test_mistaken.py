"""A file or folder in place of another is named as what it is, and the fix that is printed works when it is typed."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import typer

from pspnet_edge import bundled
from pspnet_edge.built import built_kind
from pspnet_edge.cli import main
from pspnet_edge.cli.main import app
from pspnet_edge.engine.build import build_engine
from pspnet_edge.graph.onnx_file import read_model, write_model
from pspnet_edge.graph.precision import fp16_model

from ..foreign_model import theirs
from ..small_model import small_model

TREE = typer.main.get_command(app)
TABLE = bundled.table_path(bundled.DEFAULT)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    write_model(folder / "mine.onnx", small_model())
    onnx.save(theirs(), folder / "theirs.onnx")
    shutil.copy(folder / "theirs.onnx", folder / "theirs.pth")
    for precision in ("fp32", "int8"):
        build_engine(None, precision, "onnxruntime", folder / f"{precision}.engine", calibration=TABLE)
    build_engine(folder / "mine.onnx", "fp32", "onnxruntime", folder / "fp32.plan")
    shutil.copy(folder / "int8.engine", folder / "quantized.onnx")
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        cv2.imwrite(str(folder / "photos" / f"{index}.png"), rng.integers(0, 255, (32, 48, 3), np.uint8))
    for name in ("runs/mine/best.pt", "runs/mine/last.pt", "runs/cut/recipe.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"{}")
    return folder


@pytest.fixture
def said(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """What a command line ends with; the folder is the working one."""
    monkeypatch.chdir(place)

    def run(line: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main._run(TREE, shlex.split(line))
        return int(ended.value.code or 0), capsys.readouterr().err

    return run


def test_kinds_of_files_are_told_apart(place: Path) -> None:
    kinds = {name: built_kind(place / name) for name in ("mine.onnx", "theirs.onnx", "theirs.pth", "quantized.onnx")}
    assert kinds == {"mine.onnx": "model", "theirs.onnx": "onnx", "theirs.pth": "onnx", "quantized.onnx": "quantized"}
    assert built_kind(place / "fp32.engine") == built_kind(place / "fp32.plan") == "engine"
    assert built_kind(place / "photos" / "0.png") is built_kind(place / "absent") is None


def test_a_model_of_ours_in_fp16_is_ours(tmp_path: Path) -> None:
    write_model(tmp_path / "half.onnx", fp16_model(read_model(bundled.onnx_path(bundled.DEFAULT))))
    assert built_kind(tmp_path / "half.onnx") == "model"


OURS = "mine.onnx is an ONNX model of this package"
NO_CHECKPOINT = "not a checkpoint: give the .pt file it was made from"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("import mine.onnx", f"{OURS}, {NO_CHECKPOINT}"),
        ("export mine.onnx", f"{OURS}, {NO_CHECKPOINT}"),
        ("export mine.onnx -o mine.onnx", f"{OURS}, {NO_CHECKPOINT}"),
        ("import mine.onnx -o mine.onnx", f"{OURS}, {NO_CHECKPOINT}"),
        ("train --init mine.onnx --dataset scenes", f"{OURS}, {NO_CHECKPOINT}"),
        ("import fp32.engine", f"fp32.engine is an engine, {NO_CHECKPOINT}"),
        ("export int8.engine", f"int8.engine is an engine, {NO_CHECKPOINT}"),
        ("train --init int8.engine --dataset scenes", f"int8.engine is an engine, {NO_CHECKPOINT}"),
        ("import quantized.onnx", f"quantized.onnx is a quantized ONNX model, {NO_CHECKPOINT}"),
        ("adapt mine.onnx", f"{OURS} already: use it as it is"),
        ("adapt mine.onnx -o mine.onnx", f"{OURS} already: use it as it is"),
        ("adapt fp32.plan", "fp32.plan is an engine already: use it as it is"),
        ("build int8.engine", "is an engine, which is built already: give the model that it was built from"),
        ("calibrate fp32.engine --root photos", "fp32.engine is an engine, which is built already"),
        ("evaluate photos", "not an engine: give an engine, and a data set's folder as --root photos"),
        ("build photos", "photos is a folder, not a model: give a model, and a data set's folder as --root photos"),
        ("calibrate photos", "photos is a folder, not a model"),
        ("benchmark photos mine.onnx", "photos is a folder, not a model"),
        ("export photos", "photos is a folder, not a checkpoint: give the file of a checkpoint"),
        ("run runs/mine photos", "folder of a training run, not an engine or model: give runs/mine/best.pt"),
        ("run runs/mine", "is the folder of a training run, not an engine or model: give runs/mine/best.pt"),
        ("run runs/cut", "runs/cut is the folder of a training run, not an engine or model: train until it has saved"),
        ("evaluate runs/mine", "runs/mine is a folder, not an engine: give runs/mine/best.pt"),
        ("build runs/mine", "runs/mine is a folder, not a model: give runs/mine/best.pt"),
    ],
)  # fmt: skip
def test_what_it_is_comes_before_anything_else(said, line: str, sentence: str) -> None:
    code, error = said(line)
    assert code == 1
    assert sentence in error


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("evaluate photos mine.onnx --split val", "pspnet-edge evaluate mine.onnx --split val --root photos"),
        ("evaluate mine.onnx photos", "pspnet-edge evaluate mine.onnx --root photos"),
        ("build --precision fp32 photos mine.onnx", "pspnet-edge build --precision fp32 mine.onnx --root photos"),
        ("evaluate runs/mine photos", "pspnet-edge evaluate runs/mine/best.pt --root photos"),
        ("train photos", "pspnet-edge train --root photos"),
    ],
)
def test_a_folder_among_the_arguments_becomes_the_root(said, line: str, meant: str) -> None:
    code, error = said(line)
    assert code == 2
    assert f"the folder of the data set is an option: give it with `{meant}`" in error


@pytest.mark.parametrize("line", ["evaluate mine.onnx photos --root photos", "export mine.onnx photos"])
def test_where_a_root_does_not_help_the_usage_is_named(said, line: str) -> None:
    code, error = said(line)
    assert code == 2
    assert "--help`" in error


def test_another_tools_model_is_adapted_by_the_command_that_is_printed(said) -> None:
    _, error = said("import theirs.pth")
    assert "theirs.pth is an ONNX model, not a checkpoint: wrap it with `pspnet-edge adapt theirs.pth`" in error
    assert said("adapt theirs.pth --classes 11")[0] == 0


def test_int8_is_calibrated_by_the_command_that_is_printed(said, place: Path) -> None:
    (place / "a b").mkdir()
    shutil.copy(place / "mine.onnx", place / "a b" / "m.onnx")
    line = "build 'a b/m.onnx' --precision int8 --runtime onnxruntime -o x.engine"
    code, error = said(line)
    assert code == 1
    assert "there is no a b/m.calib.json" in error
    command = error.split("`")[1]
    assert command == "pspnet-edge calibrate 'a b/m.onnx' --root DIR"
    assert said(command.removeprefix("pspnet-edge ").replace("DIR", "photos"))[0] == 0
    assert (place / "a b" / "m.calib.json").is_file()
    assert said(line)[0] == 0


def test_a_table_that_does_not_fit_is_made_again_where_it_is(said, place: Path) -> None:
    write_model(place / "other.onnx", small_model(seed=1))
    shutil.copy(TABLE, place / "other.calib.json")
    code, error = said("build other.onnx --precision int8 --runtime onnxruntime -o y.engine")
    assert code == 1
    assert error.split("`")[1] == "pspnet-edge calibrate other.onnx --root DIR"
    assert said("calibrate other.onnx --root photos")[0] == 0
    shutil.copy(TABLE, place / "t.json")
    _, error = said("build other.onnx --precision int8 --runtime onnxruntime --calibration t.json -o y.engine")
    assert error.split("`")[1] == "pspnet-edge calibrate other.onnx --root DIR -o t.json"

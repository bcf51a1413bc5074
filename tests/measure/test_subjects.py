"""Two models or engines of one name are rows of their own in a benchmark."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import pspnet_edge
from pspnet_edge import bundled
from pspnet_edge.engine.build import build_engine, prepare_model
from pspnet_edge.errors import CalibrationError, OptionError
from pspnet_edge.graph.onnx_file import write_model
from pspnet_edge.measure.benchmark import exact_of
from pspnet_edge.measure.store import Store
from pspnet_edge.measure.subjects import Subject, distinct_names, models_at_sizes, subjects_of

from ..small_model import small_model


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engines") / "first.engine"
    build_engine(prepare_model(None), "fp32", "onnxruntime", path)
    return path


def copied(engine: Path, path: Path) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    shutil.copy(engine, path)
    shutil.copy(engine.with_name(engine.name + ".json"), path.with_name(path.name + ".json"))
    return path


def test_best_checkpoints_of_two_runs_are_named_by_their_runs(tmp_path: Path) -> None:
    for run in ("ft", "mine"):
        (tmp_path / run).mkdir()
        shutil.copy(bundled.checkpoint_path(bundled.DEFAULT), tmp_path / run / "best.pt")
    names = {run: (bundled.name_of(tmp_path / run / "best.pt"), tmp_path / run / "best.pt") for run in ("ft", "mine")}
    assert distinct_names(names) == {"ft": "ft", "mine": "mine"}


def test_one_name_in_two_folders_gets_the_folder(tmp_path: Path) -> None:
    named = {
        "1": ("road", tmp_path / "a" / "road.onnx"),
        "2": ("road", tmp_path / "b" / "road.onnx"),
        "3": ("ft", tmp_path / "x" / "ft" / "best.pt"),
        "4": ("ft", tmp_path / "y" / "ft" / "best.pt"),
    }
    assert list(distinct_names(named).values()) == ["a-road", "b-road", "x-ft", "y-ft"]


def test_two_onnx_files_of_one_name_are_two_models(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(bundled.onnx_path(bundled.DEFAULT), tmp_path / folder / "road.onnx")
    names = [str(tmp_path / folder / "road.onnx") for folder in ("a", "b")]
    models, engines = models_at_sizes(names, [], None, tmp_path, Store(tmp_path / "done"))
    found = subjects_of(models, engines, ["fp32"], ["onnxruntime"], tmp_path)
    assert [subject.model for subject in found] == ["a-road", "b-road"]
    assert len({subject.engine for subject in found}) == 2


def test_two_engines_of_one_model_are_named_by_their_files(engine: Path, tmp_path: Path) -> None:
    gated = copied(engine, tmp_path / "gated.engine")
    found = subjects_of([], [engine, gated], [], [], tmp_path)
    assert [subject.model for subject in found] == ["first", "gated"]
    assert {subject.family for subject in found} == {bundled.DEFAULT}


def test_an_engine_beside_its_model_keeps_its_fp32(engine: Path, tmp_path: Path) -> None:
    found = subjects_of([(prepare_model(None), (384, 480))], [engine], ["fp32"], ["onnxruntime"], tmp_path)
    assert [subject.model for subject in found] == [bundled.DEFAULT, "first"]
    int8 = Subject("gated", "int8", (384, 480), "onnxruntime", tmp_path, None, bundled.DEFAULT)
    assert exact_of(int8, [*found, int8]) is found[0]


def test_the_same_engine_twice_is_refused(engine: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="in the benchmark more than once"):
        subjects_of([], [engine, engine], [], [], tmp_path)


def test_without_precisions_int8_needs_a_table(tmp_path: Path) -> None:
    shutil.copy(bundled.onnx_path(bundled.DEFAULT), tmp_path / "plain.onnx")
    names = [bundled.DEFAULT, str(tmp_path / "plain.onnx")]
    models, engines = models_at_sizes(names, [], None, tmp_path, Store(tmp_path / "done"))
    found = subjects_of(models, engines, [], ["onnxruntime"], tmp_path)
    assert [(subject.model, subject.precision) for subject in found] == [
        *((bundled.DEFAULT, precision) for precision in ("fp32", "fp16", "int8")),
        *(("plain", precision) for precision in ("fp32", "fp16")),
    ]
    with pytest.raises(CalibrationError, match="INT8 of plain needs a calibration table"):
        subjects_of(models, engines, ["fp32", "int8"], ["onnxruntime"], tmp_path)


def test_a_table_is_for_the_model_that_it_belongs_to(tmp_path: Path) -> None:
    for index, name in enumerate(("mine.onnx", "other.onnx")):
        write_model(tmp_path / name, small_model(seed=index))
    photo = np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "photo.png"), photo)
    table = pspnet_edge.calibrate(tmp_path / "mine.onnx", tmp_path / "t.json", root=tmp_path).calibration
    names = [str(tmp_path / name) for name in ("other.onnx", "mine.onnx")]
    models, _ = models_at_sizes(names, [], table, tmp_path, Store(tmp_path / "done"))
    assert [model.table_path for model, _ in models] == [None, table]
    found = subjects_of(models, [], ["fp32", "int8"], ["onnxruntime"], tmp_path, leave_out_int8=True)
    assert [(each.model, each.precision) for each in found] == [("other", "fp32"), ("mine", "fp32"), ("mine", "int8")]
    alone, _ = models_at_sizes(names[:1], [], table, tmp_path, Store(tmp_path / "done"))
    assert alone[0][0].table_path == table
    with pytest.raises(CalibrationError, match=f"calibrate {names[0]} --root DIR -o {tmp_path}/absent.json"):
        models_at_sizes(names, [], tmp_path / "absent.json", tmp_path, Store(tmp_path / "done"))


def test_what_a_table_leaves_out_is_said(command_line, tmp_path: Path) -> None:
    write_model(tmp_path / "other.onnx", small_model())
    done = command_line(
        "benchmark", bundled.DEFAULT, tmp_path / "other.onnx", "--precision", "fp32,int8", "--runtime", "onnxruntime",
        "--calibration", bundled.table_path(bundled.DEFAULT), "--dataset", "scenes", "--split", "absent",
    )  # fmt: skip
    assert "belongs to another model than other" in done.stderr
    assert f"`pspnet-edge calibrate {tmp_path}/other.onnx --root DIR` makes it" in done.stderr
    assert "scenes has no split 'absent'" in done.stderr

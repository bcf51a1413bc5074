"""Two models or engines of one name are rows of their own in a benchmark."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pspnet_edge import bundled
from pspnet_edge.engine.build import build_engine, prepare_model
from pspnet_edge.errors import CalibrationError, OptionError
from pspnet_edge.measure.benchmark import exact_of
from pspnet_edge.measure.store import Store
from pspnet_edge.measure.subjects import Subject, distinct_names, models_at_sizes, subjects_of


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
    with pytest.raises(CalibrationError, match="plain has no calibration table"):
        subjects_of(models, engines, ["fp32", "int8"], ["onnxruntime"], tmp_path)

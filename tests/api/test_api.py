from __future__ import annotations

import dataclasses
import doctest
import importlib
import inspect
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

import pspnet_edge
from pspnet_edge import bundled
from pspnet_edge.api import results
from pspnet_edge.data.datasets import SceneSet
from pspnet_edge.labels import CAMVID

PACKAGE = Path(pspnet_edge.__file__).parent


def test_every_public_name_is_there_and_documented() -> None:
    assert sorted(pspnet_edge.__all__) == pspnet_edge.__all__ == dir(pspnet_edge)
    for name in pspnet_edge.__all__:
        value = getattr(pspnet_edge, name)
        assert name == "__version__" or inspect.getdoc(value), name
    with pytest.raises(AttributeError, match="no attribute 'segment'"):
        pspnet_edge.segment  # noqa: B018


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = finder.find(pspnet_edge, "pspnet_edge", module=False, extraglobs={})
    for name in ("api.planning", "api.steps", "camera.segmenter", "log", "records", "train.api", "deploy.calls"):
        module = importlib.import_module(f"pspnet_edge.{name}")
        found += finder.find(module, f"pspnet_edge.{name}")
    unique = {test.name: test for test in found if test.examples and test.name.startswith("pspnet_edge")}
    return list(unique.values())


def test_each_step_has_an_example() -> None:
    names = {test.name.rpartition(".")[2] for test in examples()}
    # A training run takes minutes; tests/train tests the function.
    assert {name for name in pspnet_edge.__all__ if name[0].islower()} - {"train"} <= names
    assert "Segmenter" in names


@pytest.mark.slow
@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_examples_do_what_they_show(example: doctest.DocTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(example)
    assert tried
    assert not failed


def test_importing_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import pspnet_edge\n"
        "import sys\n"
        "heavy = {'numpy', 'cv2', 'torch', 'onnx', 'openvino', 'typer', 'rich', 'av'} & set(sys.modules)\n"
        "print(len(sys.modules), heavy or '')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules, *heavy = done.stdout.split()
    assert heavy == []
    assert int(modules) < 150


def test_a_checker_of_types_sees_the_public_names(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import pspnet_edge\n"
        "built = pspnet_edge.build_engine(precision='int8')\n"
        "reveal_type(built.shape_nhw)\n"
        "reveal_type(pspnet_edge.evaluate(built.engine).miou)\n"
        "pspnet_edge.build_engine(precision='int4')\n"
    )
    environment = {**os.environ, "MYPYPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--cache-dir", str(tmp_path), str(program)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert 'Revealed type is "tuple[' in done.stdout.replace("builtins.", "").replace("Tuple", "tuple")
    assert "float" in done.stdout
    assert "has incompatible type \"Literal['int4']\"" in done.stdout.replace('"Literal', '"Literal')


RECORDS = [kind for kind in vars(results).values() if dataclasses.is_dataclass(kind)]


def test_records_are_frozen_and_become_json() -> None:
    row = results.BenchmarkRow(
        "a", "m", "int8", (2, 3), "openvino", 1.0, {"p50": 1.0}, None, float("nan"), None, None, 1, 2
    )
    report = results.BenchmarkReport((row,), ("a",), (Path("x"),))
    facts = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert facts["rows"][0]["size_hw"] == [2, 3]
    assert facts["rows"][0]["miou"] is None
    assert facts["files"] == ["x"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.fps = 2.0  # type: ignore[misc]
    assert all(kind.__dataclass_params__.frozen for kind in RECORDS)


def test_every_public_record_is_frozen_and_becomes_json() -> None:
    public = {name: getattr(pspnet_edge, name) for name in pspnet_edge.__all__}
    records = {name: kind for name, kind in public.items() if dataclasses.is_dataclass(kind)}
    assert {name for name, kind in records.items() if not kind.__dataclass_params__.frozen} == set()
    assert {name for name, kind in records.items() if not hasattr(kind, "to_dict")} == set()
    with pspnet_edge.open_engine(precision="fp32") as engine:
        facts = engine.info.to_dict()
    assert (facts["shape_nhw"], facts["path"]) == ([1, 384, 480], str(engine.info.path))
    assert facts["label_set"] == CAMVID.to_dict() == CAMVID.facts()
    recipe = pspnet_edge.Recipe(epochs=3)
    assert pspnet_edge.Recipe.from_facts(json.loads(json.dumps(recipe.to_dict()))) == recipe
    for record in (pspnet_edge.Geometry(roi=(1, 2, 3, 4)), pspnet_edge.Preprocessing()):
        assert (
            type(record)(**{key: tuple(v) if isinstance(v, list) else v for key, v in record.to_dict().items()})
            == record
        )


def test_adapt_names_its_output_itself() -> None:
    with pytest.raises(pspnet_edge.ModelError, match=r"there is no .*absent\.onnx"):
        pspnet_edge.adapt("absent.onnx")


def test_an_engine_may_be_a_str_or_a_path_and_a_parameter_is_named(tmp_path: Path) -> None:
    built = pspnet_edge.build_engine(output=str(tmp_path / "a.engine"), precision="fp32", runtime="onnxruntime")
    assert (built.precision, built.runtime, built.shape_nhw) == ("fp32", "onnxruntime", (1, 384, 480))
    for name in (str(built.engine), built.engine):
        with pspnet_edge.open_engine(name) as engine:
            assert engine.info.runtime == "onnxruntime"
    with pytest.raises(pspnet_edge.EngineError) as caught:
        pspnet_edge.open_engine(tmp_path / "absent.engine")
    assert caught.value.fix
    assert caught.value.command
    assert bundled.DEFAULT in str(pspnet_edge.build_engine(precision="fp32").engine)


def test_an_engine_in_another_precision_than_asked_is_refused(tmp_path: Path, command_line) -> None:
    built = pspnet_edge.build_engine(output=tmp_path / "a.engine", precision="fp32", runtime="onnxruntime")
    pspnet_edge.open_engine(built.engine, precision="fp32", runtime="onnxruntime").close()
    with pytest.raises(
        pspnet_edge.OptionError, match=r"precision: .*a\.engine is built already, its precision is fp32"
    ):
        pspnet_edge.open_engine(built.engine, precision="int8")
    done = command_line("evaluate", built.engine, "--dataset", "scenes", "--runtime", "openvino", "--json")
    assert done.returncode == 2
    assert "its runtime is onnxruntime" in json.loads(done.stdout)["error"]["problem"]


def test_an_engine_of_another_size_that_gives_scores(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the train extra is not installed")
    built = pspnet_edge.build_engine(output=tmp_path / "a.engine", precision="fp32", size_hw=(96, 192), scores=True)
    assert built.shape_nhw == (1, 96, 192)
    with pspnet_edge.open_engine(built.engine) as engine:
        masks, scores = engine.infer_scores(np.zeros((1, 96, 192, 3), np.uint8))
    assert masks.shape == (1, 96, 192)
    assert 0 < scores.min() <= scores.max() <= 1


def test_what_int8_may_lose_is_measured_and_held(tmp_path: Path) -> None:
    images = SceneSet("val")
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}.png"), images.image(index))
    build = partial(pspnet_edge.build_engine, output=tmp_path / "a.engine", root=tmp_path)
    built = build(max_drop=0.5)
    assert built.drop is not None
    assert built.drop < 0.1
    assert built.left_in_float == ()
    assert build().drop is None
    for wrong, sentence in (
        ({"max_drop": 0.1, "root": None}, "max_drop: it needs images to measure on: give --root DIR"),
        ({"max_drop": 0.1, "precision": "fp32"}, "max_drop: it limits what INT8 loses"),
        ({"max_drop": "a"}, "max_drop: 'a' is not a number"),
        (
            {"max_drop": 0.1, "dataset": "scenes", "root": None, "split": "tst"},
            "scenes has no split 'tst': choose train",
        ),
    ):
        with pytest.raises(pspnet_edge.OptionError, match=sentence):
            build(**wrong)


train = partial(pspnet_edge.train, "scenes")
calibrate = partial(pspnet_edge.calibrate, dataset="scenes")
deploy = partial(pspnet_edge.deploy, "a.pspnet")
plan = partial(pspnet_edge.plan, "orin-nano")
Geometry = pspnet_edge.Geometry

WRONG = {
    "a list for an engine": (lambda: pspnet_edge.evaluate(["a.engine"]), "engine: a list is not a path"),
    "a number for a root": (lambda: pspnet_edge.evaluate(root=5), "root: 5 is not a path: give one str or Path"),
    "a number for an output": (lambda: pspnet_edge.build_engine(output=5), "output: 5 is not a path"),
    "a list for a model": (lambda: pspnet_edge.build_engine(["a.onnx"]), "model: a list is not a path"),
    "a list for a table": (lambda: pspnet_edge.build_engine(calibration=[]), "calibration: a list is not a path"),
    "one model": (lambda: pspnet_edge.benchmark("a.onnx"), r"models: 'a.onnx' is not a list: give \['a.onnx'\]"),
    "no models": (lambda: pspnet_edge.benchmark(None), "models: None is not a list: give a list"),
    "a model that is none": (lambda: pspnet_edge.benchmark([None]), "models: None is not a path"),
    "one precision": (lambda: pspnet_edge.benchmark(precisions="int8"), r"precisions: 'int8' is not a list: give \["),
    "one runtime": (lambda: pspnet_edge.benchmark(runtimes="openvino"), "runtimes: 'openvino' is not a list"),
    "one size": (lambda: pspnet_edge.benchmark(sizes_hw=(96, 96)), r"sizes_hw: 96 is not a size: give \(height"),
    "a size as a text": (lambda: pspnet_edge.export(bundled.DEFAULT, size_hw="96x96"), "size_hw: '96x96' is not a"),
    "no checkpoint": (lambda: pspnet_edge.export(None), "checkpoint: None is not a path"),
    "no images": (lambda: pspnet_edge.calibrate(), "calibrate needs images"),
    "no pack": (lambda: pspnet_edge.deploy(None), "pack: None is not a path"),
    "a pack's one precision": (lambda: pspnet_edge.pack(precisions="int8"), "precisions: 'int8' is not a list"),
    "a number to train on": (lambda: pspnet_edge.train(5), "dataset: 5 is not a data set"),
    "a number to validate on": (
        lambda: pspnet_edge.train(SceneSet("val"), validation=5),
        "validation: 5 is not a data set: give an object",
    ),
    "no accumulation": (
        lambda: train(accumulate=0),
        "accumulate: 0 is out of range: give a whole number of at least 1",
    ),
    "no validation": (lambda: train(validate_every=0), "validate_every: 0 is out of range"),
    "a text for epochs between": (lambda: train(validate_every="a"), "validate_every: 'a' is not a whole number"),
    "fewer than no workers": (lambda: train(workers=-3), "workers: -3 is out of range: give a whole number of at leas"),
    "fewer than no samples": (lambda: train(samples=-1), "samples: -1 is out of range"),
    "a table for a recipe": (
        lambda: train(recipe={"epochs": 1}),
        r"recipe: a dict is not a Recipe: give one, such",
    ),
    "a number for a listener": (lambda: train(listener=5), "listener: 5 is not a Listener"),
    "a number for a start": (lambda: train(init=5), "init: 5 is not a path"),
    "no backbone": (lambda: train(backbone_weights=None), "backbone_weights: None is not a path"),
    "splits": (lambda: train(split=["train"]), "split: a list is not a name: give a text"),
    "a batch of none": (lambda: pspnet_edge.export(bundled.DEFAULT, batch=0), "batch: 0 is out of range"),
    "half a batch": (lambda: pspnet_edge.export(bundled.DEFAULT, batch=1.5), "batch: 1.5 is not a whole number"),
    "a threshold as a text": (
        lambda: pspnet_edge.export(bundled.DEFAULT, threshold="a"),
        "threshold: 'a' is not a",
    ),
    "no size": (lambda: pspnet_edge.export(bundled.DEFAULT, size_hw=(0, 96)), "size_hw: 0 is out of range"),
    "calibration on none": (lambda: calibrate(images=0), "images: 0 is out of range: give a whole number of at least"),
    "calibration on a text": (lambda: calibrate(images="a"), "images: 'a' is not a whole number"),
    "one round": (lambda: pspnet_edge.benchmark(rounds=1), "rounds: 1 is out of range: give a whole number of at le"),
    "rounds as a text": (lambda: pspnet_edge.benchmark(rounds="a"), "rounds: 'a' is not a whole number"),
    "no seconds": (lambda: pspnet_edge.benchmark(seconds=0), "seconds: 0 is out of range"),
    "no versions kept": (lambda: deploy(keep=0), "keep: 0 is out of range: give a whole number from 2 to 1000"),
    "a text for a rate": (lambda: deploy(min_fps="a"), "min_fps: 'a' is not a number"),
    "an endless watch": (lambda: deploy(watch_s=float("inf")), "watch_s: inf is not a number: give a number from 0 to"),
    "a unit that is a number": (lambda: deploy(service=5), "service: 5 is not a name"),
    "no golden frames": (
        lambda: pspnet_edge.pack(golden=0),
        "golden: 0 is out of range: give a whole number from 1",
    ),
    "a quality above 1": (lambda: pspnet_edge.pack(miou=67.2), "miou: 67.2 is out of range: give a number from 0 to 1"),
    "a data set's kinds": (lambda: pspnet_edge.evaluate(dataset=["camvid"]), "dataset: a list is not a name"),
    "a wanted rate as a text": (lambda: plan(fps="a"), "fps: 'a' is not a number"),
    "half a camera": (lambda: plan(cameras=0.5), "cameras: 0.5 is not a whole number"),
    "one side": (lambda: plan(camera_hw=5), r"camera_hw: 5 is not a size: give \(height, width\)"),
    "a number for a board": (lambda: pspnet_edge.plan(5), "board: 5 is not a name"),
    "a number for a report": (lambda: plan(report=5), "report: 5 is not a path"),
    "a network to adapt": (lambda: pspnet_edge.adapt(None), "model: None is not a path"),
    "one class to adapt": (lambda: pspnet_edge.adapt("a.onnx", classes="road"), "classes: 'road' is not a list"),
    "a table to adapt": (lambda: pspnet_edge.adapt("a.onnx", preprocessing={}), "preprocessing: a dict is not a Prepr"),
    "a threshold to adapt": (lambda: pspnet_edge.adapt("a.onnx", threshold="a"), "threshold: 'a' is not a number"),
    "a mean of texts": (lambda: pspnet_edge.Preprocessing(mean=("a",)), "mean: 'a' is not a number"),
    "a mean of nothing": (lambda: pspnet_edge.Preprocessing(mean=()), "mean: no value is given: give one"),
    "another order": (lambda: pspnet_edge.Preprocessing(colour="hsv"), "colour: unknown order of colours 'hsv'"),
    "three numbers for a part": (lambda: Geometry(roi=(1, 2, 3)), "roi: 1,2,3 is not a part of a frame: give X,Y,W"),
    "half a pixel": (lambda: Geometry(roi=(1.5, 2, 30, 30)), "roi: 1.5 is not a whole number"),
    "a text for a part": (lambda: Geometry(roi="1,2,3,4"), "roi: '1,2,3,4' is not a part of a frame"),
    "a text for tiles": (lambda: Geometry(tiles="yes"), "tiles: 'yes' is not a choice: give True or False"),
    "a root in a list": (lambda: pspnet_edge.train(root=["a"]), "root: a list is not a path"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_value_of_a_wrong_kind_is_a_sentence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call, sentence = WRONG[name]
    with pytest.raises(pspnet_edge.OptionError, match=sentence):
        call()
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_numbers_of_numpy_are_numbers() -> None:
    planned = plan(np.float32(30), cameras=np.int64(1), camera_hw=(np.int64(720), np.int64(1280)))
    assert planned == plan(30, cameras=1, camera_hw=(720, 1280))
    assert pspnet_edge.Geometry(roi=list(np.arange(1, 5))) == pspnet_edge.Geometry(roi=(1, 2, 3, 4))


@pytest.fixture
def own_data(tmp_path: Path) -> Path:
    """A data set without a split ``test``, with the classes of the bundled model."""
    root = tmp_path / "my_data"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in CAMVID.classes))
    for name in ("a", "b", "c"):
        cv2.imwrite(str(root / "images" / f"{name}.png"), np.full((48, 60, 3), 90, np.uint8))
        cv2.imwrite(str(root / "masks" / f"{name}.png"), np.full((48, 60), 3, np.uint8))
    (root / "train.txt").write_text("a\nb\n")
    (root / "val.txt").write_text("c\n")
    return root


@pytest.mark.slow
def test_a_root_alone_is_the_data_that_is_used(own_data: Path, tmp_path: Path) -> None:
    """The command line recognizes what --root holds; in Python procedural scenes were taken instead."""
    table = pspnet_edge.calibrate(output=tmp_path / "a.calib.json", root=own_data)
    assert table.images == 2
    assert pspnet_edge.evaluate(root=own_data, precision="fp32").images == 1
    assert pspnet_edge.evaluate(root=own_data, precision="fp32", split="train").images == 2
    packed = pspnet_edge.pack(output=tmp_path / "a.pspnet", root=own_data, precisions=["fp32"])
    assert packed.golden == 1
    assert packed.miou is not None

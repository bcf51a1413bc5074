from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pspnet_edge import bundled
from pspnet_edge.artifact import sidecar_path
from pspnet_edge.data.datasets import SceneSet
from pspnet_edge.data.geometry import frame_at
from pspnet_edge.engine.backends import open_engine
from pspnet_edge.engine.build import Gate, build_engine, choose_precision
from pspnet_edge.engine.model import Model, prepare_model
from pspnet_edge.errors import CalibrationError
from pspnet_edge.graph.calibration_table import CalibrationTable, convolutions_of, read_table, write_table
from pspnet_edge.graph.onnx_file import ModelFile, read_model
from pspnet_edge.graph.quantize import int8_model, quantised_tensors
from pspnet_edge.graph.view import GraphView

from ..pictures import Pictures

torch = pytest.importorskip("torch")
SIZES = [(288, 512), (540, 960), (192, 288), (200, 333)]

GATE = {
    "metric": "miou",
    "measured_on": "scenes val",
    "images": 2,
    "fp32": 0.5,
    "int8": 0.49,
    "drop": 0.01,
    "max_drop": 0.02,
    "left_in_float": [],
}


@pytest.fixture(scope="module")
def other_sizes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], ModelFile]:
    from pspnet_edge.graph.export import export_checkpoint

    folder = tmp_path_factory.mktemp("sizes")
    found = {}
    for size_hw in SIZES:
        path = folder / f"{size_hw[0]}.onnx"
        export_checkpoint(bundled.checkpoint_path(bundled.DEFAULT), path, size_hw=size_hw)
        found[size_hw] = read_model(path)
    return found


@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize("recorded", [False, True])
def test_a_table_carries_over_to_every_size(
    model: ModelFile, table: CalibrationTable, other_sizes: dict, size_hw: tuple[int, int], recorded: bool
) -> None:
    """``recorded`` tables name their convolutions' weights; those of format 2 have one fingerprint of all."""
    table = replace(table, convolutions=convolutions_of(GraphView(model.proto)) if recorded else {})
    other = other_sizes[size_hw]
    carried = table.carried_to(other.proto)
    assert set(quantised_tensors(other.proto)) <= set(carried.amax)
    here, there = (convolutions_of(GraphView(m.proto)) for m in (model, other))
    by_weights = {entry.weights: entry.reads for entry in there.values()}
    for entry in here.values():
        if entry.reads in table.amax:
            assert carried.amax[by_weights[entry.weights]] == table.amax[entry.reads]
    names = {entry.weights: name for name, entry in there.items()}
    for name, rounding in table.rounding.items():
        assert carried.rounding[names[here[name].weights]] == rounding
    int8_model(other, table)


def test_a_table_of_other_weights_is_refused_at_every_size(table: CalibrationTable, other_sizes: dict) -> None:
    strange = replace(table, weights_sha256="0" * 64)
    with pytest.raises(CalibrationError, match="different weights"):
        int8_model(other_sizes[(288, 512)], strange)


def test_int8_with_a_carried_table_agrees_with_fp32(tmp_path: Path) -> None:
    model = prepare_model(bundled.DEFAULT, (288, 512))
    frame = frame_at(SceneSet("test").image(0), (288, 512))[None]
    masks = []
    for precision in ("fp32", "int8"):
        build_engine(model, precision, "onnxruntime", tmp_path / "e.engine")
        with open_engine(tmp_path / "e.engine") as engine:
            masks.append(engine.infer(frame).copy())
    assert (masks[0] == masks[1]).mean() > 0.95


def test_auto_is_int8_with_a_table_else_fp16_on_a_gpu() -> None:
    with_table = prepare_model(None)
    without = Model("m", with_table.path, None)
    assert choose_precision("auto", with_table, "openvino") == "int8"
    assert choose_precision("auto", without, "openvino") == "fp32"
    assert choose_precision("auto", without, "tensorrt-rtx") == "fp16"
    assert choose_precision("fp16", with_table, "openvino") == "fp16"


@pytest.fixture
def own_model(tmp_path: Path) -> Path:
    for ending in (".onnx", ".calib.json"):
        (tmp_path / f"own{ending}").write_bytes(
            bundled.onnx_path(bundled.DEFAULT).with_name(f"{bundled.DEFAULT}{ending}").read_bytes()
        )
    return tmp_path / "own.onnx"


@pytest.mark.slow
def test_what_the_gate_decided_travels_with_the_table(own_model: Path, tmp_path: Path) -> None:
    images = Pictures([SceneSet("val").image(index) for index in range(2)])
    table_path = own_model.with_suffix(".calib.json")

    def built(max_drop: float) -> dict:
        gate = Gate(max_drop, images, "scenes val")
        return build_engine(str(own_model), "int8", "onnxruntime", tmp_path / "a.engine", gate=gate)

    facts = built(0.8 * built(0.9)["accuracy"]["drop"])
    assert facts["decision_saved_to"] == str(table_path)
    kept = read_table(table_path).kept_float
    assert len(kept) > 0
    assert facts["kept_float"] == list(kept)
    assert facts["accuracy"]["measured_on"] == "scenes val"
    again = build_engine(str(own_model), "int8", "onnxruntime", tmp_path / "b.engine")
    assert again["kept_float"] == list(kept)
    assert again["int8_mac_fraction"] == facts["int8_mac_fraction"]
    assert (tmp_path / "a.engine").read_bytes() == (tmp_path / "b.engine").read_bytes()


def test_a_build_leaves_unquantised_what_the_table_says(own_model: Path, tmp_path: Path) -> None:
    table_path = own_model.with_suffix(".calib.json")
    chosen = ("conv_3", "conv_10")
    write_table(table_path, replace(read_table(table_path), kept_float=chosen, gate=GATE))
    build_engine(str(own_model), "int8", "onnxruntime", tmp_path / "e.engine")
    facts = json.loads(sidecar_path(tmp_path / "e.engine").read_text())
    assert facts["kept_float"] == list(chosen)
    view = GraphView(read_model(own_model).proto)
    quantised = int8_model(read_model(own_model), read_table(table_path)).proto
    weights = {node.name: node.input[1] for node in quantised.graph.node if node.op_type == "Conv"}
    assert {name for name, tensor in weights.items() if not tensor.endswith(".dq")} == {
        *chosen,
        view.of_kind("Conv")[-1].name,
    }


def test_a_table_beside_the_package_is_not_changed_by_the_gate(tmp_path: Path) -> None:
    before = bundled.table_path(bundled.DEFAULT).read_bytes()
    images = Pictures([SceneSet("val").image(0)])
    facts = build_engine(None, "int8", "onnxruntime", tmp_path / "e.engine", gate=Gate(0.5, images, "one image"))
    assert bundled.table_path(bundled.DEFAULT).read_bytes() == before
    assert facts["decision_saved_to"] == str(tmp_path / "e.calib.json")
    assert read_table(tmp_path / "e.calib.json").gate is not None

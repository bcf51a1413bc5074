"""The table of what INT8 costs each preset: nothing of the family is missing, and its figures say what they claim."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from pspnet_edge.graph.view import GraphView
from pspnet_edge.labels import CAMVID
from pspnet_edge.model.checkpoint import load_checkpoint, save_checkpoint
from pspnet_edge.model.pspnet import PRESETS, PSPNet

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def preset_int8(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("preset_int8")


def test_every_preset_is_trained_once(preset_int8: ModuleType) -> None:
    assert sorted(training.preset for training in preset_int8.TRAININGS) == sorted(PRESETS)


def test_scales_are_those_of_the_small_frame(preset_int8: ModuleType) -> None:
    whole = preset_int8.Training("pspnet_fast", 1, size_hw=(360, 480)).recipe()
    half = preset_int8.Training("pspnet_fast", 1, size_hw=(180, 240)).recipe()
    assert half.scales == (whole.scales[0] / 2, whole.scales[1] / 2)
    half.check()


def confusions(preset_int8: ModuleType, *right: int) -> Any:
    """Images of two classes with 50 pixels each: so many of the first are right, and all of the second."""
    counts = np.array([[[hits, 50 - hits], [0, 50]] for hits in right])
    masks = np.array([[1] * (50 - hits) + [0] * hits + [1] * 50 for hits in right], np.uint8)
    return preset_int8.Confusions(counts, masks)


def test_a_drop_is_the_difference_of_the_whole_sets(preset_int8: ModuleType) -> None:
    exact, rounded = confusions(preset_int8, 50, 50, 50, 50), confusions(preset_int8, 50, 50, 50, 30)
    figures = rounded.against(exact)
    assert figures["miou"] == pytest.approx((180 / 200 + 200 / 220) / 2, abs=1e-6)
    assert figures["drop"] == pytest.approx(1 - figures["miou"], abs=1e-6)
    assert figures["pixels_changed"] == 20 / 400
    assert 0 < figures["drop_error"] < figures["drop"]


def test_equal_masks_lose_nothing_whatever_images_are_drawn(preset_int8: ModuleType) -> None:
    exact = confusions(preset_int8, 50, 10, 30)
    figures = exact.against(exact)
    assert (figures["drop"], figures["drop_error"], figures["pixels_changed"]) == (0, 0, 0)


def test_a_loss_that_every_image_has_is_no_chance(preset_int8: ModuleType) -> None:
    figures = confusions(preset_int8, 40, 40, 40).against(confusions(preset_int8, 50, 50, 50))
    assert figures["drop"] > 0.1
    assert figures["drop_error"] == 0


def test_the_table_has_a_row_a_preset_and_empty_cells_where_nothing_was_refined(preset_int8: ModuleType) -> None:
    figures = {"miou": 0.4, "drop": 0.0125, "drop_error": 0.001, "pixels_changed": 0.02}
    row = {"epochs": 3, "size": "96x120", "fp32": 0.4125, "symmetric": figures, "openvino": figures | {"drop": -0.001}}
    lines = preset_int8.table({"pspnet_r18": row, "pspnet_fast": row | {"qat": figures | {"drop": 0.002}}}).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["`pspnet_fast`", "`pspnet_r18`"]
    assert "+0.0125 ± 0.0010" in lines[3]
    assert "-0.0010 ± 0.0010" in lines[3]
    assert lines[2].split("|")[-2].strip() == "+0.0020 ± 0.0010"
    assert lines[3].split("|")[-2].strip() == ""
    assert len({line.count("|") for line in lines}) == 1


def test_a_drop_that_rounds_to_nothing_has_no_minus(preset_int8: ModuleType) -> None:
    assert preset_int8.lost({"drop": -0.00002, "drop_error": 0.0}) == "+0.0000 ± 0.0000"
    assert preset_int8.lost({"refused": "too much is lost"}) == "refused"


def test_spread_channels_leave_the_logits_as_they_were(preset_int8: ModuleType, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "even.pt", PSPNet("pspnet_fast", len(CAMVID)).eval(), CAMVID, {})
    preset_int8.spread_channels(tmp_path / "even.pt", tmp_path / "spread.pt")
    even, spread = (load_checkpoint(tmp_path / name).model for name in ("even.pt", "spread.pt"))
    frame = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        expected, found = even(frame), spread(frame)
        seen = [network.backbone(frame)[1].abs().amax((0, 2, 3)) for network in (even, spread)]
    assert float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())
    ratios = seen[1] / seen[0]
    assert float(ratios.max() / ratios.min()) > 100


def test_convolutions_are_told_apart_by_what_they_read(preset_int8: ModuleType) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "depthwise"], ["a"], "first", group=4, pads=[1, 1, 1, 1]),
            helper.make_node("HardSwish", ["a"], ["b"]),
            helper.make_node("Conv", ["b", "depthwise"], ["c"], "second", group=4, pads=[1, 1, 1, 1]),
            helper.make_node("Conv", ["b", "dense"], ["d"], "third"),
            helper.make_node("GlobalAveragePool", ["d"], ["e"]),
            helper.make_node("Conv", ["e", "dense"], ["f"], "fourth"),
        ],
        "kinds",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4, 8, 8))],
        [helper.make_tensor_value_info("f", TensorProto.FLOAT, (1, 4, 1, 1))],
        [
            numpy_helper.from_array(np.ones(shape, np.float32), name)
            for name, shape in (("depthwise", (4, 1, 3, 3)), ("dense", (4, 4, 1, 1)))
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    view = GraphView(onnx.shape_inference.infer_shapes(proto))
    kinds = {node.name: preset_int8.kind_of(view, node) for node in view.of_kind("Conv")}
    assert kinds == {
        "first": "other, depthwise",
        "second": "hard-swish, depthwise",
        "third": "hard-swish, dense",
        "fourth": "one pixel",
    }

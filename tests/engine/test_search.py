"""The fastest of several engines, with a real runtime; and with latencies given, so that each of them wins once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pspnet_edge import bundled
from pspnet_edge.data.datasets import open_dataset
from pspnet_edge.data.subset import evenly_spaced
from pspnet_edge.engine.backends import open_engine, read_info
from pspnet_edge.engine.build import Gate
from pspnet_edge.engine.model import prepare_model
from pspnet_edge.engine.search import build_fastest
from pspnet_edge.errors import EngineError

pytest.importorskip("onnxruntime", reason="the engines run in ONNX Runtime")
NAMES = ["INT8", "INT8, depthwise unquantized", "FP32"]


@pytest.mark.parametrize("winner", range(3))
def test_the_fastest_is_kept_and_the_sidecar_tells_all(winner: int, tmp_path: Path) -> None:
    path, latencies = tmp_path / "e.engine", [3.0, 3.0, 3.0]
    latencies[winner] = 1.0
    left = iter(latencies)
    facts = build_fastest(prepare_model(bundled.DEFAULT), "onnxruntime", path, measure_ms=lambda engine: next(left))
    assert [tried["name"] for tried in facts["search"]] == NAMES
    assert [tried["kept"] for tried in facts["search"]] == [index == winner for index in range(3)]
    assert [tried["latency_ms"] for tried in facts["search"]] == latencies
    info = read_info(path)
    assert info.facts["search"] == facts["search"]
    assert info.precision == ("fp32" if winner == 2 else "int8")
    assert (path.with_suffix(".calib.json")).is_file() == (winner == 1)
    assert sorted(each.name for each in tmp_path.iterdir() if not each.name.startswith(".")) == sorted(
        ["e.engine", "e.engine.json", *(["e.calib.json"] if winner == 1 else [])]
    )
    if winner == 1:
        assert len(info.facts["kept_float"]) >= 16
    with open_engine(path) as engine:
        assert engine.infer(np.zeros((*info.shape_nhw, 3), np.uint8)).shape == info.shape_nhw


@pytest.mark.slow
def test_the_gate_holds_for_every_int8_engine(tmp_path: Path) -> None:
    images = evenly_spaced(open_dataset("scenes", None, "val"), 4)
    gate = Gate(0.5, images, "scenes val")
    latencies = iter([1.0, 2.0, 3.0])
    facts = build_fastest(
        prepare_model(bundled.DEFAULT),
        "onnxruntime",
        tmp_path / "e.engine",
        gate=gate,
        measure_ms=lambda engine: next(latencies),
    )
    assert facts["accuracy"]["max_drop"] == 0.5
    assert Path(facts["decision_saved_to"]) == tmp_path / "e.calib.json"


def test_a_search_without_a_gpu_to_measure_on_is_refused(tmp_path: Path) -> None:
    from pspnet_edge.engine.tensorrt.gpu import find_gpu

    if find_gpu() is not None:
        pytest.skip("there is a GPU here")
    with pytest.raises(EngineError, match="no GPU here to run them"):
        build_fastest(prepare_model(bundled.DEFAULT), "tensorrt-rtx", tmp_path / "e.engine")


@pytest.mark.slow
def test_the_command_measures_and_says_what_it_found(command_line, tmp_path: Path) -> None:
    done = command_line("build", "--search", "--runtime", "onnxruntime", "-o", tmp_path / "e.engine", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    kept = [tried for tried in facts["search"] if tried["kept"]]
    assert len(kept) == 1
    assert kept[0]["latency_ms"] == min(tried["latency_ms"] for tried in facts["search"])
    assert facts["precision"] == kept[0]["precision"]
    assert f"{kept[0]['name']}: {kept[0]['latency_ms']:.2f} ms, kept" in done.stderr
    refused = command_line("build", "--search", "--precision", "int8")
    assert refused.returncode == 2
    assert "leave one out" in refused.stderr

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pspnet_edge.data.datasets import SceneSet
from pspnet_edge.data.geometry import frame_at
from pspnet_edge.engine.backends import open_engine
from pspnet_edge.engine.build import build_engine
from pspnet_edge.errors import ModelError, OptionError
from pspnet_edge.graph.confidence import with_min_confidence
from pspnet_edge.graph.onnx_file import ModelFile, read_model, write_model
from pspnet_edge.graph.reference import ReferenceSession

LIMIT = 0.6


def frame(model: ModelFile) -> np.ndarray:
    return frame_at(SceneSet("test").image(2), model.shape_nhw[1:])[None]


def winning_probability(model: ModelFile) -> np.ndarray:
    """Softmax by NumPy over the logits that the graph takes the argmax of."""
    logits_name = next(node.input[0] for node in model.proto.graph.node if node.op_type == "ArgMax")
    (logits,) = ReferenceSession(model.proto, "test", [logits_name]).run(frame(model))
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    return (exponents / exponents.sum(1, keepdims=True)).max(1)


def test_pixels_below_the_limit_are_unknown_and_the_others_keep_their_class(model: ModelFile) -> None:
    limited = with_min_confidence(model, LIMIT)
    (before,), (after,) = (ReferenceSession(m.proto, "test").run(frame(model)) for m in (model, limited))
    probability = winning_probability(model)
    clear = np.abs(probability - LIMIT) > 1e-4
    expected = np.where(probability < LIMIT, 255, before)
    assert 0.005 < (expected == 255).mean() < 0.9
    assert (after == expected)[clear].all()


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_runtime_and_precision_applies_the_limit(
    model: ModelFile, tmp_path: Path, runtime: str, precision: str
) -> None:
    path = tmp_path / "e.engine"
    facts = build_engine("pspnet_lite0_camvid", precision, runtime, path, min_confidence=LIMIT)
    assert facts["min_confidence"] == LIMIT
    with open_engine(path) as engine:
        mask = engine.infer(frame(model)).copy()
    unsure = winning_probability(model) < LIMIT
    assert ((mask == 255) == unsure).mean() > 0.97


def test_a_model_keeps_its_limit_and_gets_no_second(model: ModelFile, tmp_path: Path) -> None:
    write_model(tmp_path / "m.onnx", with_min_confidence(model, LIMIT))
    read = read_model(tmp_path / "m.onnx")
    assert read.facts["min_confidence"] == LIMIT
    with pytest.raises(ModelError, match=r"limit of 0\.6 already"):
        with_min_confidence(read, 0.5)


@pytest.mark.parametrize("limit", [0.0, 1.0, -1.0, 7.0, float("nan")])
def test_what_is_not_a_probability_is_refused(model: ModelFile, limit: float) -> None:
    with pytest.raises(OptionError, match="not a probability"):
        with_min_confidence(model, limit)


def test_evaluate_reports_what_share_is_answered(command_line) -> None:
    plain = command_line("build", "--precision", "fp32", "-o", "plain.engine")
    limited = command_line("build", "--precision", "fp32", "--min-confidence", "0.6", "-o", "limited.engine")
    assert (plain.returncode, limited.returncode) == (0, 0), limited.stderr
    every, sure = (
        json.loads(command_line("evaluate", name, "--dataset", "scenes", "--split", "test", "--json").stdout)
        for name in ("plain.engine", "limited.engine")
    )
    assert every["coverage"] == 1
    assert 0.5 < sure["coverage"] < 0.999
    assert sure["pixel_accuracy"] > every["pixel_accuracy"]


def test_export_in_python_takes_the_limit(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    import pspnet_edge

    exported = pspnet_edge.export("pspnet_lite0_camvid", tmp_path / "a.onnx", size_hw=(96, 96), min_confidence=LIMIT)
    assert read_model(exported.model).facts["min_confidence"] == LIMIT

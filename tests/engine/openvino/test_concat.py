from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper

from pspnet_edge.data.datasets import SceneSet
from pspnet_edge.data.geometry import frame_at
from pspnet_edge.engine.backend import as_computed_here
from pspnet_edge.engine.openvino.concat import quantised_before_concat
from pspnet_edge.graph.calibration_table import CalibrationTable
from pspnet_edge.graph.onnx_file import ModelFile
from pspnet_edge.graph.quantize import int8_mac_fraction, int8_model, with_uint8_activations
from pspnet_edge.graph.tail import without_tail

CHANNELS = 16


def in_onnxruntime(graph: onnx.ModelProto, feed: dict[str, np.ndarray]) -> np.ndarray:
    content = as_computed_here(graph.SerializeToString(), "int8")
    return onnxruntime.InferenceSession(content).run(None, feed)[0]


def in_openvino(graph: onnx.ModelProto, feed: dict[str, np.ndarray]) -> np.ndarray:
    core = openvino.Core()
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(as_computed_here(graph.SerializeToString(), "int8")), "CPU", options)
    return next(iter(compiled(feed).values()))


def difference(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.sqrt(np.square(first - second).mean()))


def two_branches(model: ModelFile) -> ModelFile:
    """Two ReLUs, a Concat, a symmetric int8 pair and a convolution: the smallest graph that OpenVINO gets wrong."""
    random = np.random.default_rng(0)
    # Small even codes: on x86 without VNNI oneDNN halves the weights behind signed activations.
    codes = 2 * random.integers(-31, 32, size=(CHANNELS, 2 * CHANNELS, 3, 3))
    weights = np.float32(0.06) * codes.astype(np.float32)
    constants = {
        "identity": np.eye(CHANNELS, dtype=np.float32).reshape(CHANNELS, CHANNELS, 1, 1),
        "weights": weights, "scales": np.full(CHANNELS, 0.06, np.float32), "zeros": np.zeros(CHANNELS, np.int8),
        "scale": np.array(0.05, np.float32), "zero": np.array(0, np.int8),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Conv", ["a", "identity"], ["a1"], "conv_a"), node("Relu", ["a1"], ["a2"], "relu_a"),
        node("Conv", ["b", "identity"], ["b1"], "conv_b"), node("Relu", ["b1"], ["b2"], "relu_b"),
        node("Concat", ["a2", "b2"], ["both"], "concat", axis=1),
        node("QuantizeLinear", ["both", "scale", "zero"], ["both.q"], "both.q"),
        node("DequantizeLinear", ["both.q", "scale", "zero"], ["both.dq"], "both.dq"),
        node("QuantizeLinear", ["weights", "scales", "zeros"], ["w.q"], "w.q", axis=0),
        node("DequantizeLinear", ["w.q", "scales", "zeros"], ["w.dq"], "w.dq", axis=0),
        node("Conv", ["both.dq", "w.dq"], ["y"], "conv", pads=[1, 1, 1, 1]),
    ]  # fmt: skip
    shape = [1, CHANNELS, 12, 12]
    graph = helper.make_graph(
        nodes,
        "two_branches",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "ab"],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return model.with_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def test_openvino_agrees_once_codes_are_concatenated(model: ModelFile) -> None:
    small = two_branches(model)
    moved = quantised_before_concat(small)
    random = np.random.default_rng(1)
    feed = {name: np.abs(2 * random.normal(size=(1, CHANNELS, 12, 12))).astype(np.float32) for name in "ab"}
    expected = in_onnxruntime(small.proto, feed)
    assert difference(in_onnxruntime(moved.proto, feed), expected) < 1e-5 * expected.std()
    assert difference(in_openvino(moved.proto, feed), expected) < 1e-5 * expected.std()
    kinds = [node.op_type for node in moved.proto.graph.node]
    assert kinds.count("QuantizeLinear") == 3
    assert kinds.index("Concat") < kinds.index("DequantizeLinear", kinds.index("Concat"))


@pytest.mark.parametrize("flavour", ["symmetric", "uint8"])
def test_openvino_loses_what_onnxruntime_loses(model: ModelFile, table: CalibrationTable, flavour: str) -> None:
    quantised = int8_model(model, table)
    if flavour == "uint8":
        quantised = with_uint8_activations(quantised)
    moved = quantised_before_concat(quantised)
    assert int8_mac_fraction(moved.proto) == int8_mac_fraction(quantised.proto)
    feed = {"frames": frame_at(SceneSet("test").image(0), model.shape_nhw[1:])[None]}
    exact, here, there = (
        run(without_tail(graph)[0].proto, feed)
        for run, graph in ((in_onnxruntime, model), (in_onnxruntime, quantised), (in_openvino, moved))
    )
    assert difference(there, exact) < 1.25 * difference(here, exact)


def test_a_concat_that_something_else_reads_too_is_left_alone(model: ModelFile) -> None:
    small = two_branches(model)
    small.proto.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", "c", "h", "w"]))
    small.proto.graph.node.append(helper.make_node("Relu", ["both"], ["z"], "another"))
    kinds = [node.op_type for node in quantised_before_concat(small).proto.graph.node]
    assert kinds.count("QuantizeLinear") == 2

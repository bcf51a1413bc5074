from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from pspnet_edge.errors import CalibrationError
from pspnet_edge.graph.calibration_table import CalibrationTable, weights_fingerprint
from pspnet_edge.graph.equalize import MARGIN, stretch_factors, stretched_range, stretches
from pspnet_edge.graph.onnx_file import ModelFile
from pspnet_edge.graph.quantize import int8_model
from pspnet_edge.labels import CAMVID

CHANNELS = 4
FAINT = np.array([1.0, 0.1, 1.0, 0.01], np.float32)


def chain(activation: str) -> onnx.ModelProto:
    """Convolution → activation → depthwise → classifier; some channels of the first are faint."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=(CHANNELS, 3, 1, 1)) * FAINT[:, None, None, None]
    tensors = {
        "w0": first,
        "b0": 0.5 * FAINT,
        "w1": rng.normal(size=(CHANNELS, 1, 3, 3)) / FAINT[:, None, None, None],
        "b1": np.zeros(CHANNELS),
        "w2": rng.normal(size=(2, CHANNELS, 1, 1)),
        "b2": np.zeros(2),
        "low": np.array(0.0),
        "high": np.array(6.0),
    }
    between = ["a", "low", "high"] if activation == "Clip" else ["a"]
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["a"], "c0"),
        helper.make_node(activation, between, ["r"], "r"),
        helper.make_node("Conv", ["r", "w1", "b1"], ["d"], "c1", group=CHANNELS, pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["d", "w2", "b2"], ["y"], "c2"),
    ]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 16, 16))],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 2, 16, 16)),
        ],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(graph: onnx.ModelProto, x: np.ndarray, output: str = "d") -> np.ndarray:
    """What a tensor of the graph holds; it is made an output here, because what gives an output stays unquantized."""
    watched = onnx.ModelProto()
    watched.CopyFrom(graph)
    if output not in {value.name for value in graph.graph.output}:
        watched.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([output], {"x": x})[0])


def table_for(graph: onnx.ModelProto, x: np.ndarray, equalize: bool) -> CalibrationTable:
    largest = np.abs(run(graph, x, "r")).max((0, 2, 3))
    (place,) = stretches(graph)
    factors = stretch_factors(largest, place.ceiling) if equalize else [1.0] * CHANNELS
    amax = {"x": float(np.abs(x).max()), "r": stretched_range(largest, factors, None), "d": 1.0}
    if equalize:
        amax["r"] = stretched_range(largest, factors, place.ceiling)
    return CalibrationTable(
        weights_fingerprint(graph), "minmax", "noise", 1, "", amax, stretch={"r": factors} if equalize else {}
    )


@pytest.mark.parametrize("activation", ["Clip", "Relu"])
def test_faint_channels_keep_more_of_their_signal(activation: str) -> None:
    graph = chain(activation)
    x = np.random.default_rng(1).normal(size=(1, 3, 16, 16)).astype(np.float32)
    exact = run(graph, x)
    model = ModelFile(graph, "chain", CAMVID)
    errors = []
    for equalize in (False, True):
        quantised = int8_model(model, table_for(graph, x, equalize), keep=["c0"])
        errors.append(((run(quantised.proto, x) - exact) ** 2).mean((0, 2, 3)) / (exact**2).mean((0, 2, 3)))
    plain, equalized = errors
    assert equalized[3] < plain[3] / 20, "a hundredth of the range"
    assert equalized[1] < plain[1] / 20, "a tenth of the range"
    assert (equalized < plain * 1.5).all()


def test_without_quantisation_nothing_changes() -> None:
    graph = chain("Clip")
    x = np.random.default_rng(2).normal(size=(1, 3, 16, 16)).astype(np.float32)
    stretched = int8_model(ModelFile(graph, "chain", CAMVID), table_for(graph, x, True), keep=["c0", "c1"])
    assert not any(node.op_type == "QuantizeLinear" for node in stretched.proto.graph.node)
    np.testing.assert_allclose(run(stretched.proto, x, "y"), run(graph, x, "y"), rtol=1e-4, atol=1e-5)


def test_a_channel_may_exceed_what_was_seen_by_the_margin() -> None:
    factors = np.array(stretch_factors(np.array([6.0, 3.0, 0.3, 0.0], np.float32), 6.0))
    np.testing.assert_allclose(factors, [1.0, 6 / (3 * MARGIN), 6 / (0.3 * MARGIN), 16.0], rtol=1e-4)
    # Clipping at 6 after stretching is clipping at 6 / factor before.
    assert (6 / factors[:3] >= np.array([6.0, 3.0, 0.3]) * min(MARGIN, 1.0)).all()


def test_places_in_the_bundled_model(model: ModelFile) -> None:
    """Every depthwise convolution, each behind ReLU6."""
    places = stretches(model.proto)
    depthwise = [
        node.name for node in model.proto.graph.node if any(a.name == "group" and a.i > 1 for a in node.attribute)
    ]
    assert [place.after.name for place in places] == depthwise
    assert {place.ceiling for place in places} == {6.0}


def test_what_others_read_too_is_left_alone() -> None:
    graph = chain("Relu")
    graph.graph.node.insert(2, helper.make_node("Conv", ["r", "w2", "b2"], ["side"], "side"))
    assert stretches(graph) == []


def test_a_stretch_for_another_model_is_refused(model: ModelFile, table: CalibrationTable) -> None:
    tensor = stretches(model.proto)[0].tensor
    with pytest.raises(CalibrationError, match="stretches 3 channels"):
        int8_model(model, replace(table, stretch={tensor: [1.0, 2.0, 3.0]}))

"""INT8 engines give the sums of their graph, whatever this processor does with pairs of products."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pspnet_edge import bundled, processor
from pspnet_edge.data.datasets import SceneSet
from pspnet_edge.data.geometry import frame_at
from pspnet_edge.engine.onnxruntime import OnnxRuntimeSession
from pspnet_edge.engine.openvino.session import OpenVinoSession
from pspnet_edge.graph.calibration_table import read_table
from pspnet_edge.graph.onnx_file import read_model
from pspnet_edge.graph.quantize import int8_model, with_uint8_activations
from pspnet_edge.graph.reference import ReferenceSession
from pspnet_edge.graph.saturation import without_saturation

CHANNELS = 64
Infer = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def quantized_convolution(kernel: int, groups: int, code: type[np.uint8] | type[np.int8]) -> bytes:
    """A convolution whose weights are nearly all of their largest code."""
    random = np.random.default_rng(0)
    weights = random.uniform(0.9, 1, (CHANNELS, CHANNELS // groups, kernel, kernel)).astype(np.float32)
    constants = {
        "w": weights,
        "w_scale": np.full(CHANNELS, 1 / 127, np.float32),
        "w_zero": np.zeros(CHANNELS, np.int8),
        "x_scale": np.array(1 / np.iinfo(code).max, np.float32),
        "x_zero": np.array(0, code),
        "y_scale": np.array(weights[0].size / np.iinfo(code).max, np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["x_q"]),
        helper.make_node("DequantizeLinear", ["x_q", "x_scale", "x_zero"], ["x_dq"]),
        helper.make_node("QuantizeLinear", ["w", "w_scale", "w_zero"], ["w_q"], axis=0),
        helper.make_node("DequantizeLinear", ["w_q", "w_scale", "w_zero"], ["w_dq"], axis=0),
        helper.make_node("Conv", ["x_dq", "w_dq"], ["sum"], group=groups, pads=[kernel // 2] * 4),
        # ONNX Runtime computes in integers what is between two pairs.
        helper.make_node("QuantizeLinear", ["sum", "y_scale", "x_zero"], ["y_q"]),
        helper.make_node("DequantizeLinear", ["y_q", "y_scale", "x_zero"], ["y"]),
    ]
    shape = [1, CHANNELS, 16, 16]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name in "xy"]
    graph = helper.make_graph(
        nodes, "sums", *ends, [numpy_helper.from_array(value, name) for name, value in constants.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def opened(runtime: str, content: bytes) -> Infer:
    if runtime == "reference":
        session = ReferenceSession(onnx.load_model_from_string(content), "compare")
        return lambda x: session.run(x)[0]
    kind = OnnxRuntimeSession if runtime == "onnxruntime" else OpenVinoSession
    arguments = (content, "sums", "int8") if runtime == "onnxruntime" else (content, "int8", "sums")
    return kind(*arguments).infer


@pytest.mark.parametrize("runtime", ["reference", "onnxruntime", "openvino"])
@pytest.mark.parametrize("code", [np.uint8, np.int8])
@pytest.mark.parametrize(("kernel", "groups"), [(1, 1), (3, 1), (3, CHANNELS)])
def test_sums_of_the_largest_codes_are_whole(
    kernel: int, groups: int, code: type[np.uint8] | type[np.int8], runtime: str
) -> None:
    content = quantized_convolution(kernel, groups, code)
    frame = np.ones((1, CHANNELS, 16, 16), np.float32)
    weights = np.random.default_rng(0).uniform(0.9, 1, (CHANNELS, CHANNELS // groups, kernel, kernel))
    expected = weights.sum(axis=(1, 2, 3))
    found = opened(runtime, content)(frame)[0, :, 8, 8]
    np.testing.assert_allclose(found, expected, rtol=0.02)


def test_masks_stay_the_same_where_sums_must_be_kept_small(monkeypatch: pytest.MonkeyPatch) -> None:
    model = read_model(bundled.onnx_path(bundled.DEFAULT))
    table = read_table(bundled.table_path(bundled.DEFAULT))
    content = with_uint8_activations(int8_model(model, table)).proto.SerializeToString()
    frames = [frame_at(SceneSet("test")[index][0], model.shape_nhw[1:])[None] for index in (0, 40)]
    exact = opened("onnxruntime", model.proto.SerializeToString())
    monkeypatch.setattr(processor, "int8_sums_fit", lambda: False)
    for runtime in ("onnxruntime", "openvino"):
        infer = opened(runtime, content)
        for frame in frames:
            assert np.mean(infer(frame) == exact(frame)) > 0.99


@pytest.mark.parametrize(("code", "name", "largest"), [(np.uint8, "x", 127), (np.int8, "w", 63)])
def test_unsigned_activations_or_the_weights_of_signed_ones_get_half_the_steps(
    code: type[np.uint8] | type[np.int8], name: str, largest: int
) -> None:
    proto = onnx.load_model_from_string(without_saturation(quantized_convolution(1, 1, code)))
    scale = next(numpy_helper.to_array(one) for one in proto.graph.initializer if one.name == f"{name}_scale")
    np.testing.assert_allclose(scale, 1 / largest, rtol=0.04)


def test_a_damaged_graph_is_left_to_the_runtime() -> None:
    assert without_saturation(b"\x08\xff\xff") == b"\x08\xff\xff"


@pytest.mark.parametrize(
    ("machine", "instructions", "fit"),
    [
        ("x86_64", {"avx2"}, False),
        ("x86_64", {"avx2", "avx_vnni"}, True),
        ("AMD64", {"avx512f", "avx512_vnni"}, True),
        ("x86_64", set(), False),
        ("aarch64", {"asimddp"}, True),
    ],
)
def test_only_x86_without_vnni_cuts_sums_off(
    machine: str, instructions: set[str], fit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor.platform, "machine", lambda: machine)
    monkeypatch.setattr(processor, "instructions", lambda: frozenset(instructions))
    assert processor.int8_sums_fit() is fit

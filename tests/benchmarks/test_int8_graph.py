from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pspnet_edge import bundled
from pspnet_edge.graph.calibration_table import read_table
from pspnet_edge.graph.onnx_file import read_model
from pspnet_edge.graph.quantize import int8_mac_fraction, int8_model


@pytest.fixture(scope="module")
def int8_graph() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "int8_graph.py"
    spec = importlib.util.spec_from_file_location("int8_graph", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def quantised() -> onnx.ModelProto:
    model = read_model(bundled.onnx_path(bundled.DEFAULT))
    return int8_model(model, read_table(bundled.table_path(bundled.DEFAULT))).proto


def first_activation_pair(graph: onnx.ModelProto) -> onnx.NodeProto:
    constants = {tensor.name for tensor in graph.graph.initializer}
    return next(n for n in graph.graph.node if n.op_type == "QuantizeLinear" and n.input[0] not in constants)


def replaced(graph: onnx.ModelProto, name: str, value: np.ndarray) -> onnx.ModelProto:
    next(tensor for tensor in graph.graph.initializer if tensor.name == name).CopyFrom(
        numpy_helper.from_array(value, name)
    )
    return graph


def test_our_graph_is_measured_as_we_measure_it(int8_graph: ModuleType, quantised: onnx.ModelProto) -> None:
    assert int8_graph.int8_mac_share(quantised) == pytest.approx(int8_mac_fraction(quantised))
    assert int8_graph.tensorrt_objection(quantised) == ""


@pytest.mark.parametrize(
    ("place", "value", "objection"),
    [
        (2, np.array(3, np.int8), "zero points"),
        (2, np.array(0, np.uint8), "uint8 codes"),
        (1, np.array([0.1], np.float32), "no scalars"),
    ],
)
def test_what_tensorrt_refuses_or_mistakes_is_named(
    int8_graph: ModuleType, quantised: onnx.ModelProto, place: int, value: np.ndarray, objection: str
) -> None:
    changed = replaced(quantised, first_activation_pair(quantised).input[place], value)
    assert objection in int8_graph.tensorrt_objection(changed)


def test_a_quantised_bias_is_named(int8_graph: ModuleType, quantised: onnx.ModelProto) -> None:
    pair = next(node for node in quantised.graph.node if node.op_type == "DequantizeLinear")
    next(node for node in quantised.graph.node if node.op_type == "Conv").input[2] = pair.output[0]
    assert "biases" in int8_graph.tensorrt_objection(quantised)

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from pspnet_edge.data.datasets import SceneSet
from pspnet_edge.data.geometry import frame_at
from pspnet_edge.data.subset import evenly_spaced
from pspnet_edge.errors import CalibrationError
from pspnet_edge.graph.calibration_table import CalibrationTable, weights_fingerprint
from pspnet_edge.graph.onnx_file import ModelFile, model_file
from pspnet_edge.graph.precision import fp16_model
from pspnet_edge.graph.quantize import (
    convolution_macs,
    int8_mac_fraction,
    int8_model,
    quantised_tensors,
    with_uint8_activations,
    with_unsigned_activations,
)
from pspnet_edge.graph.reference import ReferenceSession
from pspnet_edge.graph.view import GraphView
from pspnet_edge.labels import LabelSet


@pytest.fixture(scope="module")
def quantised(model: ModelFile, table: CalibrationTable) -> onnx.ModelProto:
    return int8_model(model, table).proto


def constants(graph: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}


def test_every_convolution_but_the_classifier_computes_in_int8(quantised: onnx.ModelProto) -> None:
    made_by = {node.output[0]: node for node in quantised.graph.node}
    convolutions = [node for node in quantised.graph.node if node.op_type == "Conv"]
    for node in convolutions[:-1]:
        for name in node.input[:2]:
            dequantize = made_by[name]
            assert dequantize.op_type == "DequantizeLinear"
            assert made_by[dequantize.input[0]].op_type == "QuantizeLinear"
    assert convolutions[-1].input[0] not in {
        node.output[0] for node in quantised.graph.node if node.op_type == "DequantizeLinear"
    }
    assert int8_mac_fraction(quantised) > 0.99


def test_scales_have_the_shapes_that_tensorrt_takes(quantised: onnx.ModelProto) -> None:
    values = constants(quantised)
    for node in quantised.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale, zero = values[node.input[1]], values[node.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any()
        assert (scale > 0).all()
        of_weights = ".weight" in node.name
        assert scale.ndim == (1 if of_weights else 0), node.name
        assert [entry.name for entry in node.attribute] == (["axis"] if of_weights else [])


def test_no_pair_on_biases_and_resizes(quantised: onnx.ModelProto) -> None:
    dequantised = {node.output[0] for node in quantised.graph.node if node.op_type == "DequantizeLinear"}
    for node in quantised.graph.node:
        if node.op_type in ("Resize", "ArgMax", "Concat"):
            assert not dequantised.intersection(node.input), node.name
        if node.op_type == "Conv":
            assert node.input[2] not in dequantised


def test_pools_of_the_pyramid_read_the_pair_of_their_map(quantised: onnx.ModelProto) -> None:
    made_by = {node.output[0]: node.op_type for node in quantised.graph.node}
    pools = [node for node in quantised.graph.node if node.op_type == "AveragePool"]
    kinds = [made_by[node.input[0]] for node in pools]
    # The coarse bins pool what the finest bin pooled, without another rounding between.
    assert sorted(kinds) == ["AveragePool"] * (len(pools) - 1) + ["DequantizeLinear"]


def residual_block(branch: str) -> ModelFile:
    """A ResNet block of two convolutions, with an identity that a third one changes, or that stays."""
    rng = np.random.default_rng(0)
    nodes = [
        ("Cast", ["frames"], "cast", {"to": onnx.TensorProto.FLOAT}),
        ("Transpose", ["cast"], "x", {"perm": [0, 3, 1, 2]}),
        ("Conv", ["x", "w0", "b0"], "stem", {}),
        ("Relu", ["stem"], "start", {}),
        ("Conv", ["start", "w1", "b1"], "first", {}),
        ("Relu", ["first"], "between", {}),
        ("Conv", ["between", "w2", "b2"], "second", {}),
        ("Conv", ["start", "w3", "b3"], "down", {}),
        ("Add", ["second", "down" if branch == "down" else "start"], "sum", {}),
        ("Relu", ["sum"], "end", {}),
        ("Conv", ["end", "w4", "b4"], "last", {}),
        ("Conv", ["last", "w5", "b5"], "scores", {}),
        ("ArgMax", ["scores"], "ids", {"axis": 1, "keepdims": 0}),
        ("Cast", ["ids"], "masks", {"to": onnx.TensorProto.UINT8}),
    ]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(kind, inputs, [name], name, **attributes) for kind, inputs, name, attributes in nodes],
        "block",
        [onnx.helper.make_tensor_value_info("frames", onnx.TensorProto.UINT8, [1, 16, 16, 3])],
        [onnx.helper.make_tensor_value_info("masks", onnx.TensorProto.UINT8, [1, 16, 16])],
        [
            numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), f"{role}{index}")
            for index in range(6)
            for role, shape in (("w", (4, 3 if index == 0 else 4, 1, 1)), ("b", (4,)))
        ],
    )
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    return model_file(proto, "block", LabelSet("four", ("a", "b", "c", "d"), ((0, 0, 0),) * 4), {})


@pytest.mark.parametrize("flavour", ["symmetric", "uint8"])
def test_a_channel_of_almost_no_weights_keeps_its_bias(flavour: str) -> None:
    """Its bias does not fit into int32 in steps of (input scale · weight scale): runtimes would wrap it around."""
    block = residual_block("down")
    tensors = {tensor.name: tensor for tensor in block.proto.graph.initializer}
    for name, channel in (("w1", 1e-9), ("b1", 2.0)):
        values = numpy_helper.to_array(tensors[name]).copy()
        values[0] = channel
        tensors[name].CopyFrom(numpy_helper.from_array(values, name))
    ranges = dict.fromkeys(quantised_tensors(block.proto), 4.0)
    model = int8_model(block, CalibrationTable(weights_fingerprint(block.proto), "none", "none", 1, "", ranges))
    if flavour == "uint8":
        model = with_uint8_activations(model)
    proto = model.copy_proto()
    proto.graph.output.append(onnx.helper.make_tensor_value_info("between.dq", onnx.TensorProto.FLOAT, (1, 4, 16, 16)))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    frames = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)
    between = session.run(["between.dq"], {"frames": frames})[0]
    np.testing.assert_allclose(between[0, 0], 2.0, atol=4.0 / 127)


def test_onnx_runtime_computes_in_integers_what_is_quantized_on_both_sides(
    model: ModelFile, table: CalibrationTable, tmp_path: Path
) -> None:
    """With everything unsigned; the masks are the same where it fuses nothing, and so computes what is said."""
    uint8 = with_uint8_activations(int8_model(model, table))
    unsigned = with_unsigned_activations(uint8)
    frames = np.stack([frame_at(SceneSet("test")[0][0], model.shape_nhw[1:])])
    masks, fused = [], []
    for each in (uint8, unsigned):
        content = each.proto.SerializeToString()
        plain = onnxruntime.SessionOptions()
        plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(content, plain, providers=["CPUExecutionProvider"])
        masks.append(session.run(None, {session.get_inputs()[0].name: frames})[0])
        optimized = onnxruntime.SessionOptions()
        optimized.log_severity_level = 3
        optimized.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        onnxruntime.InferenceSession(content, optimized, providers=["CPUExecutionProvider"])
        nodes = onnx.load(tmp_path / "optimized.onnx").graph.node
        fused.append(sum(node.op_type == "QLinearConv" for node in nodes))
    np.testing.assert_array_equal(*masks)
    both_sides = _quantized_on_both_sides(unsigned.proto)
    assert fused[0] < fused[1] == both_sides


def _quantized_on_both_sides(proto: onnx.ModelProto) -> int:
    view = GraphView(proto)
    dequantized = {node.output[0] for node in view.of_kind("DequantizeLinear")}

    def is_quantized(name: str) -> bool:
        readers = view.readers(name)
        if [reader.op_type for reader in readers] == ["Clip"]:
            readers = view.readers(readers[0].output[0])
        return {reader.op_type for reader in readers} == {"QuantizeLinear"}

    return sum(node.input[0] in dequantized and is_quantized(node.output[0]) for node in view.of_kind("Conv"))


def test_the_symmetric_flavour_stays_signed(model: ModelFile, table: CalibrationTable) -> None:
    symmetric = int8_model(model, table)
    assert with_unsigned_activations(symmetric) is symmetric


def test_the_add_of_a_block_that_changes_its_identity_gets_a_pair_there() -> None:
    block = residual_block("down")
    assert "down" in quantised_tensors(block.proto)
    ranges = dict.fromkeys(quantised_tensors(block.proto), 4.0)
    table = CalibrationTable(weights_fingerprint(block.proto), "none", "none", 1, "", ranges)
    add = next(node for node in int8_model(block, table).proto.graph.node if node.op_type == "Add")
    assert list(add.input) == ["second", "down.dq"]
    older = replace(table, amax={name: value for name, value in ranges.items() if name != "down"})
    add = next(node for node in int8_model(block, older).proto.graph.node if node.op_type == "Add")
    assert list(add.input) == ["second", "down"]


def test_the_add_of_a_plain_block_keeps_the_shared_pair() -> None:
    block = residual_block("same")
    assert "down" not in quantised_tensors(block.proto)
    ranges = dict.fromkeys(quantised_tensors(block.proto), 4.0)
    table = CalibrationTable(weights_fingerprint(block.proto), "none", "none", 1, "", ranges)
    add = next(node for node in int8_model(block, table).proto.graph.node if node.op_type == "Add")
    assert list(add.input) == ["second", "start.dq"]


def test_a_residual_add_shares_the_pair_of_its_block(quantised: onnx.ModelProto) -> None:
    dequantised = {node.output[0] for node in quantised.graph.node if node.op_type == "DequantizeLinear"}
    made_by = {node.output[0]: node.op_type for node in quantised.graph.node}
    *residual, folded = [node for node in quantised.graph.node if node.op_type == "Add"]
    assert [made_by[name] for name in folded.input] == ["Conv", "Conv"]
    assert len(residual) == 9
    for add in residual:
        assert sorted(made_by[name] for name in add.input) == ["Conv", "DequantizeLinear"]
        identity = next(name for name in add.input if name in dequantised)
        users = [node.op_type for node in quantised.graph.node if identity in node.input]
        assert sorted(users) == ["Add", "Conv"]


def test_int8_masks_agree_with_fp32(model: ModelFile, quantised: onnx.ModelProto) -> None:
    sessions = [ReferenceSession(graph, "compare") for graph in (model.proto, quantised)]
    scenes = evenly_spaced(SceneSet("test"), 4)
    same = []
    for index in range(len(scenes)):
        frame = frame_at(scenes[index][0], model.shape_nhw[1:])[None]
        exact, rounded = (session.run(frame)[0] for session in sessions)
        same.append((exact == rounded).mean())
    assert np.mean(same) > 0.95


def test_kept_convolutions_stay_as_they_are(model: ModelFile, table: CalibrationTable) -> None:
    name = next(node.name for node in model.proto.graph.node if node.op_type == "Conv")
    graph = int8_model(model, table, keep=[name]).proto
    kept = next(node for node in graph.graph.node if node.name == name)
    assert not any(text.endswith(".dq") for text in kept.input)
    macs = convolution_macs(graph)
    assert int8_mac_fraction(graph) < 1 - macs[name] / sum(macs.values()) + 1e-9


def test_macs_are_the_products_of_the_shapes(model: ModelFile) -> None:
    macs = convolution_macs(model.proto)
    stem = next(node.name for node in model.proto.graph.node if node.op_type == "Conv")
    assert macs[stem] == 192 * 240 * 32 * 3 * 9
    assert 3.0e9 < sum(macs.values()) <= 3.5e9


def test_a_table_of_another_model_is_refused(model: ModelFile, table: CalibrationTable) -> None:
    with pytest.raises(CalibrationError, match="different weights"):
        int8_model(model, replace(table, weights_sha256="0" * 64))


def test_a_table_that_lacks_a_tensor_is_refused(model: ModelFile, table: CalibrationTable) -> None:
    fewer = dict(list(table.amax.items())[1:])
    with pytest.raises(CalibrationError, match="has no range for tensor"):
        int8_model(model, replace(table, amax=fewer))


def test_fp16_computes_in_fp16_and_agrees(model: ModelFile) -> None:
    narrow = fp16_model(model)
    resize_inputs = {name for node in narrow.proto.graph.node if node.op_type == "Resize" for name in node.input[1:]}
    for name, value in constants(narrow.proto).items():
        assert value.dtype != np.float32 or name in resize_inputs
    sessions = [onnxruntime.InferenceSession(m.proto.SerializeToString()) for m in (model, narrow)]
    frame = frame_at(SceneSet("test")[0][0], model.shape_nhw[1:])[None]
    exact, rounded = (session.run(None, {"frames": frame})[0] for session in sessions)
    assert (exact == rounded).mean() > 0.995

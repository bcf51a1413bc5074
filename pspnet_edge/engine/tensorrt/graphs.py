"""Graphs as single versions of TensorRT want them; the mask stays the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...graph.onnx_file import ModelFile
from ...graph.precision import fp16_model
from ...graph.view import GraphView, attribute, needed_nodes


def float_before_uint8(model: ModelFile) -> ModelFile:
    """A Cast to float between ArgMax and the last Cast.

    The headers of TensorRT 8.6 to 11 allow a conversion to uint8 only from floating point. Class ids up to 255 are
    exact there.
    """
    proto = model.copy_proto()
    last = proto.graph.node[-1]
    from_integers = GraphView(proto).dtype(last.input[0]) in (TensorProto.INT32, TensorProto.INT64)
    if last.op_type == "Cast" and last.output[0] == proto.graph.output[0].name and from_integers:
        name = f"{last.name}.float"
        between = helper.make_node("Cast", [last.input[0]], [name], name, to=TensorProto.FLOAT)
        last.input[0] = name
        proto.graph.node.insert(len(proto.graph.node) - 1, between)
    # Not checked here: what is wrong with a graph, TensorRT's parser says by node.
    return replace(model, proto=proto)


def int8_fp16_model(model: ModelFile) -> ModelFile:
    """The FP32 Q/DQ graph with FP16 between the int8 convolutions, as strongly typed TensorRT (10 and later) wants it.

    A scale of FP16 needs opset 19. Scales are rounded up, so that none becomes zero (which TensorRT refuses) and no
    value that fitted is clipped; Q and DQ share the rounded one.

    Raises:
        BuildError: a weight is too large for FP16.
    """
    proto = model.copy_proto()
    scales = {node.input[1] for node in GraphView(proto).of_kind("QuantizeLinear", "DequantizeLinear")}
    for tensor in proto.graph.initializer:
        if tensor.name in scales:
            exact = numpy_helper.to_array(tensor)
            rounded = exact.astype(np.float16)
            above = np.nextafter(rounded, np.float16(np.inf))
            safe = np.where(rounded < exact, above, rounded).astype(np.float32).reshape(exact.shape)
            tensor.CopyFrom(numpy_helper.from_array(safe, tensor.name))
    _raise_opset(proto)
    return fp16_model(model.with_proto(proto))


def quantized_depthwise(model: ModelFile) -> list[str]:
    """Names of the depthwise convolutions whose input and weight come from a Q/DQ pair."""
    view = GraphView(model.proto)
    depthwise = [node for node in view.of_kind("Conv") if attribute(node, "group", 1) > 1]
    return [node.name for node in depthwise if _pair_source(view, node.input[0]) is not None]


def without_pairs(model: ModelFile, convolutions: Iterable[str]) -> ModelFile:
    """The Q/DQ graph with some convolutions left in floating point: they read what their pairs read."""
    names = set(convolutions)
    proto = model.copy_proto()
    view = GraphView(proto)
    for node in view.nodes:
        if node.name in names:
            node.input[:2] = [_pair_source(view, name) or name for name in node.input[:2]]
    return model.with_nodes(proto, needed_nodes(view.nodes, (value.name for value in proto.graph.output)))


def _pair_source(view: GraphView, name: str) -> str | None:
    """What the Q/DQ pair that gives a tensor reads; None where no pair gives it."""
    dequantize = view.producer(name)
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return None
    quantize = view.producer(dequantize.input[0])
    return quantize.input[0] if quantize is not None and quantize.op_type == "QuantizeLinear" else None


def _raise_opset(proto: onnx.ModelProto) -> None:
    """From opset 17 to 19: of the operators that the networks have only reductions changed: axes became an input."""
    for node in proto.graph.node:
        axes = next((entry for entry in node.attribute if entry.name == "axes"), None)
        if node.op_type.startswith("Reduce") and axes is not None:
            name = f"{node.name}.axes"
            proto.graph.initializer.append(numpy_helper.from_array(np.array(axes.ints, np.int64), name))
            node.input.append(name)
            node.attribute.remove(axes)
    del proto.opset_import[:]
    proto.opset_import.append(onnx.helper.make_opsetid("", 19))
    proto.ir_version = max(proto.ir_version, 9)  # the first that knows opset 19

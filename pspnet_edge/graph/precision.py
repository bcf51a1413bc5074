"""FP32 → FP16 graphs."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from ..errors import BuildError
from .onnx_file import ModelFile

PRECISIONS = ("fp32", "fp16", "int8")
_LARGEST = float(np.finfo(np.float16).max)


def fp16_model(model: ModelFile) -> ModelFile:
    """Compute in FP16 from the first cast to the last: weights, activations and constants.

    Resize keeps its FP32 scales, which ONNX demands. The uint8 ends are untouched: the entering Cast now goes to FP16.

    Raises:
        BuildError: a weight is too large for FP16.
    """
    graph = onnx.ModelProto()
    graph.CopyFrom(model.graph)
    resize_inputs = {name for node in graph.graph.node if node.op_type == "Resize" for name in node.input[1:]}
    for tensor in graph.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in resize_inputs:
            values = numpy_helper.to_array(tensor)
            if np.abs(values).max(initial=0) > _LARGEST:
                raise BuildError(f"{tensor.name} holds values that FP16 cannot: build with --precision fp32")
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))
    for node in graph.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
            if node.op_type == "Constant" and attribute.t.data_type == TensorProto.FLOAT:
                values = numpy_helper.to_array(attribute.t).astype(np.float16)
                attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))
    del graph.graph.value_info[:]
    graph = onnx.shape_inference.infer_shapes(graph, strict_mode=True)
    onnx.checker.check_model(graph)
    return model.with_graph(graph)


def int8_fp16_model(model: ModelFile) -> ModelFile:
    """The FP32 Q/DQ graph with FP16 between the int8 convolutions, as strongly typed TensorRT (10 and later) wants it.

    A scale of FP16 needs opset 19. Scales are rounded up, so that none becomes zero (which TensorRT refuses) and no
    value that fitted is clipped; Q and DQ share the rounded one.

    Raises:
        BuildError: a weight is too large for FP16.
    """
    graph = onnx.ModelProto()
    graph.CopyFrom(model.graph)
    pairs = ("QuantizeLinear", "DequantizeLinear")
    scales = {node.input[1] for node in graph.graph.node if node.op_type in pairs}
    for tensor in graph.graph.initializer:
        if tensor.name in scales:
            exact = numpy_helper.to_array(tensor)
            rounded = exact.astype(np.float16)
            above = np.nextafter(rounded, np.float16(np.inf))
            safe = np.where(rounded < exact, above, rounded).astype(np.float32).reshape(exact.shape)
            tensor.CopyFrom(numpy_helper.from_array(safe, tensor.name))
    _raise_opset(graph)
    return fp16_model(model.with_graph(graph))


def _raise_opset(graph: onnx.ModelProto) -> None:
    """From opset 17 to 19: of the operators that the networks have only reductions changed: axes became an input."""
    for node in graph.graph.node:
        axes = next((attribute for attribute in node.attribute if attribute.name == "axes"), None)
        if node.op_type.startswith("Reduce") and axes is not None:
            name = f"{node.name}.axes"
            graph.graph.initializer.append(numpy_helper.from_array(np.array(axes.ints, np.int64), name))
            node.input.append(name)
            node.attribute.remove(axes)
    del graph.opset_import[:]
    graph.opset_import.append(onnx.helper.make_opsetid("", 19))
    graph.ir_version = max(graph.ir_version, 9)  # the first that knows opset 19

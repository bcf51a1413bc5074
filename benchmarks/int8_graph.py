"""What can be read off a Q/DQ graph of any tool: how much of it computes in INT8, and whether TensorRT would take it."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import numpy_helper

# What only moves or picks codes, so that a runtime lets the Q/DQ pair pass through it.
_MOVERS = ("Concat", "MaxPool", "Reshape", "Squeeze", "Transpose")


def int8_mac_share(graph: onnx.ModelProto) -> float:
    """Share of the convolutions' multiply-accumulates whose input and weights are dequantised, 0–1.

    Some tools put the pairs before a Concat and others behind it; both count.
    """
    inferred = onnx.shape_inference.infer_shapes(graph)
    shapes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*inferred.graph.value_info, *inferred.graph.output)
    } | {tensor.name: list(tensor.dims) for tensor in graph.graph.initializer}
    dequantised: set[str] = set()
    total = quantised = 0
    for node in graph.graph.node:
        movable = node.input if node.op_type == "Concat" else node.input[:1]
        if node.op_type == "DequantizeLinear" or (node.op_type in _MOVERS and dequantised.issuperset(movable)):
            dequantised.update(node.output)
        if node.op_type == "Conv":
            macs = math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
            total += macs
            quantised += macs * dequantised.issuperset(node.input[:2])
    return quantised / total


def tensorrt_objection(graph: onnx.ModelProto) -> str:
    """Why TensorRT would refuse the graph or compute something else; empty when it would do neither.

    Its rules: zero points are 0, codes are int8, activations have one scalar scale, biases are not quantised.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    for node in graph.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    biases = {node.input[2] for node in graph.graph.node if node.op_type == "Conv" and len(node.input) > 2}
    found = set()
    for node in graph.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        # ONNX: without a zero point the codes are uint8.
        zero = constants.get(node.input[2]) if len(node.input) > 2 else np.zeros((), np.uint8)
        scale = constants.get(node.input[1])
        if node.output[0] in biases:
            found.add("refuses its quantised biases")
        elif zero is not None and zero.any():
            found.add("refuses its zero points")
        elif zero is not None and zero.dtype == np.uint8:
            found.add("would clip its uint8 codes")
        elif node.op_type == "QuantizeLinear" and node.input[0] not in constants and scale is not None and scale.ndim:
            found.add("would compute in FP32 behind scales that are no scalars")
    return ", ".join(sorted(found))

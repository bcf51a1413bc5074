"""Graphs mended for one runtime; the mask stays the same."""

from __future__ import annotations

from collections import Counter

import onnx
from onnx import TensorProto, helper

from .onnx_file import ModelFile


def float_before_uint8(model: ModelFile) -> ModelFile:
    """TensorRT 8 casts to uint8 from floating point alone: a Cast between ArgMax and the last Cast."""
    graph = onnx.ModelProto()
    graph.CopyFrom(model.graph)
    last = graph.graph.node[-1]
    if last.op_type == "Cast" and last.output[0] == graph.graph.output[0].name:
        name = f"{last.name}.float"
        between = helper.make_node("Cast", [last.input[0]], [name], name, to=TensorProto.FLOAT)
        last.input[0] = name
        graph.graph.node.insert(len(graph.graph.node) - 1, between)
    return model.with_graph(graph)


def quantised_before_concat(model: ModelFile) -> ModelFile:
    """OpenVINO (2026.4) computes a symmetric int8 pair behind a Concat wrongly: Q moves to each of the Concat's inputs.

    The Concat then joins int8 codes, the same ones.
    """
    graph = onnx.ModelProto()
    graph.CopyFrom(model.graph)
    readers = Counter(name for node in graph.graph.node for name in node.input)
    behind = {node.input[0]: node for node in graph.graph.node if node.op_type == "QuantizeLinear"}
    nodes: list[onnx.NodeProto] = []
    moved: set[str] = set()
    for node in graph.graph.node:
        pair = behind.get(node.output[0]) if node.op_type == "Concat" else None
        if pair is not None and readers[node.output[0]] == 1:
            for position, name in enumerate(node.input):
                code = f"{pair.name}.{position}"
                nodes.append(helper.make_node("QuantizeLinear", [name, *pair.input[1:]], [code], code))
                node.input[position] = code
            node.output[0] = pair.output[0]
            moved.add(pair.name)
        if node.name not in moved:
            nodes.append(node)
    copied = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.graph.node[:], graph.graph.value_info[:]
    graph.graph.node.extend(copied)
    graph = onnx.shape_inference.infer_shapes(graph)
    onnx.checker.check_model(graph)
    return model.with_graph(graph)

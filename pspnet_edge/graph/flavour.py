"""Graphs cut or mended for one runtime; the mask stays the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from ..errors import BuildError
from .onnx_file import ModelFile


@dataclass(frozen=True)
class Tail:
    """What upsamples logits and takes their argmax, when the graph does not."""

    classes: int
    logits_hw: tuple[int, int]
    """Height and width of the logits."""
    align_corners: bool


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


def without_tail(model: ModelFile) -> tuple[ModelFile, Tail]:
    """Cut off Resize, ArgMax and Cast: the graph then gives ``float32 [N, classes, h, w]`` logits in any precision.

    Raises:
        BuildError: the graph does not end so.
    """
    graph = model.graph.graph
    producers = {output: node for node in graph.node for output in node.output}
    ends: list[onnx.NodeProto] = []
    name = graph.output[0].name
    while name in producers and producers[name].op_type in ("Cast", "ArgMax", "Resize"):
        ends.append(producers[name])
        name = producers[name].input[0]
    kinds = [node.op_type for node in ends if node.op_type != "Cast"]
    attributes = {attribute.name: attribute for node in ends for attribute in node.attribute}
    transform = attributes["coordinate_transformation_mode"].s.decode() if kinds == ["ArgMax", "Resize"] else ""
    if transform not in ("half_pixel", "align_corners") or attributes["mode"].s != b"linear":
        raise BuildError(
            "the graph does not end in a linear Resize and ArgMax, which the kernel replaces: build with --tail graph"
        )
    shapes = {value.name: value for value in onnx.shape_inference.infer_shapes(model.graph).graph.value_info}
    batch, classes, height, width = (dimension.dim_value for dimension in shapes[name].type.tensor_type.shape.dim)
    cut = onnx.ModelProto()
    cut.CopyFrom(model.graph)
    gone = {node.name for node in ends}
    kept = [node for node in graph.node if node.name not in gone]
    kept.append(helper.make_node("Cast", [name], ["logits"], "logits", to=TensorProto.FLOAT))
    del cut.graph.node[:], cut.graph.output[:]
    cut.graph.node.extend(kept)
    shape = (batch, classes, height, width)
    cut.graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape))
    onnx.checker.check_model(cut)
    return model.with_graph(cut), Tail(classes, (height, width), transform == "align_corners")

"""Int8 codes that OpenVINO joins correctly."""

from __future__ import annotations

import onnx
from onnx import helper

from ...graph.onnx_file import ModelFile
from ...graph.view import GraphView


def quantised_before_concat(model: ModelFile) -> ModelFile:
    """Move the Q of a pair behind a Concat to each of the Concat's inputs, which then joins the same int8 codes.

    OpenVINO (2026.4) computes a symmetric int8 pair behind a Concat wrongly.
    """
    proto = model.copy_proto()
    view = GraphView(proto)
    behind = {node.input[0]: node for node in view.of_kind("QuantizeLinear")}
    nodes: list[onnx.NodeProto] = []
    moved: set[str] = set()
    for node in view.nodes:
        pair = behind.get(node.output[0]) if node.op_type == "Concat" else None
        if pair is not None and len(view.readers(node.output[0])) == 1:
            for position, name in enumerate(node.input):
                code = f"{pair.name}.{position}"
                nodes.append(helper.make_node("QuantizeLinear", [name, *pair.input[1:]], [code], code))
                node.input[position] = code
            node.output[0] = pair.output[0]
            moved.add(pair.name)
        if node.name not in moved:
            nodes.append(node)
    return model.with_nodes(proto, nodes)

"""Short stable names, by which calibration tables are keyed."""

from __future__ import annotations

import onnx


def name_by_place(graph: onnx.GraphProto) -> None:
    """Give nodes, tensors and weights short stable names, ``conv_12`` and ``conv_12.weight``.

    The exporter's own names hold Python scopes and running numbers, which change between versions of torch.
    Calibration tables are keyed by these names.
    """
    kept = {value.name for value in (*graph.input, *graph.output)}
    renamed: dict[str, str] = {}
    counts: dict[str, int] = {}
    for node in graph.node:
        kind = node.op_type.lower()
        counts[kind] = counts.get(kind, -1) + 1
        node.name = f"{kind}_{counts[kind]}"
        for position, output in enumerate(node.output):
            if output not in kept:
                renamed[output] = f"{node.name}:{position}" if position else node.name
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name in constants and name not in renamed:
                role = (
                    {1: "weight", 2: "bias"}.get(position, str(position)) if node.op_type == "Conv" else str(position)
                )
                renamed[name] = f"{node.name}.{role}"
    for tensor in graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    del graph.value_info[:]


def unshare_weights(graph: onnx.GraphProto) -> None:
    """Give each convolution its own weights and bias, so that what is done to one is not done to another."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    taken: set[str] = set()
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name not in tensors:
                continue
            if name in taken and node.op_type == "Conv" and position in (1, 2):
                copied = onnx.TensorProto()
                copied.CopyFrom(tensors[name])
                copied.name = f"{node.name or node.output[0]}.{position}"
                graph.initializer.append(copied)
                node.input[position] = copied.name
            taken.add(name)

"""A linear 1×1 convolution multiplied into the convolutions that read it, where that leaves less to compute.

EfficientNet-Lite ends in one without an activation function: in lite0 it projects 1152 channels to 320, which the
pyramid pools and convolves again. Means over pixels and a 1×1 convolution commute, and two convolutions in a row are
one, so each reader can take the product of both weights and read the 1152 channels itself. The mask stays the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from .onnx_file import with_nodes
from .quantize import convolution_macs
from .view import GraphView, attribute, copy_of

_Constants = dict[str, NDArray[np.float64]]


def fold_projections(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same masks from fewer multiply-accumulates; the graph as it is where there are none to save.

    Args:
        model: of static shape, every node with its own name, BatchNorm folded into its convolutions.
    """
    graph = _Graph(model)
    for node in filter(graph.is_pointwise, model.graph.node):
        joins = _joins(graph, node.output[0])
        readers = _readers(graph, node.output[0], joins)
        if readers is not None:
            apart = _Graph(_apart(graph, node.output[0], joins))
            folded = _folded(apart, node, readers | {_own(name) for name in joins})
            if _Graph(folded).macs() < graph.macs():
                return fold_projections(folded)
    return model


class _Graph(GraphView):
    """A graph with inferred shapes, and what folding asks of it."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__(onnx.shape_inference.infer_shapes(model))
        self.by_name = {node.name: node for node in self.nodes}

    def macs(self) -> int:
        return sum(convolution_macs(self.proto).values())

    def is_pointwise(self, node: onnx.NodeProto) -> bool:
        """Whether a node is a 1×1 convolution of every pixel and all channels."""
        if node.op_type != "Conv" or node.input[1] not in self.initializers or self.shape(node.input[1])[2:] != (1, 1):
            return False
        moves = {*attribute(node, "strides", [1])} != {1} or any(attribute(node, "pads", [0]))
        return attribute(node, "group", 1) == 1 and not moves

    def weights(self, node: onnx.NodeProto) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weights ``[outputs, inputs]`` and bias ``[outputs]`` of a 1×1 convolution."""
        weights = numpy_helper.to_array(self.initializers[node.input[1]])[:, :, 0, 0].astype(np.float64)
        bias = self.constant(node.input[2]) if len(node.input) > 2 else None
        return weights, np.zeros(len(weights)) if bias is None else bias

    def takes_means(self, node: onnx.NodeProto) -> bool:
        """Whether a node takes means over pixels, of each channel alone, so that a bias comes out as it went in."""
        if node.op_type == "AveragePool":
            return not any(attribute(node, "pads", [0]))
        # P_h · X and X · P_wᵀ of `pyramid.bin_pool`.
        return node.op_type == "MatMul" and any(
            (matrix := self.constant(tensor)) is not None and np.allclose(matrix.sum(axis), 1, atol=1e-5)
            for tensor, axis in zip(node.input, (-1, -2))
        )

    def changed(self, nodes: Sequence[onnx.NodeProto], constants: _Constants) -> onnx.ModelProto:
        """The graph with other nodes, and with constants that they read besides its own."""
        added = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in constants.items()]
        return with_nodes(self.proto, nodes, added)


def _joins(graph: _Graph, tensor: str) -> dict[str, onnx.NodeProto]:
    """The 1×1 convolutions that read a tensor beside others: name → the Concat between."""
    behind = {node.name: graph.readers(node.output[0]) for node in graph.readers(tensor) if node.op_type == "Concat"}
    return {
        convolutions[0].name: graph.by_name[name]
        for name, convolutions in behind.items()
        if len(convolutions) == 1 and graph.is_pointwise(convolutions[0])
    }


def _readers(graph: _Graph, tensor: str, joins: Mapping[str, onnx.NodeProto]) -> set[str] | None:
    """Names of the 1×1 convolutions that read a tensor or means of it; None where anything but ``joins`` does too."""
    joining = {join.name for join in joins.values()}
    waiting, names = [tensor], set()
    for name in waiting:
        found = [node for node in graph.readers(name) if node.name not in joining]
        means = [node.output[0] for node in found if graph.takes_means(node)]
        convolutions = {node.name for node in found if graph.is_pointwise(node)}
        if not graph.readers(name) or len(means) + len(convolutions) < len(found):
            return None
        waiting += means
        names |= convolutions
    return names


def _apart(graph: _Graph, tensor: str, joins: Mapping[str, onnx.NodeProto]) -> onnx.ModelProto:
    """The convolutions of ``joins`` as sums of two: one over the channels of a tensor, one over the others."""
    joining = {join.name for join in joins.values()}
    nodes: list[onnx.NodeProto] = []
    constants: _Constants = {}
    for node in graph.nodes:
        if node.name in joining:
            others = [name for name in node.input if name != tensor]
            nodes.append(helper.make_node("Concat", others, node.output, node.name, axis=1))
        elif node.name in joins:
            joined = joins[node.name].input
            own = np.repeat(joined, [graph.shape(name)[1] for name in joined]) == tensor
            weights, bias = graph.weights(node)
            parts = [f"{node.name}.others", _own(node.name)]
            nodes.append(_pointwise(parts[0], node.input[0], weights[:, ~own], bias, constants))
            nodes.append(_pointwise(parts[1], tensor, weights[:, own], np.zeros(len(bias)), constants))
            nodes.append(helper.make_node("Add", parts, node.output, node.name))
        else:
            nodes.append(node)
    return graph.changed(nodes, constants)


def _own(convolution: str) -> str:
    """The name of the part of a convolution that reads the projection alone."""
    return f"{convolution}.own"


def _folded(graph: _Graph, projection: onnx.NodeProto, readers: Set[str]) -> onnx.ModelProto:
    """The graph without a 1×1 convolution, whose weights go into its readers."""
    (source, *_), (projected,) = projection.input, projection.output
    first, offset = graph.weights(projection)
    nodes: list[onnx.NodeProto] = []
    constants: _Constants = {}
    for node in graph.nodes:
        if node.name == projection.name:
            continue
        inputs = [source if name == projected else name for name in node.input]
        if node.name in readers:
            weights, bias = graph.weights(node)
            changed = _pointwise(node.name, inputs[0], weights @ first, bias + weights @ offset, constants)
            changed.output[:] = node.output
        else:
            changed = copy_of(node)
            changed.input[:] = inputs
        nodes.append(changed)
    return graph.changed(nodes, constants)


def _pointwise(
    name: str, tensor: str, weights: NDArray[np.float64], bias: NDArray[np.float64], constants: _Constants
) -> onnx.NodeProto:
    """A 1×1 convolution whose output is called as it is; its weights and its bias are put among the constants."""
    names = f"{name}.folded_weight", f"{name}.folded_bias"
    constants.update(zip(names, (weights[:, :, None, None], bias)))
    return helper.make_node("Conv", [tensor, *names], [name], name, kernel_shape=[1, 1])

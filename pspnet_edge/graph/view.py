"""What is asked of a graph: who makes a tensor, who reads it, what is constant, how large it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ..errors import ModelError

Value = TypeVar("Value")
Message = TypeVar("Message", onnx.ModelProto, onnx.NodeProto)


class GraphView:
    """A look at a graph, which must not change meanwhile: each map is made once, when it is first asked for."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto = proto
        self.nodes = list(proto.graph.node)

    @cached_property
    def initializers(self) -> dict[str, onnx.TensorProto]:
        """Stored constants by name."""
        return {tensor.name: tensor for tensor in self.proto.graph.initializer}

    @cached_property
    def _producers(self) -> dict[str, onnx.NodeProto]:
        return {output: node for node in self.nodes for output in node.output if output}

    @cached_property
    def _readers(self) -> dict[str, list[onnx.NodeProto]]:
        readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        return readers

    @cached_property
    def _types(self) -> dict[str, onnx.TypeProto.Tensor]:
        graph = self.proto.graph
        return {value.name: value.type.tensor_type for value in (*graph.input, *graph.value_info, *graph.output)}

    def producer(self, tensor: str) -> onnx.NodeProto | None:
        """The node that makes a tensor; None for inputs and stored constants."""
        return self._producers.get(tensor)

    def readers(self, tensor: str) -> list[onnx.NodeProto]:
        """The nodes that read a tensor, one entry per input."""
        return self._readers.get(tensor, [])

    def constant(self, tensor: str) -> NDArray[Any] | None:
        """The value of a stored constant; None for anything that is computed."""
        stored = self.initializers.get(tensor)
        return None if stored is None else np.asarray(numpy_helper.to_array(stored))

    def shape(self, tensor: str) -> tuple[int, ...]:
        """The static shape of a tensor. Needs inferred shapes.

        Raises:
            ModelError: it is unknown or dynamic.
        """
        if tensor in self.initializers:
            return tuple(self.initializers[tensor].dims)
        found = self._types.get(tensor)
        if found is None or not found.HasField("shape"):
            raise ModelError(f"the shape of tensor {tensor} is unknown: export the model with static shapes")
        if any(not dimension.HasField("dim_value") for dimension in found.shape.dim):
            raise ModelError(f"tensor {tensor} has a dynamic shape: export the model with static shapes")
        return tuple(dimension.dim_value for dimension in found.shape.dim)

    def dtype(self, tensor: str) -> int:
        """The ONNX element type of a tensor; 0 where it is unknown."""
        if tensor in self.initializers:
            return int(self.initializers[tensor].data_type)
        return int(self._types[tensor].elem_type) if tensor in self._types else 0

    def of_kind(self, *kinds: str) -> list[onnx.NodeProto]:
        """The nodes of these operators, in the order of the graph."""
        return [node for node in self.nodes if node.op_type in kinds]


def attribute(node: onnx.NodeProto, name: str, default: Value) -> Value:
    """An attribute of a node, text as ``str``, or what ONNX takes when it is absent."""
    for entry in node.attribute:
        if entry.name == name:
            value = helper.get_attribute_value(entry)
            return value.decode() if isinstance(value, bytes) else value  # type: ignore[return-value]
    return default


def copy_of(message: Message) -> Message:
    """A copy of a graph, a node or a tensor, to be edited."""
    copied = type(message)()
    copied.CopyFrom(message)
    return copied


def needed_nodes(nodes: Sequence[onnx.NodeProto], outputs: Iterable[str]) -> list[onnx.NodeProto]:
    """Those of ``nodes``, each of which comes after what it reads, that these tensors are computed from."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1]


def replace_nodes(proto: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Give a graph other nodes, some of which may be its own."""
    copied = [copy_of(node) for node in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(copied)


def is_depthwise(view: GraphView, node: onnx.NodeProto) -> bool:
    """Whether a convolution filters each channel by itself."""
    outputs, inputs = view.shape(node.input[1])[:2]
    return attribute(node, "group", 1) == outputs and inputs == 1 and outputs > 1

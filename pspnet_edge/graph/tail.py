"""What ends a graph, from logits to a mask: found, cut off or replaced; the mask stays the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from ..errors import BuildError
from .onnx_file import ModelFile
from .view import GraphView, attribute


@dataclass(frozen=True)
class Tail:
    """What upsamples logits and takes their argmax, when the graph does not."""

    classes: int
    logits_hw: tuple[int, int]
    """Height and width of the logits."""
    align_corners: bool
    dtype: str
    """Of the logits: ``float32`` or ``float16``."""


@dataclass(frozen=True)
class GraphTail:
    """The linear Resize, ArgMax and Casts that a graph ends in."""

    logits: str
    shape_nchw: tuple[int, int, int, int]
    dtype: np.dtype
    align_corners: bool
    nodes: frozenset[str]
    """Names of what computes the mask from the logits."""


def without_tail(model: ModelFile) -> tuple[ModelFile, Tail]:
    """Cut off Resize, ArgMax and Cast: the graph then gives ``[N, classes, h, w]`` logits in the type it computes in.

    Raises:
        BuildError: the graph does not end so.
    """
    found = find_tail(model)
    if found is None:
        raise BuildError(
            "the graph does not end in a linear Resize and ArgMax, which the kernel replaces: build with --tail graph"
        )
    shape = found.shape_nchw
    kind = helper.np_dtype_to_tensor_dtype(found.dtype)
    last = helper.make_node("Cast", [found.logits], ["logits"], "logits", to=kind)
    output = helper.make_tensor_value_info("logits", kind, shape)
    cut = replace_tail(model, found, [last], [], output)
    return cut, Tail(shape[1], shape[2:], found.align_corners, found.dtype.name)


def find_tail(model: ModelFile) -> GraphTail | None:
    """The linear Resize, ArgMax and Casts that a graph ends in; None where it does not."""
    view = GraphView(onnx.shape_inference.infer_shapes(model.proto))
    ends: list[onnx.NodeProto] = []
    name = model.proto.graph.output[0].name
    while (maker := view.producer(name)) is not None and maker.op_type in ("Cast", "ArgMax", "Resize"):
        ends.append(maker)
        name = maker.input[0]
    if [node.op_type for node in ends if node.op_type != "Cast"] != ["ArgMax", "Resize"]:
        return None
    resize = next(node for node in ends if node.op_type == "Resize")
    argmax = next(node for node in ends if node.op_type == "ArgMax")
    transform = attribute(resize, "coordinate_transformation_mode", "half_pixel")
    if transform not in ("half_pixel", "align_corners") or attribute(resize, "mode", "nearest") != "linear":
        return None
    if attribute(argmax, "axis", 0) != 1 or attribute(argmax, "select_last_index", 0):
        return None
    batch, classes, height, width = view.shape(name)
    return GraphTail(
        name,
        (batch, classes, height, width),
        helper.tensor_dtype_to_np_dtype(view.dtype(name)),
        transform == "align_corners",
        frozenset(node.name for node in ends),
    )


def replace_tail(
    model: ModelFile,
    found: GraphTail,
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto],
    output: onnx.ValueInfoProto | None = None,
) -> ModelFile:
    """The model with other nodes, and perhaps another output, in place of what was found."""
    proto = model.copy_proto()
    if output is not None:
        del proto.graph.output[:]
        proto.graph.output.append(output)
    kept = [node for node in proto.graph.node if node.name not in found.nodes]
    return model.with_nodes(proto, [*kept, *nodes], constants)

"""What begins a graph, from a frame's pixels to the network's input: found and cut off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ..errors import BuildError
from .onnx_file import ModelFile
from .view import GraphView, attribute, replace_nodes

_PER_PIXEL = ("Cast", "Transpose", "Sub", "Add", "Mul", "Div", "Gather", "Identity")
_LEVELS = 256


@dataclass(frozen=True)
class Head:
    """What makes the network's input ``[N, C, H, W]`` of frames ``uint8 [N, H, W, C]``, when the graph does not."""

    order: tuple[int, ...]
    """The channel of a frame that each channel of the input is made of."""
    levels: NDArray[np.float32] | NDArray[np.float16] | NDArray[np.int8]
    """``[C, 256]``: what a pixel's value becomes in each channel of the input."""


def without_head(model: ModelFile, *, quantized: bool = False) -> tuple[ModelFile, Head]:
    """Cut off Cast, Transpose and normalization: the graph then takes ``[N, C, H, W]`` in the type it computes in.

    Args:
        model: any of this package's graphs.
        quantized: cut behind the first quantization, where it is all that reads the input; the graph takes int8 then.

    Raises:
        BuildError: the graph does not begin so.
    """
    view = GraphView(onnx.shape_inference.infer_shapes(model.proto))
    nodes, tensor = _beginning(view, model)
    head = _head(model, nodes, tensor, view.dtype(tensor))
    shape = view.shape(tensor)
    readers = view.readers(tensor)
    if quantized and len(readers) == 1 and (scale := _scale(view, readers[0])) is not None:
        nodes, tensor = [*nodes, readers[0]], readers[0].output[0]
        codes = np.clip(np.rint(head.levels.astype(np.float32) / np.float32(scale)), -128, 127)
        head = Head(head.order, codes.astype(np.int8))
    proto = model.copy_proto()
    del proto.graph.input[:]
    kind = helper.np_dtype_to_tensor_dtype(head.levels.dtype)
    proto.graph.input.append(helper.make_tensor_value_info(tensor, kind, shape))
    gone = {node.name for node in nodes}
    return model.with_nodes(proto, [node for node in proto.graph.node if node.name not in gone]), head


def _beginning(view: GraphView, model: ModelFile) -> tuple[list[onnx.NodeProto], str]:
    """The nodes that each pixel passes by itself, up to a picture that has its channels first, and what they give."""
    batch, height, width = model.shape_nhw
    wanted = (batch, model.channels, height, width)
    nodes: list[onnx.NodeProto] = []
    found: tuple[list[onnx.NodeProto], str] | None = None
    name = model.proto.graph.input[0].name
    while len(readers := view.readers(name)) == 1 and _is_per_pixel(view, readers[0], name, model.channels):
        nodes.append(readers[0])
        name = readers[0].output[0]
        turned = any(node.op_type == "Transpose" for node in nodes)
        if turned and view.shape(name) == wanted and view.dtype(name) in (TensorProto.FLOAT, TensorProto.FLOAT16):
            found = list(nodes), name
    if found is None:
        raise BuildError(
            "the graph does not begin with a Cast, a Transpose and a normalization, which the kernel replaces: build "
            "with --head graph"
        )
    return found


def _is_per_pixel(view: GraphView, node: onnx.NodeProto, name: str, channels: int) -> bool:
    if node.op_type not in _PER_PIXEL:
        return False
    if node.op_type == "Transpose" and list(attribute(node, "perm", [])) not in ([0, 3, 1, 2], [0, 1, 2, 3]):
        return False
    constants = [view.constant(other) for other in node.input if other != name]
    return all(constant is not None and constant.size in (1, channels) for constant in constants)


def _scale(view: GraphView, node: onnx.NodeProto) -> float | None:
    """The scale of a symmetric quantization of whole tensors to int8; None of anything else."""
    if node.op_type != "QuantizeLinear" or len(node.input) < 3:
        return None
    scale, zero = view.constant(node.input[1]), view.constant(node.input[2])
    if scale is None or zero is None or scale.size != 1 or zero.dtype != np.int8 or zero.any():
        return None
    return float(scale.reshape(-1)[0])


def _widen(proto: onnx.ModelProto) -> None:
    """Compute in FP32 what a graph computes in FP16."""
    for constant in proto.graph.initializer:
        if constant.data_type == TensorProto.FLOAT16:
            wide = numpy_helper.to_array(constant).astype(np.float32)
            constant.CopyFrom(numpy_helper.from_array(wide, constant.name))
    for node in proto.graph.node:
        for each in node.attribute:
            if node.op_type == "Cast" and each.name == "to" and each.i == TensorProto.FLOAT16:
                each.i = TensorProto.FLOAT


def _head(model: ModelFile, nodes: list[onnx.NodeProto], tensor: str, kind: int) -> Head:
    """The nodes as a table, by running them on every value of each channel by itself.

    They run in FP32, and the result is rounded once to the type that the graph computes in.
    """
    from onnx.reference import ReferenceEvaluator

    channels = model.channels
    # A row for each value and a column for each channel, which alone has that value there.
    probe = np.zeros((1, _LEVELS, channels, channels), np.uint8)
    for channel in range(channels):
        probe[0, :, channel, channel] = np.arange(_LEVELS)
    proto = model.copy_proto()
    frames = proto.graph.input[0]
    frames.type.CopyFrom(helper.make_tensor_type_proto(TensorProto.UINT8, probe.shape))
    del proto.graph.output[:], proto.graph.value_info[:]
    proto.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.UNDEFINED, None))
    names = {node.name for node in nodes}
    replace_nodes(proto, [node for node in proto.graph.node if node.name in names])
    _widen(proto)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    given = np.asarray(ReferenceEvaluator(proto).run(None, {frames.name: probe})[0])[0].astype(dtype)
    order = []
    for values in given:
        moved = [column for column in range(channels) if (values[:, column] != values[0, column]).any()]
        if len(moved) != 1:
            raise BuildError(
                "the graph mixes the channels of its input before its first layer: build with --head graph"
            )
        order += moved
    return Head(tuple(order), np.stack([values[:, column] for values, column in zip(given, order, strict=True)]))

"""What a model file may be: everything that graph surgery and the runtimes rely on, checked once, when it is read.

A file that passes is a static FP32 graph of plain operators at opset 17, of limited size, with finite constants. What
fails is refused in one sentence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ..errors import ModelError
from ..records import first_line
from .view import GraphView, attribute, copy_of

OPSET = 17
"""The newest that TensorRT 8.6 reads."""
MOST_FILE_BYTES = (1 << 31) - 1
"""What protobuf can hold."""
MOST_NODES = 10_000
MOST_BATCH = 256
MOST_PIXELS = 1 << 26
"""Of one frame: 8192×8192."""
MOST_ELEMENTS = 1 << 31
"""Of one tensor."""
MOST_CONSTANT_BYTES = 1 << 30
_LARGE_BYTES = 4096
"""Of a constant: more than any that a shape depends on."""
OPERATORS = frozenset(
    [
        "Abs",
        "Add",
        "And",
        "ArgMax",
        "ArgMin",
        "AveragePool",
        "BatchNormalization",
        "Cast",
        "Ceil",
        "Clip",
        "Concat",
        "Constant",
        "ConstantOfShape",
        "Conv",
        "ConvTranspose",
        "Cos",
        "DepthToSpace",
        "Div",
        "Dropout",
        "Einsum",
        "Elu",
        "Equal",
        "Erf",
        "Exp",
        "Expand",
        "Flatten",
        "Floor",
        "Gather",
        "GatherElements",
        "GatherND",
        "Gemm",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Greater",
        "GreaterOrEqual",
        "GridSample",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "InstanceNormalization",
        "LayerNormalization",
        "LeakyRelu",
        "Less",
        "LessOrEqual",
        "Log",
        "LogSoftmax",
        "MatMul",
        "Max",
        "MaxPool",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "PRelu",
        "Pad",
        "Pow",
        "Range",
        "Reciprocal",
        "ReduceL2",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceSum",
        "Relu",
        "Reshape",
        "Resize",
        "Round",
        "Selu",
        "Shape",
        "Sigmoid",
        "Sign",
        "Sin",
        "Slice",
        "Softmax",
        "Softplus",
        "Softsign",
        "SpaceToDepth",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Tanh",
        "Tile",
        "TopK",
        "Transpose",
        "Unsqueeze",
        "Upsample",
        "Where",
        "Xor",
    ]
)
"""No control flow, no sequences, no text, nothing random, nothing already quantized."""
_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul")
_CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
_ELEMENTS = (
    TensorProto.FLOAT,
    TensorProto.INT64,
    TensorProto.INT32,
    TensorProto.BOOL,
    TensorProto.UINT8,
    TensorProto.INT8,
)


_OTHERS = (
    (b"version https://git-lfs", "a Git LFS pointer", "fetch the model with `git lfs pull`"),
    ((b"<!doctype", b"<html"), "a web page", "download the file behind it, e.g. the address with raw"),
    (b"pk\x03\x04", "a PyTorch checkpoint or another zip archive", "export the network to ONNX, or unpack it"),
)
"""What people give as a model: its beginning in lower case, what it is, and what to do."""


def parse_proto(content: bytes, name: str, *, foreign: bool = False) -> onnx.ModelProto:
    """Parse an ONNX file whose text is UTF-8, with one plain graph of bounded size and known operators.

    Args:
        content: of the file.
        name: what errors call it.
        foreign: allow what ``foreign.read_foreign`` takes out: functions, and constants in files beside it.

    Raises:
        ModelError: it is not ONNX, or has control flow, functions, external data or another thing that is refused.
    """
    try:
        proto = onnx.load_model_from_string(content)
    except DecodeError as error:
        for beginning, what, fix in _OTHERS:
            if content[:200].lstrip().lower().startswith(beginning):
                raise ModelError(f"{name} is {what}, not an ONNX file", fix) from error
        raise ModelError(f"{name} is not an ONNX file ({first_line(error)})", "give an .onnx file") from error
    graph = proto.graph
    if not graph.node:
        raise ModelError(f"{name} is not an ONNX file with a graph", "give an .onnx file")
    if len(graph.node) > MOST_NODES:
        raise ModelError(f"{name} has {len(graph.node)} nodes, more than {MOST_NODES}", "give a smaller model")
    _ensure_text(proto, name)
    if (proto.functions and not foreign) or graph.sparse_initializer or proto.training_info:
        raise ModelError(
            f"{name} has functions, sparse constants or training steps", "export it as a plain inference graph"
        )
    functions = {(function.domain, function.name) for function in proto.functions}
    for node in graph.node:
        if foreign:
            _ensure_foldable(node, name, functions)
        else:
            _ensure_operator(node, name)
    for tensor in tensors_of(proto):
        if tensor.data_location == TensorProto.EXTERNAL and not foreign:
            raise ModelError(f"{name} keeps {tensor.name or 'a constant'} in a file beside it", "save it as one file")
    return proto


def ensure_sound(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Check a parsed graph: opset, types, static shapes within limits, constants, convolutions.

    Returns:
        A copy with all shapes inferred, whatever the file says of them.

    Raises:
        ModelError: naming the node or tensor and what is wrong with it.
    """
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    if versions.get("", versions.get("ai.onnx")) != OPSET:
        raise ModelError(f"{name} has opset {versions.get('')}, expected {OPSET}", "export it again")
    inferred = infer(proto, name)
    view = GraphView(inferred)
    names = [node.name for node in view.nodes]
    if "" in names or len(set(names)) < len(names):
        raise ModelError(f"{name} has nodes without a name, or two of one name", "export it again")
    _ensure_constants(view, name)
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        _ensure_tensor(value, name)
    known = {value.name for value in (*inferred.graph.value_info, *inferred.graph.output)}
    for node in view.nodes:
        for output in node.output:
            if output and output not in known:
                raise ModelError(f"{name}: the shape of {output} is unknown", "export it with static shapes")
        if node.op_type in ("Conv", "ConvTranspose"):
            _ensure_convolution(view, node, name)
        if node.op_type == "Div":
            divisor = view.constant(node.input[1])
            if divisor is not None and not divisor.all():
                raise ModelError(f"{name}: node {node.name} divides by zero", "export it again")
    return inferred


def infer(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A copy of a valid graph with all shapes inferred.

    Raises:
        ModelError: it is not valid ONNX.
    """
    inferred = copy_of(proto)
    del inferred.graph.value_info[:]
    try:
        light = _without_weights(inferred)
        onnx.checker.check_model(light)
        found = onnx.shape_inference.infer_shapes(light, strict_mode=True, check_type=True, data_prop=True).graph
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, *_FROM_CPP) as error:
        raise ModelError(f"{name} is not a valid ONNX graph ({first_line(error)})", "export it again") from error
    inferred.graph.value_info.extend(found.value_info)
    del inferred.graph.output[:]
    inferred.graph.output.extend(found.output)
    return inferred


def _without_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with large weights as inputs of their shape, since no shape depends on their values.

    The checker and shape inference write and read the whole model several times. A weight that is not exactly as large
    as its shape says stays, for the checker to refuse.
    """
    light, weights = copy_of(proto), []
    given = {value.name for value in light.graph.input}
    kept = []
    for tensor in light.graph.initializer:
        if tensor.name not in given and _is_large_weight(tensor):
            weights.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims))
        else:
            kept.append(tensor)
    if weights:
        graph = onnx.GraphProto()
        graph.initializer.extend(kept)
        del light.graph.initializer[:]
        light.graph.initializer.extend(graph.initializer)
        light.graph.input.extend(weights)
    return light


def _is_large_weight(tensor: TensorProto) -> bool:
    plain = {field.name for field, _ in tensor.ListFields()} == {"dims", "data_type", "name", "raw_data"}
    if not plain or tensor.data_type != TensorProto.FLOAT or min(tensor.dims) < 1:
        return False
    size: int = 4 * math.prod(tensor.dims)
    return size >= _LARGE_BYTES and len(tensor.raw_data) == size


_FROM_CPP = (ValueError, TypeError, RuntimeError, IndexError, OverflowError, MemoryError, UnicodeDecodeError)
"""What bindings turn failures inside of the checker into."""


def array_of(tensor: onnx.TensorProto, name: str) -> NDArray[np.generic]:
    """The value of a stored constant.

    Raises:
        ModelError: its data is not of its shape and type.
    """
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except Exception as error:  # whatever NumPy finds wrong with bytes that a stranger wrote
        raise ModelError(
            f"{name}: constant {tensor.name} is damaged ({first_line(error)})", "export it again"
        ) from error


def _ensure_text(message: Message, name: str) -> None:
    """Refuse names that protobuf could not decode, which it hands out as bytes, and attributes that it did not try."""
    for field, value in message.ListFields():
        values = (value,) if isinstance(value, (str, bytes, Message)) else value
        if field.type == field.TYPE_MESSAGE:
            for entry in values:
                _ensure_text(entry, name)
        elif field.type == field.TYPE_STRING or field.name in ("s", "strings"):
            for text in values:
                try:
                    text.decode() if isinstance(text, bytes) else text.encode()
                except UnicodeError as error:
                    raise ModelError(f"{name} holds text that is not UTF-8", "export it again") from error
            if field.type == field.TYPE_STRING and any(isinstance(text, bytes) for text in values):
                raise ModelError(f"{name} holds text that is not UTF-8", "export it again")


def _ensure_foldable(node: onnx.NodeProto, name: str, functions: set[tuple[str, str]]) -> None:
    """Refuse what no folding of constants and inlining of functions takes out of a graph."""
    if node.domain not in ("", "ai.onnx") and (node.domain, node.op_type) not in functions:
        raise ModelError(
            f"{name} has operator {node.op_type} of {node.domain}, which is not plain ONNX",
            "give the file as it was exported, not one that ONNX Runtime optimized or a plugin extended",
        )
    if node.op_type in _QUANTIZED:
        raise ModelError(f"{name} is quantized already ({node.op_type})", "give the FP32 model")
    if node.op_type in ("Loop", "Scan", "SequenceMap"):
        raise ModelError(f"{name} has control flow ({node.op_type})", "export it as a plain graph, with fixed shapes")


def _ensure_operator(node: onnx.NodeProto, name: str) -> None:
    kind = node.op_type
    if node.domain not in ("", "ai.onnx"):
        raise ModelError(f"{name} has operator {kind} of {node.domain}, which is not plain ONNX", "export it without")
    if kind in _CONTROL_FLOW:
        raise ModelError(f"{name} has control flow ({kind})", "export it as a plain graph, with fixed shapes")
    if kind in _QUANTIZED:
        raise ModelError(
            f"{name} is quantized already ({kind})", "give the FP32 model, which `calibrate` and `build` take"
        )
    if kind not in OPERATORS:
        raise ModelError(f"{name} has operator {kind}, which is not supported", "export it without")
    graphs = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
    if any(entry.type in graphs or entry.HasField("g") or entry.graphs for entry in node.attribute):
        raise ModelError(f"{name}: node {node.name} holds another graph", "export it as a plain graph")


def tensors_of(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Stored constants, those inside Constant nodes included."""
    yield from proto.graph.initializer
    for node in proto.graph.node:
        for entry in node.attribute:
            if entry.HasField("t"):
                yield entry.t
            yield from entry.tensors


def _ensure_constants(view: GraphView, name: str) -> None:
    total = 0
    for tensor in tensors_of(view.proto):
        total += math.prod(tensor.dims) * 8 if min(tensor.dims, default=1) >= 0 else MOST_CONSTANT_BYTES + 1
        if total > 2 * MOST_CONSTANT_BYTES:
            raise ModelError(
                f"{name} has more than {MOST_CONSTANT_BYTES >> 20} MiB of constants", "give a smaller model"
            )
        if tensor.data_type not in _ELEMENTS:
            kind = (
                TensorProto.DataType.Name(tensor.data_type)
                if tensor.data_type in TensorProto.DataType.values()
                else "?"
            )
            raise ModelError(f"{name}: constant {tensor.name} is {kind.lower()}, not FP32", "export it in FP32")
        values = array_of(tensor, name)
        if tensor.data_type == TensorProto.FLOAT and not np.isfinite(values.astype(np.float32)).all():
            raise ModelError(f"{name}: constant {tensor.name} holds NaN or infinity", "train or export it again")


def _ensure_tensor(value: onnx.ValueInfoProto, name: str) -> None:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or kind.elem_type not in _ELEMENTS:
        raise ModelError(f"{name}: {value.name} is of a type that segmentation networks do not have", "export in FP32")
    sizes = [size.dim_value if size.HasField("dim_value") else -1 for size in kind.shape.dim]
    if not kind.HasField("shape") or min(sizes, default=1) < 1:
        raise ModelError(f"{name}: the shape of {value.name} is not static", "export it with static shapes")
    if math.prod(sizes) > MOST_ELEMENTS:
        raise ModelError(f"{name}: tensor {value.name} has shape {sizes}, too large", "export it at a smaller size")


def _ensure_convolution(view: GraphView, node: onnx.NodeProto, name: str) -> None:
    def refuse(what: str) -> ModelError:
        return ModelError(f"{name}: convolution {node.name} {what}", "export it again")

    weights = view.constant(node.input[1])
    if weights is None or weights.dtype != np.float32 or weights.ndim != 4 or not weights.size:
        raise refuse("has no stored FP32 weights of four axes")
    given, made = view.shape(node.input[0]), view.shape(node.output[0])
    groups, kernel = attribute(node, "group", 1), list(weights.shape[2:])
    inputs, outputs = (1, 0) if node.op_type == "Conv" else (0, 1)
    if len(given) != 4 or groups < 1 or given[1] != weights.shape[inputs] * (groups if inputs else 1):
        raise refuse(f"reads {list(given)} with weights {list(weights.shape)} in {groups} groups")
    if made[1] != weights.shape[outputs] * (groups if outputs else 1) or made[1] % groups or given[1] % groups:
        raise refuse(f"has weights {list(weights.shape)} that {groups} groups do not divide")
    if attribute(node, "kernel_shape", kernel) != kernel:
        raise refuse("has weights of another size than its kernel_shape")
    for what, count, least in (("strides", 2, 1), ("dilations", 2, 1), ("pads", 4, 0)):
        values = attribute(node, what, [least] * count)
        if len(values) != count or not all(least <= value <= 65_536 for value in values):
            raise refuse(f"has {what} {list(values)}")
    if len(node.input) > 2 and node.input[2]:
        bias = view.constant(node.input[2])
        if bias is None or bias.dtype != np.float32 or bias.shape != (made[1],):
            raise refuse("has a bias that is not one stored number per output")

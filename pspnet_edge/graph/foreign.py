"""ONNX files that other programs export, read as one static FP32 graph of plain operators."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ..built import ensure_foreign
from ..errors import ModelError, OptionError, one_of
from ..inputs import check_file
from ..lazy import require
from ..log import prints_logged
from ..records import first_line
from .described import Described, described
from .gate import MOST_CONSTANT_BYTES, MOST_FILE_BYTES, MOST_PIXELS, array_of, infer, parse_proto, tensors_of
from .opset import lower_opset, opset_of, raise_opset
from .view import GraphView, attribute, copy_of, replace_nodes

_WHOLE_NUMBERS = (TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64)
LAYOUTS = ("auto", "nchw", "nhwc")


@dataclass(frozen=True)
class ForeignGraph:
    """A graph with one input and one output, whose shapes are all known."""

    proto: onnx.ModelProto
    original: onnx.ModelProto
    """The file as it is, its picture the first input, with the constants of files beside it."""
    input: str
    output: str
    shape: tuple[int, int, int, int]
    """Of the input: batch, height, width, channels."""
    channels_first: bool
    opset: int
    """Of the file."""
    whole_numbers: bool = False
    """Whether it takes pixels as whole numbers; here they are float."""
    described: Described = field(default_factory=Described)
    """What the file and those beside it say of classes and preprocessing."""


def read_foreign(
    path: Path,
    *,
    size_hw: tuple[int, int] | None = None,
    output: str | None = None,
    layout: str = "auto",
) -> ForeignGraph:
    """Read a segmentation network.

    Args:
        path: an ONNX file; constants in files beside it are read from its own folder only.
        size_hw: height and width for an input of dynamic size; None is what the file or those beside it say.
        output: which output is the segmentation, where there are several.
        layout: of the input, one of ``LAYOUTS``.

    Raises:
        ModelError: not ONNX, a file beside it is missing, or not a static graph of plain FP32 operators.
        OptionError: a size or an output is missing, or is not one that the network has.
    """
    one_of(layout, LAYOUTS, "layout", "layout")
    check_file(path, "model", ModelError, "give an .onnx file", most_bytes=MOST_FILE_BYTES)
    name = str(path)
    ensure_foreign(path)
    proto = parse_proto(path.read_bytes(), name, foreign=True)
    known = described(path, proto)
    _load_external(proto, path)
    for tensor in tensors_of(proto):
        array_of(tensor, name)
    original = copy_of(proto)
    proto.ir_version = max(proto.ir_version, 4)  # before, constants had to be inputs too
    if proto.functions:
        try:
            from onnx.inliner import inline_local_functions  # onnx 1.14 has none

            proto = inline_local_functions(proto)
        except Exception as error:  # of C++
            reason = first_line(error)
            raise ModelError(f"the functions in {name} cannot be inlined ({reason})", "export it without") from error
    version = opset_of(proto)
    proto = raise_opset(proto, name)
    _compute_in_fp32(proto)
    stored = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in stored]
    _keep_output(proto, output, name)
    if len(inputs) != 1:
        listed = ", ".join(value.name for value in inputs)
        raise ModelError(f"{name} has the inputs {listed or 'none'}", "export it with the picture as its only input")
    original.graph.input.sort(key=lambda value: value.name != inputs[0].name)
    del proto.graph.input[:]
    proto.graph.input.append(inputs[0])
    whole_numbers = inputs[0].type.tensor_type.elem_type in _WHOLE_NUMBERS
    shape, channels_first = _fix_shape(proto.graph.input[0], size_hw, known.size_hw, layout, name)
    proto = lower_opset(_fold(proto, name), name)
    # What the file says of its output may be symbols, or of another size.
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    try:
        proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
        if _store_shapes(proto):
            proto = onnx.shape_inference.infer_shapes(_fold(proto, name), data_prop=True)
    except ModelError:
        raise
    except Exception as error:  # of C++
        raise ModelError(f"{name}: shapes cannot be inferred ({error})", "export it with static shapes") from error
    proto = infer(proto, name)
    return ForeignGraph(
        proto,
        original,
        inputs[0].name,
        proto.graph.output[0].name,
        shape,
        channels_first,
        version,
        whole_numbers,
        known,
    )


def _load_external(proto: onnx.ModelProto, path: Path) -> None:
    """Read constants from files beside the model; nothing outside of its folder is opened."""
    folder = path.parent.resolve()
    total = 0
    for tensor in tensors_of(proto):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        where = {entry.key: entry.value for entry in tensor.external_data}
        place = where.get("location", "")
        target = Path(os.path.normpath(folder / place))
        if not place or Path(place).is_absolute() or not target.resolve().is_relative_to(folder):
            raise ModelError(f"{path} keeps {tensor.name} in {place!r}, outside of its folder", "save it as one file")
        try:
            offset, length = int(where.get("offset", 0)), int(where.get("length", -1))
            status = target.stat()
        except FileNotFoundError:
            raise ModelError(
                f"{path} keeps its weights in {place}, which is not beside it", f"copy {place} into {path.parent}"
            ) from None
        except (OSError, ValueError) as error:
            raise ModelError(f"{path}: the file {place} of {tensor.name} cannot be read ({error})") from error
        length = status.st_size - offset if length < 0 else length
        total += max(length, 0)
        if not stat.S_ISREG(status.st_mode) or offset < 0 or length < 0 or offset + length > status.st_size:
            raise ModelError(f"{path}: {place} does not hold {tensor.name} whole", "copy both files again")
        if total > MOST_CONSTANT_BYTES:
            raise ModelError(f"{path} has over {MOST_CONSTANT_BYTES >> 20} MiB of constants", "give a smaller model")
        with target.open("rb") as stream:
            stream.seek(offset)
            tensor.raw_data = stream.read(length)
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]


def _compute_in_fp32(proto: onnx.ModelProto) -> None:
    """FP16, BF16 and FP64 constants and casts become FP32."""
    others = (TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)

    def widen(tensor: onnx.TensorProto) -> None:
        if tensor.data_type in others:
            values: NDArray[np.float32] = np.asarray(numpy_helper.to_array(tensor)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    try:
        for tensor in proto.graph.initializer:
            widen(tensor)
        for node in proto.graph.node:
            for entry in node.attribute:
                if entry.HasField("t"):
                    widen(entry.t)
                if node.op_type == "Cast" and entry.name == "to" and entry.i in others:
                    entry.i = TensorProto.FLOAT
    except ValueError as error:
        raise ModelError(f"a constant of the model is damaged ({error})", "export it again") from error
    for value in (*proto.graph.input, *proto.graph.output):
        if value.type.tensor_type.elem_type in others:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    del proto.graph.value_info[:]


def _keep_output(proto: onnx.ModelProto, wanted: str | None, name: str) -> None:
    outputs = {value.name: value for value in proto.graph.output}
    if reason := _instances(proto.graph.output, chosen=wanted is not None):
        raise ModelError(f"{name} {reason}", "export it with scores for each pixel, or choose another network")
    if wanted is None and len(outputs) > 1:
        raise OptionError(
            f"{name} has the outputs {', '.join(map(_described, proto.graph.output))}",
            "say which is the segmentation (mostly the first; others are auxiliary heads or features)",
            parameter="output_name",
        )
    chosen = outputs.get(wanted or next(iter(outputs), ""))
    if chosen is None:
        raise OptionError(
            f"{name} has no output {wanted!r}", f"choose one of {', '.join(outputs)}", parameter="output_name"
        )
    del proto.graph.output[:]
    proto.graph.output.append(chosen)


def _instances(outputs: Sequence[onnx.ValueInfoProto], *, chosen: bool) -> str:
    """Why a network is one of instances, by its outputs; empty for others. A chosen output may be beside boxes."""
    shapes = [[dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in outputs]
    maps = [shape[1] for shape in shapes if len(shape) == 4 and shape[1] > 0]
    for shape in (shape for shape in shapes if len(shape) == 3):
        if shape[1] in maps:
            return f"gives masks of {shape[1]} queries and classes for each query (MaskFormer), not scores of classes"
        if not chosen and shape[2] > 1000 and any(4 + count < shape[1] for count in maps):
            return "gives boxes and prototypes of masks (instance segmentation), not scores of classes"
    return ""


def _described(value: onnx.ValueInfoProto) -> str:
    """An output by its name and shape, as far as the file says it."""
    sizes = (str(dim.dim_value) if dim.dim_value else dim.dim_param or "?" for dim in value.type.tensor_type.shape.dim)
    return f"{value.name} [{', '.join(sizes)}]"


def _fix_shape(
    value: onnx.ValueInfoProto,
    size_hw: tuple[int, int] | None,
    described_hw: tuple[int, int] | None,
    layout: str,
    name: str,
) -> tuple[tuple[int, int, int, int], bool]:
    """Give an input the static shape that it has or is to have; ``(N, H, W, C)`` and whether channels come first."""
    kind = value.type.tensor_type
    if kind.elem_type not in (TensorProto.FLOAT, *_WHOLE_NUMBERS) or len(kind.shape.dim) != 4:
        raise ModelError(
            f"{name}: the input {value.name} is not a batch of float pictures", "export it with float [N, C, H, W]"
        )
    sizes = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in kind.shape.dim]
    first = {"nchw": True, "nhwc": False}.get(layout)
    if first is None:
        if sizes[1] in (1, 3, 4) and sizes[3] in (1, 3, 4):
            raise OptionError(f"{name}: the input is {sizes}", "say which axis are the channels", parameter="layout")
        first = sizes[1] in (1, 3, 4) or sizes[3] not in (1, 3, 4)
    batch, channels = sizes[0] or 1, sizes[1 if first else 3] or 3
    own = sizes[2:4] if first else sizes[1:3]
    if channels not in (1, 3, 4):
        raise ModelError(f"{name}: the input has {channels} channels", "give a network of 1, 3 or 4")
    height, width = (fixed or given for fixed, given in zip(own, size_hw or described_hw or own))
    if height is None or width is None:
        raise OptionError(f"{name} takes pictures of any size", "choose one, such as 384x480", parameter="size")
    if size_hw is not None and (height, width) != size_hw:
        raise OptionError(
            f"{name} has the fixed input size {height}x{width}", "export it with dynamic axes", parameter="size"
        )
    if height * width > MOST_PIXELS:
        raise OptionError(f"{height}x{width} is too large", "choose a smaller size", parameter="size")
    order = (batch, channels, height, width) if first else (batch, height, width, channels)
    value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, order))
    return (batch, height, width, channels), first


def _fold(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Shapes that are computed, constants in nodes, identities and BatchNorm are folded away."""
    onnxslim = require("onnxslim", "adapt a model")
    try:
        with prints_logged():  # what it says of unusual tensors would be beside our JSON
            slim: onnx.ModelProto = onnxslim.slim(proto)
    except Exception as error:  # it relies on what strangers exported, and so on everything
        raise ModelError(
            f"{name} cannot be simplified ({first_line(error)})", "export it with static shapes"
        ) from error
    _store_constants(slim)
    return slim


def _store_shapes(proto: onnx.ModelProto) -> bool:
    """Shapes that the graph reads of itself and that are known by now become constants; whether there are any."""
    view = GraphView(proto)
    known: dict[str, onnx.TensorProto] = {}
    for node in view.of_kind("Shape"):
        try:
            shape = view.shape(node.input[0])
        except ModelError:
            continue
        part = shape[attribute(node, "start", 0) : attribute(node, "end", len(shape))]
        known[node.output[0]] = numpy_helper.from_array(np.array(part, np.int64), node.output[0])
    replace_nodes(proto, [node for node in view.nodes if node.output[0] not in known])
    proto.graph.initializer.extend(known.values())
    return bool(known)


def _store_constants(proto: onnx.ModelProto) -> None:
    """Constant nodes become stored constants, and identities go."""
    view = GraphView(proto)
    kept: list[onnx.NodeProto] = []
    renamed: dict[str, str] = {}
    outputs = {value.name for value in proto.graph.output}
    for node in view.nodes:
        value = next((entry for entry in node.attribute if entry.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            tensor = onnx.TensorProto()
            tensor.CopyFrom(value.t)
            tensor.name = node.output[0]
            proto.graph.initializer.append(tensor)
        elif node.op_type in ("Identity", "Dropout") and node.output[0] not in outputs:
            renamed[node.output[0]] = renamed.get(node.input[0], node.input[0])
        else:
            kept.append(node)
    for node in kept:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    replace_nodes(proto, kept)

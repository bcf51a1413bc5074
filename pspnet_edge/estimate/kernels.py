"""Which kernels TensorRT would launch for a graph, how much each computes and what it moves.

Taken as TensorRT's fusions: what is element by element joins the convolution, or the chain of such operations, that
made its input, if only it reads that; BatchNormalization and bias come with it, and so does a residual Add. Concat,
Split and shape operations launch nothing, because parts are written and read in place. Everything else is a kernel.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from ..errors import ModelError
from ..graph.quantize import quantised_convolutions
from ..graph.view import GraphView, attribute
from ..inputs import check_file

_NOTHING = frozenset(
    ("Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "QuantizeLinear", "DequantizeLinear")
)
"""Operations that move no data themselves; a Q or DQ is part of its neighbours."""
_EPILOGUES = frozenset(
    ("BatchNormalization", "Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu")
).union(("Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Exp", "Erf", "Neg", "Min", "Max", "Softplus", "Cast"))
_PRODUCTS = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul"))


@dataclass(frozen=True)
class Stored:
    """A tensor in the board's memory."""

    elements: int
    channels: int
    """Size of the second of four axes, which formats of the GPU pad; 0 where there is no such axis."""
    kind: str
    """``float`` (the engine's precision), ``int8``, ``float32`` (an end of the engine) or bytes a value as a digit."""
    lanes: int = 0
    """Channels are padded to a multiple of it; 0 for what the GPU's format of the type pads to."""


@dataclass(frozen=True)
class Kernel:
    """One launch."""

    name: str
    operation: str
    """``conv``, ``depthwise``, ``matmul``, ``pointwise``, ``reformat``, an ONNX operation in lower case, or an end of
    ``ends.py``."""
    batch: int
    reads: tuple[Stored, ...]
    writes: Stored
    macs: int = 0
    weights: int = 0
    int8: bool = False
    in_channels: int = 0
    """Of one group."""
    out_channels: int = 0
    """Of one group."""
    groups: int = 1
    window: int = 1
    """Weights a pair of channels: 9 for 3×3."""
    stride: int = 1
    cuda_work: int = 0
    """Of our own kernels: what they do on CUDA cores, in multiply-accumulates that take as long."""


def read_graph(path: Path) -> onnx.ModelProto:
    """Read any ONNX file.

    Raises:
        ModelError: missing or not ONNX.
    """
    check_file(path, "model", ModelError, "make one", "pspnet-edge export CHECKPOINT")
    try:
        graph = onnx.load_model_from_string(path.read_bytes())
    except DecodeError as error:
        raise ModelError(f"{path} is not an ONNX file ({error}): give an .onnx file") from error
    if not graph.graph.node:
        raise ModelError(f"{path} is not an ONNX file with a graph: give an .onnx file")
    return graph


def fused_kernels(graph: onnx.ModelProto, *, int8: bool) -> tuple[Kernel, ...]:
    """The kernels of a graph in their order.

    Args:
        graph: of static shape.
        int8: compute convolutions in INT8: those behind Q/DQ if there are any, else every one but the last.

    Raises:
        ModelError: shapes that are not known before it runs.
    """
    return _Fusion(onnx.shape_inference.infer_shapes(graph, data_prop=True), int8).kernels()


_BINS = 36
"""Pixels of the pyramid's finest pooled map, 6×6. Pooled maps keep their size when the input's changes."""


def scaled_kernels(
    kernels: tuple[Kernel, ...], own_hw: tuple[int, int], size_hw: tuple[int, int]
) -> tuple[Kernel, ...]:
    """The kernels of a PSPNet at another input size, without exporting it: maps grow with the input's area.

    Args:
        kernels: at ``own_hw``, where every map but the pooled ones has more than 36 pixels.
        own_hw: input height and width that they are of.
        size_hw: the wanted height and width.
    """
    area = size_hw[0] * size_hw[1] / (own_hw[0] * own_hw[1])
    return tuple(
        replace(
            kernel,
            reads=tuple(_scaled(tensor, kernel.batch, area) for tensor in kernel.reads),
            writes=_scaled(kernel.writes, kernel.batch, area),
            macs=kernel.macs if _is_pooled(kernel.writes, kernel.batch) else round(kernel.macs * area),
        )
        for kernel in kernels
    )


def _is_pooled(tensor: Stored, batch: int) -> bool:
    return tensor.channels > 0 and tensor.elements <= _BINS * tensor.channels * batch


def _scaled(tensor: Stored, batch: int, area: float) -> Stored:
    return tensor if _is_pooled(tensor, batch) else replace(tensor, elements=round(tensor.elements * area))


class _Fusion:
    """One pass over the nodes; tensors are called by the name of what really holds their values."""

    def __init__(self, model: onnx.ModelProto, int8: bool) -> None:
        graph = model.graph
        self._view = GraphView(model)
        self._constants = set(self._view.initializers)
        self._holder: dict[str, str] = {}
        self._nodes = [node for node in graph.node if not self._launches_nothing(node)]
        self._uses = Counter(self._base(name) for node in self._nodes for name in set(node.input) if name)
        self._uses.update(self._base(value.name) for value in graph.output)
        self._quantised, self._int8_convolutions = self._choose_int8() if int8 else (set(), set())
        self._inputs = [value.name for value in graph.input if value.name not in self._constants]
        self._outputs = [self._base(value.name) for value in graph.output]

    def kernels(self) -> tuple[Kernel, ...]:
        made: list[Kernel] = []
        maker: dict[str, int] = {}
        read: list[set[str]] = []
        for node in self._nodes:
            inputs = [self._base(name) for name in node.input if name and name not in self._constants]
            output = node.output[0]
            host = self._host(node, inputs, made, maker)
            if host is None:
                made.append(self._kernel(node, inputs, output))
                maker[output] = len(made) - 1
                read.append(set(inputs))
                continue
            others = [name for name in dict.fromkeys(inputs) if maker.get(name) != host and name not in read[host]]
            reads = made[host].reads + tuple(self._stored(name) for name in others)
            made[host] = replace(made[host], reads=reads, writes=self._stored(output))
            maker[output] = host
            read[host].update(others)
        before = [self._reformat(name, into=True) for name in self._inputs if self._is_float(name)]
        after = [self._reformat(name, into=False) for name in self._outputs if self._is_float(name)]
        return (*before, *made, *after)

    def _launches_nothing(self, node: onnx.NodeProto) -> bool:
        if all(name in self._constants for name in node.input if name):
            self._constants.update(node.output)  # computed when the engine is built
            return True
        if node.op_type in _NOTHING:
            self._holder[node.output[0]] = self._base(node.input[0])
            return True
        if node.op_type == "Shape":
            raise ModelError(f"node {node.name} computes a shape at run time: export the model with static shapes")
        return node.op_type in ("Concat", "Split")

    def _host(self, node: onnx.NodeProto, inputs: list[str], made: list[Kernel], maker: dict[str, int]) -> int | None:
        """The kernel that takes the node in: the last made of those whose only reader it is."""
        if node.op_type not in _EPILOGUES:
            return None
        able = [maker[name] for name in inputs if name in maker and self._uses[name] == 1]
        able = [place for place in able if made[place].operation in ("conv", "depthwise", "matmul", "pointwise")]
        elements = math.prod(self._view.shape(node.output[0]))
        return max((place for place in able if made[place].writes.elements == elements), default=None)

    def _kernel(self, node: onnx.NodeProto, inputs: list[str], output: str) -> Kernel:
        shape = self._view.shape(output)
        reads = tuple(self._stored(name) for name in dict.fromkeys(inputs))
        bare = Kernel(node.name, node.op_type.lower(), shape[0] if shape else 1, reads, self._stored(output))
        if node.op_type in _EPILOGUES:
            return replace(bare, operation="pointwise")
        if node.op_type not in _PRODUCTS:
            return bare
        weights = self._view.shape(node.input[1])
        if node.op_type in ("Gemm", "MatMul"):
            depth = self._view.shape(node.input[0])[-1]
            return replace(
                bare,
                operation="matmul",
                macs=math.prod(shape) * depth,
                weights=math.prod(weights) if node.input[1] in self._constants else 0,
                in_channels=depth,
                out_channels=shape[-1],
            )
        groups = attribute(node, "group", 1)
        transposed = node.op_type == "ConvTranspose"
        over = self._view.shape(node.input[0]) if transposed else shape  # input pixels are spread, output made
        pixels = math.prod(over) // over[1]
        in_channels = weights[0] // groups if transposed else weights[1]
        out_channels = shape[1] // groups
        window = math.prod(weights[2:])
        return replace(
            bare,
            operation="depthwise" if groups > 1 and in_channels == 1 else "conv",
            macs=pixels * groups * out_channels * in_channels * window,
            weights=math.prod(weights),
            int8=node.name in self._int8_convolutions,
            in_channels=in_channels,
            out_channels=out_channels,
            groups=groups,
            window=window,
            stride=max(attribute(node, "strides", [1])),
        )

    def _choose_int8(self) -> tuple[set[str], set[str]]:
        """The tensors that are stored in INT8, and the names of the convolutions that compute in it."""
        pairs = {node.output[0] for node in self._view.of_kind("DequantizeLinear")}
        if pairs:
            convolutions = [node for node in self._view.of_kind("Conv") if pairs.issuperset(node.input[:2])]
            quantized = {node.input[0] for node in self._view.of_kind("QuantizeLinear")} - self._constants
        else:
            convolutions = quantised_convolutions(self._view.proto)
            quantized = {node.input[0] for node in convolutions}
        return {self._base(name) for name in quantized}, {node.name for node in convolutions}

    def _reformat(self, name: str, *, into: bool) -> Kernel:
        inside = self._stored(name)
        outside = replace(inside, kind="float32", channels=0)
        reads, writes = (outside, inside) if into else (inside, outside)
        return Kernel(f"{name}.reformat", "reformat", self._view.shape(name)[0], (reads,), writes)

    def _stored(self, name: str) -> Stored:
        shape, element = self._view.shape(name), self._view.dtype(name)
        if name in self._quantised:
            kind = "int8"
        elif element in (TensorProto.FLOAT, TensorProto.FLOAT16):
            kind = "float"
        else:  # TensorRT indexes in 32 bits
            kind = "1" if element in (TensorProto.UINT8, TensorProto.INT8, TensorProto.BOOL) else "4"
        return Stored(math.prod(shape), shape[1] if len(shape) == 4 and kind in ("int8", "float") else 0, kind)

    def _is_float(self, name: str) -> bool:
        return bool(self._view.dtype(name) == TensorProto.FLOAT)

    def _base(self, name: str) -> str:
        return self._holder.get(name, name)

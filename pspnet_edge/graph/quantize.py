"""Q/DQ placement for TensorRT: an FP32 model and a calibration table become an explicit INT8 graph.

Symmetric int8 throughout: one scalar scale for an activation, one scale an output channel for weights, no zero point.
Weights stay FP32 initializers behind Q → DQ, which every TensorRT from 8.5 on folds; where the table says how to round
them, they are multiples of their scales already. Left in higher precision: pooling, resizing, the classifier (the
convolution nearest the output) and ArgMax. At a residual Add the identity shares the Q/DQ pair of the block's first
convolution; between the last convolution and the Add is none. Where a convolution changes the identity, its output gets
a pair. The pools of the pyramid read the pair of their map, which is then stored as int8 only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ..errors import CalibrationError
from .calibration_table import LEARNED, REMAKE, CalibrationTable
from .equalize import Stretch, stretches
from .onnx_file import ModelFile
from .rounding import rounded
from .view import GraphView, attribute

INT8_MAX = 127
_UINT8_MAX = 255
_SIGNED_ZERO = 128
"""The uint8 code of 0 where uint8 has the steps of int8."""
_LARGEST_BIAS = 2**29
"""In steps of a convolution's sums: twice as many with uint8 activations, which leaves half of int32 to the sums."""
_KEEP_SIGN = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "Reshape", "Slice", "Split", "Transpose")


def quantised_convolutions(graph: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Every convolution but the classifiers, in the order of the graph.

    Classifiers are the convolutions from which the output is reached without another one between: one, or a few whose
    scores are added.
    """
    view = GraphView(graph)
    waiting, seen, classifiers = [value.name for value in graph.graph.output], set(), set()
    for tensor in waiting:
        node = view.producer(tensor)
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        learned = len(node.input) > 1 and node.input[1] in view.initializers
        if node.op_type == "Conv":
            classifiers.add(node.name)
        elif not (node.op_type in ("ConvTranspose", "Gemm", "MatMul") and learned):
            waiting += node.input
    return [node for node in view.of_kind("Conv") if node.name not in classifiers]


def quantised_tensors(graph: onnx.ModelProto) -> list[str]:
    """Names of the activations that get a scale, each once: what quantized convolutions read, then ``_shortcuts``."""
    convolutions = quantised_convolutions(graph)
    read = [node.input[0] for node in convolutions]
    return list(dict.fromkeys([*read, *_shortcuts(GraphView(graph), {node.name for node in convolutions}).values()]))


def _shortcuts(view: GraphView, quantised: set[str]) -> dict[str, str]:
    """Residual Adds of two convolutions → the output of the one that only changes the block's input.

    By NVIDIA's rule a convolution that is fused with an Add gives int8 only if the Add's other input is int8 too. It
    pays where what comes out is quantized right away.
    """
    convolutions = {node.output[0]: node for node in view.of_kind("Conv") if node.name in quantised}
    quantised_inputs = {node.input[0] for node in convolutions.values()}
    found = {}
    for node in view.of_kind("Add"):
        arms = [convolutions.get(name) for name in node.input]
        after = view.readers(node.output[0])
        outputs = {node.output[0], *(reader.output[0] for reader in after if reader.op_type in ("Relu", "Clip"))}
        if None in arms or not outputs & quantised_inputs:
            continue
        shared = [arm for arm in arms if arm is not None and len(view.readers(arm.input[0])) > 1]
        if len(shared) == 1:
            found[node.name] = str(shared[0].output[0])
    return found


def _pooled_maps(view: GraphView) -> list[onnx.NodeProto]:
    """The pools of the pyramid that read a whole map, not another pool's."""
    kinds = ("AveragePool", "GlobalAveragePool", "ReduceMean", "MatMul")
    pools = [node for node in view.of_kind(*kinds) if node.op_type != "MatMul" or view.initializers.keys() & node.input]
    made = {node.output[0] for node in pools}
    return [node for node in pools if not made & set(node.input)]


def pixel_steps(graph: onnx.ModelProto) -> dict[str, float]:
    """Normalized frames that int8 holds without any loss: tensor name → what one grey level is worth.

    That is so where every channel has the same whole mean and the same deviation: a code is then a grey level. A mean
    of 127 puts levels 0–254 on codes −127–127, and 255 on the top one too.
    """
    view = GraphView(graph)
    # Tensor name → (a, b): its values are a · pixel + b.
    affine: dict[str, tuple[float, float]] = {graph.graph.input[0].name: (1.0, 0.0)}
    for node in view.nodes:
        if not node.input or node.input[0] not in affine:
            continue
        slope, offset = affine[node.input[0]]
        if node.op_type in ("Cast", "Transpose"):
            affine[node.output[0]] = (slope, offset)
        elif node.op_type in ("Sub", "Div"):
            stored = view.constant(node.input[1])
            values = np.unique(stored) if stored is not None else np.empty(0)
            if values.size == 1:
                value = float(values[0])
                subtracts = node.op_type == "Sub"
                affine[node.output[0]] = (slope, offset - value) if subtracts else (slope / value, offset / value)
    quantised = set(quantised_tensors(graph))
    return {
        name: slope
        for name, (slope, offset) in affine.items()
        if name in quantised and slope and 127 <= -offset / slope <= 128 and (offset / slope).is_integer()
    }


def int8_model(model: ModelFile, table: CalibrationTable, *, keep: Iterable[str] | None = None) -> ModelFile:
    """Place Q/DQ.

    Args:
        model: the FP32 model.
        table: ranges for it.
        keep: names of convolutions to leave unquantized; None leaves those that the table names.

    Raises:
        CalibrationError: the table belongs to other weights, lacks a tensor, or holds a rounding that fits none.
    """
    table = table.carried_to(model.proto)
    proto = model.copy_proto()
    kept = set(table.kept_float if keep is None else keep)
    convolutions = [node for node in quantised_convolutions(proto) if node.name not in kept]
    shortcuts = _shortcuts(GraphView(proto), {node.name for node in convolutions})
    placer = _Placer(proto.graph, table)
    for node in convolutions:
        placer.round_weights(node)
    for place in stretches(proto):
        placer.stretch(place)
    for node in convolutions:
        node.input[1] = placer.weight_pair(node)
        node.input[0] = placer.activation_pair(node.input[0])
    view = GraphView(proto)
    for tensor in shortcuts.values():
        if tensor in table.amax:  # tables of format 2 have no range for it
            placer.activation_pair(tensor)
    # Training with --qat pools what it has not rounded yet.
    pools = [] if table.method == LEARNED else _pooled_maps(view)
    for node in (*view.of_kind("Add"), *pools):
        node.input[:] = [placer.pairs.get(name, name) for name in node.input]
    placer.insert()
    return model.with_proto(proto)


def int8_mac_fraction(graph: onnx.ModelProto) -> float:
    """Share of the convolutions' multiply-accumulates whose input and weights come from DequantizeLinear."""
    view = GraphView(graph)
    dequantised = {node.output[0] for node in view.of_kind("DequantizeLinear")}
    macs = convolution_macs(graph)
    quantised = sum(macs[node.name] for node in view.of_kind("Conv") if dequantised.issuperset(node.input[:2]))
    return quantised / max(sum(macs.values()), 1)


def convolution_macs(graph: onnx.ModelProto) -> dict[str, int]:
    """Multiply-accumulates of each convolution, by node name. Needs inferred shapes."""
    view = GraphView(graph)
    return {
        node.name: math.prod(view.shape(node.output[0])) * math.prod(view.shape(node.input[1])[1:])
        for node in view.of_kind("Conv")
    }


class _Placer:
    """Makes Q/DQ pairs, each tensor's once, and puts them into the graph in topological order."""

    def __init__(self, graph: onnx.GraphProto, table: CalibrationTable) -> None:
        self.pairs: dict[str, str] = {}
        self._graph = graph
        self._amax = table.amax
        self._rounding = table.rounding
        self._stretch = table.stretch
        self._scales: dict[str, NDArray[np.float32]] = {}
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._after: dict[str, list[onnx.NodeProto]] = {}
        self._first: list[onnx.NodeProto] = []

    def activation_pair(self, name: str) -> str:
        """The dequantised form of an activation."""
        if name not in self.pairs:
            if name not in self._amax:
                problem = f"the calibration table has no range for tensor {name}"
                raise CalibrationError(problem, "recreate it", REMAKE)
            # A scalar: TensorRT silently takes a scale of shape [1] and then computes in FP32.
            scale = np.array(self._amax[name] / INT8_MAX, np.float32)
            self._after[name] = self._pair(name, scale, np.array(0, np.int8), None)
        return self.pairs[name]

    def round_weights(self, node: onnx.NodeProto) -> None:
        """Where the table says how, replace a convolution's weights by the codes chosen and correct its bias."""
        chosen, name = self._rounding.get(node.name), node.input[1]
        if chosen is None:
            return
        weights, bias = (self._initializers[name] for name in node.input[1:3])
        # The scales stay those of the weights as they were: the codes were chosen for them.
        self._scales[name] = weight_scales(numpy_helper.to_array(weights))
        values, shift = rounded(numpy_helper.to_array(weights), self._scales[name], chosen)
        weights.CopyFrom(numpy_helper.from_array(values, name))
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + shift, bias.name))

    def stretch(self, place: Stretch) -> None:
        """Where the table says how far, stretch channels in one convolution and shrink them in the next."""
        chosen = self._stretch.get(place.tensor)
        if chosen is None:
            return
        factors = np.array(chosen, np.float32)
        weights, bias, after = (self._initializers[name] for name in (*place.before.input[1:3], place.after.input[1]))
        if len(factors) != weights.dims[0]:
            raise CalibrationError(
                f"the calibration table stretches {len(factors)} channels of {place.tensor}, which has "
                f"{weights.dims[0]}",
                "recreate it",
                REMAKE,
            )
        for tensor, by in ((weights, factors), (bias, factors), (after, 1 / factors)):
            values = numpy_helper.to_array(tensor)
            own = by.reshape(-1, *[1] * (values.ndim - 1))
            tensor.CopyFrom(numpy_helper.from_array((values * own).astype(np.float32), tensor.name))
            if tensor.name in self._scales:
                self._scales[tensor.name] = (self._scales[tensor.name] * by).astype(np.float32)

    def weight_pair(self, node: onnx.NodeProto) -> str:
        """The dequantised form of a convolution's weights, one scale per output channel."""
        name = node.input[1]
        if name not in self.pairs:
            scales = self._scales.get(name)
            if scales is None:
                scales = weight_scales(numpy_helper.to_array(self._initializers[name]))
            scales = np.maximum(scales, self._least_scales(node)).astype(np.float32)
            self._first += self._pair(name, scales, np.zeros(len(scales), np.int8), 0)
        return self.pairs[name]

    def _least_scales(self, node: onnx.NodeProto) -> NDArray[np.float32] | float:
        """What the scales of a convolution's weights must not be below, for its bias to fit into int32.

        Runtimes round the bias to multiples of (input scale · weight scale) in int32. A channel whose weights training
        has brought to almost nothing would overflow there, differently on x86 and ARM. Its weights become zeros, each
        of which changes its output by less than a millionth of the bias.
        """
        if len(node.input) < 3 or not node.input[2] or node.input[0] not in self._amax:
            return 0.0
        bias = np.abs(numpy_helper.to_array(self._initializers[node.input[2]]))
        return np.asarray(bias / (self._amax[node.input[0]] / INT8_MAX * _LARGEST_BIAS), np.float32)

    def insert(self) -> None:
        """Put the pairs into the graph: those of weights first, those of activations behind what computes them."""
        produced = {output for node in self._graph.node for output in node.output}
        nodes = list(self._first)
        for name, pair in self._after.items():
            if name not in produced:
                nodes += pair
        for node in self._graph.node:
            nodes.append(node)
            for output in node.output:
                nodes += self._after.get(output, [])
        copied = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del self._graph.node[:]
        self._graph.node.extend(copied)

    def _pair(
        self, name: str, scale: NDArray[np.float32], zero: NDArray[np.int8], axis: int | None
    ) -> list[onnx.NodeProto]:
        scale_name, zero_name = f"{name}.scale", f"{name}.zero_point"
        self._graph.initializer.append(numpy_helper.from_array(scale, scale_name))
        self._graph.initializer.append(numpy_helper.from_array(zero, zero_name))
        attributes = {} if axis is None else {"axis": axis}
        quantised, self.pairs[name] = f"{name}.q", f"{name}.dq"
        return [
            helper.make_node("QuantizeLinear", [name, scale_name, zero_name], [quantised], quantised, **attributes),
            helper.make_node(
                "DequantizeLinear", [quantised, scale_name, zero_name], [f"{name}.dq"], f"{name}.dq", **attributes
            ),
        ]


def weight_scales(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """``float [output channels]``: the largest absolute weight of each channel over 127; never zero."""
    largest = np.abs(weights.reshape(len(weights), -1)).max(axis=1)
    return np.where(largest > 0, largest / INT8_MAX, 1.0).astype(np.float32)


def with_uint8_activations(model: ModelFile) -> ModelFile:
    """The flavour for x86: uint8 for activations that cannot be negative, twice as fine over the same range.

    x86's dot products multiply uint8 activations by int8 weights, so this is what its runtimes are fast at. TensorRT
    would read uint8 with zero point 0 as int8 and clip the upper half, so it never gets this graph.

    Args:
        model: a model with the canonical Q/DQ pairs of ``int8_model``.
    """
    proto = model.copy_proto()
    view = GraphView(proto)
    for node in view.of_kind("QuantizeLinear"):
        if node.attribute or not _is_never_negative(node.input[0], view):
            continue
        scale, zero = (view.initializers[name] for name in node.input[1:3])
        finer = numpy_helper.to_array(scale) * np.float32(INT8_MAX / _UINT8_MAX)
        scale.CopyFrom(numpy_helper.from_array(finer.astype(np.float32), scale.name))
        zero.CopyFrom(numpy_helper.from_array(np.array(0, np.uint8), zero.name))
    return model.with_proto(proto)


def with_unsigned_activations(model: ModelFile) -> ModelFile:
    """The uint8 flavour for ONNX Runtime: signed activations become uint8 too, with zero point 128.

    Their steps stay the same. ONNX Runtime computes a convolution in integers only where its input and its output are
    of one type; the others it leaves in floating point, which is slower and differs from one processor to another. A
    graph without uint8, the symmetric flavour, stays as it is.
    """
    if all(zero.data_type == onnx.TensorProto.INT8 for zero in _zero_points(model.proto)):
        return model
    proto = model.copy_proto()
    for zero in _zero_points(proto):
        if zero.data_type == onnx.TensorProto.INT8:
            zero.CopyFrom(numpy_helper.from_array(np.array(_SIGNED_ZERO, np.uint8), zero.name))
    return model.with_proto(proto)


def _zero_points(graph: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Those of activations; weights are quantized along an axis."""
    view = GraphView(graph)
    return [view.initializers[node.input[2]] for node in view.of_kind("QuantizeLinear") if not node.attribute]


def _is_never_negative(name: str, view: GraphView) -> bool:
    """Whether a tensor comes from ReLU, or from a Clip at zero or above, through operations that keep the sign."""
    maker = view.producer(name)
    if maker is None:
        return False
    if maker.op_type == "Clip":
        lowest = view.constant(maker.input[1]) if len(maker.input) > 1 else None
        return lowest is not None and float(lowest) >= 0
    if maker.op_type in _KEEP_SIGN:
        return _is_never_negative(maker.input[0], view)
    if maker.op_type == "Resize":
        # A cubic kernel overshoots.
        return attribute(maker, "mode", "nearest") != "cubic" and _is_never_negative(maker.input[0], view)
    if maker.op_type == "Concat":
        return all(_is_never_negative(part, view) for part in maker.input)
    return maker.op_type in ("Relu", "Sigmoid", "HardSigmoid", "Softmax")

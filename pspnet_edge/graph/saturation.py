"""INT8 graphs as x86 processors without VNNI compute them exactly.

Those add products of uint8 activations and int8 weights in pairs, in int16, and cut off what exceeds it
(``processor.int8_sums_fit``). Signed activations are computed as uint8 too, 128 higher. NNCF and ONNX Runtime's
quantizer give all weights seven bits instead (``overflow_fix``, ``reduce_range``).
"""

from __future__ import annotations

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper

from .quantize import INT8_MAX
from .view import GraphView

_UINT8_MAX = 255
_LARGEST_PAIR = 126
"""Of weights: 255 · 126 is below 2¹⁵, with room for two of them rounded up."""


def without_saturation(content: bytes) -> bytes:
    """An INT8 graph, serialized, in which every pair of products fits.

    Activations that cannot be negative get codes 0–127 instead of 0–255. The others keep theirs, and what reads them
    gets coarser weights in the channels that have too large a pair.
    """
    try:
        proto = onnx.load_model_from_string(content)
    except DecodeError:
        return content  # the runtime says better what is wrong with it
    view = GraphView(proto)
    halved = {
        node.input[1]
        for node in view.of_kind("QuantizeLinear")
        if not node.attribute and _is_unsigned(view.initializers[node.input[2]])
    }
    for name in halved:
        _multiply(view.initializers[name], np.float32(_UINT8_MAX / INT8_MAX))
    weights = {
        node.input[1]
        for node in view.of_kind("Conv")
        if (activation := view.producer(node.input[0])) is not None
        and activation.op_type == "DequantizeLinear"
        and not _is_unsigned(view.initializers[activation.input[2]])
    }
    for name in weights:
        dequantize = view.producer(name)
        quantize = dequantize and view.producer(dequantize.input[0])
        if quantize is not None:
            values, scale = (view.initializers[each] for each in quantize.input[:2])
            steps = numpy_helper.to_array(scale)
            codes = np.rint(numpy_helper.to_array(values) / steps.reshape(-1, 1, 1, 1))
            _multiply(scale, np.maximum(1, _largest_pairs(codes) / np.float32(_LARGEST_PAIR)))
    changed: bytes = proto.SerializeToString()
    return changed


def _largest_pairs(codes: NDArray[np.float32]) -> NDArray[np.float32]:
    """``float [output channels]``: the largest sum of two weights of one sign that are multiplied together.

    Those are neighbours along the input channels, or along the whole filter where a runtime lays its windows out so.
    """
    flat = codes.reshape(len(codes), -1, 1)
    largest = np.zeros(len(codes), np.float32)
    for rows in (codes.reshape(*codes.shape[:2], -1), flat):
        odd = np.concatenate([rows[:, 1::2], np.zeros_like(rows[:, : rows.shape[1] % 2])], axis=1)
        even = rows[:, 0::2]
        sums = np.where(even * odd >= 0, np.abs(even + odd), np.maximum(np.abs(even), np.abs(odd)))
        largest = np.maximum(largest, sums.reshape(len(codes), -1).max(axis=1))
    return largest


def _is_unsigned(zero: onnx.TensorProto) -> bool:
    return zero.data_type == onnx.TensorProto.UINT8 and int(numpy_helper.to_array(zero)) == 0


def _multiply(tensor: onnx.TensorProto, factor: NDArray[np.float32] | np.float32) -> None:
    values = (numpy_helper.to_array(tensor) * factor).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

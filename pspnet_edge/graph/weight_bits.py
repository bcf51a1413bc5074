"""INT8 graphs as x86 processors without VNNI compute them exactly: with weights of seven bits."""

from __future__ import annotations

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from .quantize import INT8_MAX
from .view import GraphView

_SEVEN_BIT_MAX = 63


def with_seven_bit_weights(content: bytes) -> bytes:
    """An INT8 graph, serialized, whose weights have 63 steps each way instead of 127.

    255 · 63 twice fits into int16, 255 · 127 twice does not; see ``processor.int8_sums_fit``. NNCF and ONNX Runtime's
    quantizer have the same remedy, as ``overflow_fix`` and ``reduce_range``.
    """
    try:
        proto = onnx.load_model_from_string(content)
    except DecodeError:
        return content  # the runtime says better what is wrong with it
    view = GraphView(proto)
    for node in view.of_kind("QuantizeLinear"):
        if node.attribute:  # weights, which are quantized along an axis
            scale = view.initializers[node.input[1]]
            coarser = numpy_helper.to_array(scale) * np.float32(INT8_MAX / _SEVEN_BIT_MAX)
            scale.CopyFrom(numpy_helper.from_array(coarser.astype(np.float32), scale.name))
    changed: bytes = proto.SerializeToString()
    return changed

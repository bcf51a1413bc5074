"""FP32 → FP16 graphs."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, numpy_helper

from ..errors import BuildError
from .onnx_file import ModelFile
from .view import GraphView

PRECISIONS = ("fp32", "fp16", "int8")
TO_SCORES = "scores_logits"
"""Name of the Cast from which on scores are FP32 in every precision."""
_LARGEST = float(np.finfo(np.float16).max)


def fp16_model(model: ModelFile) -> ModelFile:
    """Compute in FP16 from the first cast to the last: weights, activations and constants.

    Resize keeps its FP32 scales, which ONNX demands. The uint8 ends are untouched: the entering Cast now goes to FP16.

    Raises:
        BuildError: a weight is too large for FP16.
    """
    proto = model.copy_proto()
    resize_inputs = {name for node in GraphView(proto).of_kind("Resize") for name in node.input[1:]}
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in resize_inputs:
            values = numpy_helper.to_array(tensor)
            if np.abs(values).max(initial=0) > _LARGEST:
                raise BuildError(f"{tensor.name} holds values that FP16 cannot: build with --precision fp32")
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))
    for node in proto.graph.node:
        if node.name == TO_SCORES:
            continue
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
            if node.op_type == "Constant" and attribute.t.data_type == TensorProto.FLOAT:
                values = numpy_helper.to_array(attribute.t).astype(np.float16)
                attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))
    return model.with_proto(proto)

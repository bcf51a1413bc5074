"""Networks as another program exports them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def theirs(classes: int = 11, stride: int = 1, *, side: int = 64, pooled: bool = False) -> onnx.ModelProto:
    """One convolution of a square picture to scores: of each pixel, of every ``stride``-th, or of the whole picture."""
    weights = np.random.default_rng(0).normal(size=(classes, 3, 1, 1)).astype("f4")
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], "conv", strides=[stride, stride])]
    shape = [1, classes, side // stride, side // stride]
    if pooled:
        nodes += [
            helper.make_node("GlobalAveragePool", ["c"], ["p"], "pool"),
            helper.make_node("Flatten", ["p"], ["y"]),
        ]
        shape = [1, classes]
    else:
        nodes.append(helper.make_node("Relu", ["c"], ["y"], "relu"))
    graph = helper.make_graph(
        nodes,
        "theirs",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

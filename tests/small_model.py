"""A network so small that it is calibrated, gated, built and run in milliseconds."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper, shape_inference

from pspnet_edge.graph.onnx_file import ModelFile, model_file
from pspnet_edge.labels import CAMVID

SIZE_HW = (16, 24)


def small_model(seed: int = 0, batch: int = 1) -> ModelFile:
    """Three convolutions of one pixel each."""
    rng = np.random.default_rng(seed)
    widths = (3, 4, 5, len(CAMVID))
    nodes = [
        helper.make_node("Cast", ["frames"], ["wide"], "wide", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["wide"], ["x0"], "x0", perm=[0, 3, 1, 2]),
    ]
    weights = []
    for i in range(3):
        weights.append(numpy_helper.from_array(rng.normal(size=(widths[i + 1], widths[i], 1, 1)).astype("f4"), f"w{i}"))
        nodes.append(helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"y{i}"], f"conv_{i}"))
        nodes.append(helper.make_node("Relu", [f"y{i}"], [f"x{i + 1}"], f"relu_{i}"))
    nodes.append(helper.make_node("ArgMax", ["x3"], ["ids"], "ids", axis=1, keepdims=0))
    nodes.append(helper.make_node("Cast", ["ids"], ["masks"], "masks", to=TensorProto.UINT8))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, [batch, *SIZE_HW, 3])],
        [helper.make_tensor_value_info("masks", TensorProto.UINT8, [batch, *SIZE_HW])],
        weights,
    )
    opset = [helper.make_opsetid("", 17)]
    made = shape_inference.infer_shapes(helper.make_model(graph, opset_imports=opset, ir_version=8))
    return model_file(made, "small", CAMVID, {})

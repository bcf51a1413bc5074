"""How sure a network is: a second output beside the mask."""

from __future__ import annotations

from onnx import TensorProto, helper

from ..errors import BuildError
from .onnx_file import ModelFile
from .precision import TO_SCORES
from .tail import find_tail


def with_scores(model: ModelFile) -> tuple[ModelFile, tuple[int, int]]:
    """Add the output ``scores``, and return its height and width too.

    It is ``float32 [N, h, w]`` at the size of the logits: the softmax probability of the most likely class, 0–1. The
    mask is computed as before.

    Raises:
        BuildError: the graph does not end in logits, a linear Resize and ArgMax.
    """
    found = find_tail(model)
    if found is None:
        raise BuildError("the graph does not end in a linear Resize and ArgMax of logits", "build without scores")
    batch, _, height, width = found.shape_nchw
    proto = model.copy_proto()
    nodes = [
        helper.make_node("Cast", [found.logits], [TO_SCORES], TO_SCORES, to=TensorProto.FLOAT),
        helper.make_node("Softmax", [TO_SCORES], ["scores_all"], "scores_all", axis=1),
        helper.make_node("ReduceMax", ["scores_all"], ["scores"], "scores", axes=[1], keepdims=0),
    ]
    proto.graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, (batch, height, width)))
    return model.with_nodes(proto, [*proto.graph.node, *nodes]), (height, width)

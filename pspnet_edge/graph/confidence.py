"""Class ``unknown`` (255) where the winning class is not probable enough, decided inside the graph."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..errors import ModelError, OptionError
from ..labels import IGNORE
from .onnx_file import ModelFile
from .view import GraphView, attribute

FACT = "min_confidence"
"""Its key in the facts of a model file and in sidecars."""


def ensure_probability(value: float) -> None:
    """Raise ``OptionError`` unless a limit lies between 0 and 1."""
    if not 0 < value < 1:
        raise OptionError(f"{value} is not a probability", "give one between 0 and 1", parameter=FACT)


def with_min_confidence(model: ModelFile, probability: float) -> ModelFile:
    """Give 255 to pixels whose winning softmax probability is below a limit.

    Args:
        model: in any precision; it ends in ArgMax over the scores of at least two classes.
        probability: the limit, between 0 and 1.

    Raises:
        OptionError: it is not a probability.
        ModelError: the graph does not end so, or has a limit already.
    """
    ensure_probability(probability)
    if FACT in model.facts:
        raise ModelError(
            f"the model has a confidence limit of {model.facts[FACT]} already", "leave out --min-confidence"
        )
    view = GraphView(model.proto)
    last = view.producer(model.proto.graph.output[0].name)
    argmax = None if last is None or last.op_type != "Cast" else view.producer(last.input[0])
    if last is None or argmax is None or argmax.op_type != "ArgMax" or attribute(argmax, "axis", 0) != 1:
        raise ModelError(
            "the model does not end in the scores of its classes, which a confidence is computed from",
            "leave out --min-confidence",
        )
    scores, ids = argmax.input[0], argmax.output[0]
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in view.nodes if node.name != last.name]
    probabilities = scores
    if not _are_probabilities(view, scores):
        nodes.append(helper.make_node("Softmax", [scores], ["confidence.softmax"], "confidence.softmax", axis=1))
        probabilities = "confidence.softmax"
    largest, unsure, decided = "confidence.largest", "confidence.unsure", "confidence.ids"
    nodes += [
        helper.make_node(
            "ReduceMax", [probabilities], [largest], largest, axes=[1], keepdims=attribute(argmax, "keepdims", 1)
        ),
        helper.make_node("Less", [largest, "confidence.limit"], [unsure], unsure),
        helper.make_node("Where", [unsure, "confidence.unknown", ids], [decided], decided),
        helper.make_node("Cast", [decided], last.output, last.name, to=TensorProto.UINT8),
    ]
    kind = helper.tensor_dtype_to_np_dtype(view.dtype(scores) or TensorProto.FLOAT)
    constants = [
        numpy_helper.from_array(np.array(probability, kind), "confidence.limit"),
        numpy_helper.from_array(np.array(IGNORE, np.int64), "confidence.unknown"),
    ]
    facts = model.facts | {FACT: probability}
    limited = ModelFile(model.proto, model.preset, model.label_set, facts)
    return limited.with_nodes(model.copy_proto(), nodes, constants)


def _are_probabilities(view: GraphView, tensor: str) -> bool:
    """Whether scores come from a Softmax, perhaps resized since."""
    maker = view.producer(tensor)
    if maker is None:
        return False
    if maker.op_type in ("Resize", "Transpose"):
        return _are_probabilities(view, maker.input[0])
    return bool(maker.op_type == "Softmax")

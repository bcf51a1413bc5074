"""How the output of another program's network is to be read: the order of its axes, and the range of its scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx

from ..errors import ModelError
from .foreign import ForeignGraph
from .view import GraphView, attribute

Range = tuple[float, float]
_RANGES: dict[str, Range] = {
    **dict.fromkeys(("Sigmoid", "HardSigmoid", "Softmax"), (0.0, 1.0)),
    **dict.fromkeys(("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "And", "Or", "Not"), (0.0, 1.0)),
    "Tanh": (-1.0, 1.0),
}
_KEEP_RANGE = (
    "Cast", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Transpose", "Identity", "Slice", "Gather", "Split", "Resize",
    "Expand", "AveragePool", "MaxPool", "ReduceMax", "ReduceMean", "ReduceMin", "Round", "DepthToSpace",
)  # fmt: skip
"""Operators whose outputs lie where their first input does. (A cubic Resize overshoots a little.)"""
_STRIDES = (1, 2, 4, 8, 16, 32)


def score_range(view: GraphView, name: str) -> Range | None:
    """Between which values a score lies by how it is computed, as far as that is bounded; None for a logit."""
    maker = view.producer(name)
    if maker is None:
        return None
    if maker.op_type in _RANGES:
        return _RANGES[maker.op_type]
    if maker.op_type in _KEEP_RANGE:
        return score_range(view, maker.input[0])
    if maker.op_type == "Clip":
        return _clipped(view, maker)
    if maker.op_type in ("Mul", "Div", "Add", "Sub", "Neg"):
        return _moved(view, maker)
    return None


def _clipped(view: GraphView, node: onnx.NodeProto) -> Range | None:
    inner = score_range(view, node.input[0])
    numbers = [_number(view, name) for name in (*node.input[1:3], "", "")]
    low, high = (-math.inf if numbers[0] is None else numbers[0]), (math.inf if numbers[1] is None else numbers[1])
    if inner is None:
        # Of what else is cut, such as by ReLU6, the middle says nothing.
        return (0.0, 1.0) if (low, high) == (0.0, 1.0) else None
    low, high = max(low, inner[0]), min(high, inner[1])
    return (low, high) if low < high else inner


def _moved(view: GraphView, node: onnx.NodeProto) -> Range | None:
    """Of a sum or product with a constant."""
    if node.op_type == "Neg":
        inner = score_range(view, node.input[0])
        return None if inner is None else (-inner[1], -inner[0])
    first, second = (_number(view, name) for name in node.input[:2])
    if (first is None) == (second is None):
        return None
    number = first if second is None else second
    inner = score_range(view, node.input[1 if second is None else 0])
    if inner is None or number is None or (node.op_type == "Div" and (second is None or not number)):
        return None
    ends = {
        "Mul": [end * number for end in inner],
        "Div": [end / number if number else 0 for end in inner],
        "Add": [end + number for end in inner],
        "Sub": [end - number if second is not None else number - end for end in inner],
    }[node.op_type]
    return (min(ends), max(ends)) if min(ends) < max(ends) else None


def _number(view: GraphView, name: str) -> float | None:
    values = view.constant(name) if name else None
    return float(values.flat[0]) if values is not None and values.size and np.ptp(values) == 0 else None


def ensure_each_pixel(source: ForeignGraph) -> None:
    """Raise where an output is one for the whole picture, as that of a classifier is.

    Raises:
        ModelError: it has no height and width, or these are 1.
    """
    shape = list(GraphView(source.proto).shape(source.output))
    sides = [size for size in (shape[1:] if shape[:1] == [source.shape[0]] else shape) if size != 1]
    if len(sides) < 2 and not any(isinstance(size, int) and map_of(source, size) for size in sides):
        raise ModelError(
            f"the output {source.output} has shape {shape}: it is of the whole picture, as that of an image "
            "classifier, not of each pixel",
            "give a segmentation network, or choose another output with --output-name",
        )


def four_axes(source: ForeignGraph, shape: Sequence[int]) -> list[int] | None:
    """The shape of scores with all its axes, where those of a single picture, class or column are missing or flat.

    Keras networks often give ``[N, H * W, classes]``. None where it is not that of scores for each pixel.
    """
    batch, sizes = source.shape[0], list(shape)
    if len(sizes) == 4:
        return sizes if sizes[0] == batch else None
    if len(sizes) == 2 and batch == 1:
        return four_axes(source, [1, *sizes])
    if len(sizes) != 3:
        return None
    mapped = like_the_frame(source, *sizes[1:])
    if batch == 1 and (mapped or like_the_frame(source, *sizes[:2])):
        return [1, *sizes]
    if sizes[0] != batch:
        return None
    if mapped:
        return [batch, 1, *sizes[1:]]
    for place in (1, 2):
        found = map_of(source, sizes[place])
        if found is not None:
            return [batch, *found, sizes[2]] if place == 1 else [batch, sizes[1], *found]
    return None


def map_of(source: ForeignGraph, pixels: int) -> tuple[int, int] | None:
    """Height and width of a flat map: the picture's own, or at one of the usual strides."""
    _, height, width, _ = source.shape
    for stride in _STRIDES:
        for rounded in (math.ceil, math.floor):
            sides = rounded(height / stride), rounded(width / stride)
            if min(sides) > 1 and math.prod(sides) == pixels:
                return sides
    return None


def map_sides(source: ForeignGraph, shape: Sequence[int]) -> tuple[int, int]:
    """Height and width of a map of class ids, whose axes of a single class may be anywhere; (0, 0) for none."""
    sizes = [size for size in shape if size != 1] if len(shape) > 3 else list(shape[-2:])
    if len(sizes) >= 2 and like_the_frame(source, *sizes[-2:]):
        return sizes[-2], sizes[-1]
    return map_of(source, math.prod(shape) // source.shape[0]) or (0, 0)


def channels_last(source: ForeignGraph, shape: Sequence[int]) -> bool:
    """Whether height and width of a map are its axes 1 and 2, which is where they have the frame's proportions."""
    first, last = like_the_frame(source, *shape[2:]), like_the_frame(source, *shape[1:3])
    return last and (not first or not source.channels_first)


def like_the_frame(source: ForeignGraph, height: int, width: int) -> bool:
    """Whether a map has the proportions of the picture, as far as whole pixels allow."""
    own_height, own_width = source.shape[1:3]
    return abs(height * own_width - width * own_height) <= max(own_width, own_height)


def nearest_resize(node: onnx.NodeProto) -> bool:
    """Whether a node repeats or leaves out pixels, so that class ids stay class ids."""
    return node.op_type == "Resize" and attribute(node, "mode", "nearest") == "nearest"

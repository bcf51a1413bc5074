"""Nodes before and behind a network of another program, which give it our input and output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ..errors import ModelError, OptionError
from ..labels import LabelSet
from .adapt_output import Range, channels_last, four_axes, map_sides, nearest_resize, score_range
from .described import Colour
from .foreign import ForeignGraph
from .naming import name_by_place, unshare_weights
from .onnx_file import ModelFile, model_file
from .view import GraphView, attribute, copy_of, needed_nodes

SAME_VALUES = ("Cast", "Squeeze", "Unsqueeze", "Reshape", "Transpose", "Identity")
_INTEGERS = (TensorProto.INT64, TensorProto.INT32, TensorProto.UINT8, TensorProto.INT8, TensorProto.BOOL)


class Editor:
    """Puts nodes before and behind a foreign graph."""

    def __init__(self, source: ForeignGraph) -> None:
        self.source = source
        self.kind = "scores"
        self.upsampled = 1.0
        self.arranged: list[int] = []
        """The shape of the output with all its axes."""
        self.turned = False
        """Whether its channels come last."""
        self.bounds: Range | None = None
        """Between which values one score lies; None for a logit."""
        self.level = 0.0
        """Above which it is the object."""
        self.proto = copy_of(source.proto)
        self.batch, self.height, self.width, self.channels = source.shape
        self._view = GraphView(source.proto)
        self._before: list[onnx.NodeProto] = []
        self._after: list[onnx.NodeProto] = []
        self._count = 0

    def prepend_frame(self, mean: tuple[float, ...], std: tuple[float, ...], factor: float, colour: Colour) -> None:
        """uint8 BGR frames ``[N, H, W, C]`` → what the network takes."""
        turned = colour == "rgb" and self.channels >= 3
        folded = turned and self._flip_stem()
        # Normalization before the change of order is in the order of the frame.
        order = bgr(range(self.channels)) if turned else list(range(self.channels))
        first = self.source.channels_first
        axes = (1, self.channels, 1, 1) if first else (1, 1, 1, self.channels)
        x = self._add("Cast", ["frames"], self._before, to=TensorProto.FLOAT)
        if first:
            x = self._add("Transpose", [x], self._before, perm=[0, 3, 1, 2])
        for kind, values in (("Sub", mean), ("Div", std)):
            scaled = np.array([values[place] / factor for place in order], np.float32)
            if not np.isfinite(scaled).all() or (kind == "Div" and not scaled.all()):
                raise OptionError("mean, std and scale are out of range", "give those of the network's training")
            if kind == "Sub" and not scaled.any():
                continue
            stored = scaled[:1].reshape(1, 1, 1, 1) if len(set(scaled.tolist())) == 1 else scaled.reshape(axes)
            x = self._add(kind, [x, self._constant(stored)], self._before)
        if turned and not folded:
            index = self._constant(np.array(order, np.int64))
            x = self._add("Gather", [x, index], self._before, axis=1 if first else 3)
        for node in self.proto.graph.node:
            node.input[:] = [x if name == self.source.input else name for name in node.input]

    def append_mask(self, threshold: float, named: int) -> int | None:
        """The network's output → uint8 masks ``[N, H, W]``; returns how many classes are scored, None if unknown.

        Args:
            threshold: for one score.
            named: how many classes the user names.
        """
        shape, name = list(self._view.shape(self.source.output)), self.source.output
        if any(not isinstance(side, int) or side < 1 for side in shape):
            raise ModelError(f"the output {name} has shape {shape}", "export the network with a fixed input size")
        if self._holds_ids(name):
            self.kind = "class ids"
            found = self._scores_behind(name)
            if found is not None:
                return self._append_argmax(*found)
            self._append_ids(name, shape, named)
            argmax = self._origin(name)
            return self._view.shape(argmax.input[0])[attribute(argmax, "axis", 0)] if _is(argmax, "ArgMax") else None
        if _is(self._origin(name), "ReduceMax"):
            raise ModelError(
                f"the output {name} is the largest score of each pixel, which does not say of which class",
                "choose the output of the class ids or of all scores with --output-name",
            )
        whole = four_axes(self.source, shape)
        if whole is None:
            raise ModelError(
                f"the output {name} has shape {shape}, not that of scores [N, classes, H, W]", "choose another output"
            )
        name, shape, self.arranged = name if whole == shape else self._reshape(name, whole), whole, whole
        if channels_last(self.source, shape):
            name, self.turned = self._add("Transpose", [name], self._after, perm=[0, 3, 1, 2]), True
            shape = [shape[0], shape[3], *shape[1:3]]
        _, scores, height, width = shape
        self.upsampled = math.sqrt(self.height * self.width / (height * width))
        same = (height, width) == (self.height, self.width)
        maker = self._view.producer(self.source.output)
        if scores == 1:
            self.kind = "one score"
            name = name if same else self._resize(name, [self.batch, 1, self.height, self.width], "linear")
            self.bounds = score_range(self._view, self.source.output)
            self.level = _level(threshold, self.bounds)
            flat = self._reshape(name, [self.batch, self.height, self.width])
            above = self._add("Greater", [flat, self._constant(np.float32(self.level))], self._after)
            self._add("Cast", [above], self._after, output="masks", to=TensorProto.UINT8)
            return 2
        if (
            same
            and maker is not None
            and maker.op_type in ("Softmax", "LogSoftmax", "Sigmoid")
            and name == self.source.output
        ):
            name = maker.input[0]  # the largest stays the largest
        if not same:
            name = self._resize(name, [self.batch, scores, self.height, self.width], "linear")
        return self._append_argmax(name, scores)

    def finish(self, name: str, label_set: LabelSet, facts: dict[str, object]) -> ModelFile:
        """The whole graph, under our names."""
        nodes = [*self._before, *self.proto.graph.node, *self._after]
        kept = needed_nodes(nodes, ["masks"])
        read = {name for node in kept for name in node.input}
        graph = helper.make_graph(
            list(map(copy_of, kept)),
            "adapted",
            [helper.make_tensor_value_info("frames", TensorProto.UINT8, self.source.shape)],
            [helper.make_tensor_value_info("masks", TensorProto.UINT8, self.source.shape[:3])],
            [tensor for tensor in self.proto.graph.initializer if tensor.name in read],
        )
        proto = helper.make_model(graph, opset_imports=self.proto.opset_import, ir_version=8)
        proto.producer_name = "pspnet-edge"
        _use_half_pixel(proto)
        unshare_weights(proto.graph)
        name_by_place(proto.graph)
        return model_file(onnx.shape_inference.infer_shapes(proto), name[:200], label_set, {"adapted": facts})

    def _append_argmax(self, name: str, scores: int) -> int:
        ids = self._add("ArgMax", [name], self._after, axis=1, keepdims=0)
        self._add("Cast", [ids], self._after, output="masks", to=TensorProto.UINT8)
        return scores

    def _scores_behind(self, name: str) -> tuple[str, int] | None:
        """The full-size scores that class ids are the ArgMax of, and how many; None where they are not."""
        maker = self._origin(name)
        if maker is None or maker.op_type != "ArgMax" or attribute(maker, "axis", 0) != 1:
            return None
        shape = self._view.shape(maker.input[0])
        full = (self.batch, self.height, self.width)
        if len(shape) != 4 or (shape[0], *shape[2:]) != full or attribute(maker, "select_last_index", 0):
            return None
        return maker.input[0], shape[1]

    def _origin(self, name: str) -> onnx.NodeProto | None:
        """What computes a tensor, but for its type and the place of its axes."""
        maker = self._view.producer(name)
        while _is(maker, *SAME_VALUES):
            maker = self._view.producer(maker.input[0])
        return maker

    def _holds_ids(self, name: str) -> bool:
        """Whether an output holds class ids: whole numbers, or such stored as float in one map."""
        shape = self._view.shape(name)
        if self._view.dtype(name) not in _INTEGERS and len(shape) == 4 and shape[1] > 1 and shape[3] > 1:
            return False  # one-hot
        maker = self._view.producer(name)
        while self._view.dtype(name) not in _INTEGERS:
            if maker is None or not (maker.op_type in SAME_VALUES or nearest_resize(maker)):
                return False
            name = maker.input[0]
            maker = self._view.producer(name)
        return True

    def _append_ids(self, name: str, shape: list[int], named: int) -> None:
        height, width = map_sides(self.source, shape)
        if math.prod(shape) != self.batch * height * width:
            raise ModelError(
                f"the output {name} has shape {shape}, not that of class ids [N, H, W]", "choose another output"
            )
        maker = self._view.producer(name)
        if maker is not None and maker.op_type == "Cast" and self._view.dtype(maker.input[0]) in _INTEGERS:
            name = maker.input[0]
        x = self._add("Cast", [name], self._after, to=TensorProto.FLOAT)
        self.upsampled = math.sqrt(self.height * self.width / (height * width))
        if (height, width) != (self.height, self.width):
            x = self._reshape(x, [self.batch, 1, height, width])
            x = self._resize(x, [self.batch, 1, self.height, self.width], "nearest")
        x = self._reshape(x, [self.batch, self.height, self.width])
        if named <= 2:  # the object may be 1, or 255 as in pictures of masks
            x = self._add("Greater", [x, self._constant(np.float32(0))], self._after)
        self._add("Cast", [x], self._after, output="masks", to=TensorProto.UINT8)

    def _flip_stem(self) -> bool:
        """Turn the colours in the weights of the convolutions that read the picture, if nothing else does."""
        readers = self._view.readers(self.source.input)
        tensors = [self._view.initializers.get(node.input[1]) for node in readers if node.op_type == "Conv"]
        plain = [attribute(node, "group", 1) == 1 for node in readers]
        own = [
            tensor is not None and tensor.dims[1] == self.channels and len(self._view.readers(tensor.name)) == 1
            for tensor in tensors
        ]
        if not readers or len(tensors) < len(readers) or not all(plain) or not all(own):
            return False
        wanted = {tensor.name for tensor in tensors if tensor is not None}
        for tensor in self.proto.graph.initializer:
            if tensor.name in wanted:
                values = numpy_helper.to_array(tensor)[:, bgr(range(self.channels))]
                tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))
        return True

    def _resize(self, name: str, shape: list[int], mode: str) -> str:
        sizes = self._constant(np.array(shape, np.int64))
        transform = "half_pixel" if mode == "linear" else "asymmetric"
        attributes = {} if mode == "linear" else {"nearest_mode": "floor"}
        return self._add(
            "Resize",
            [name, "", "", sizes],
            self._after,
            mode=mode,
            coordinate_transformation_mode=transform,
            **attributes,
        )

    def _reshape(self, name: str, shape: list[int]) -> str:
        return self._add("Reshape", [name, self._constant(np.array(shape, np.int64))], self._after)

    def _constant(self, values: NDArray[Any] | np.generic) -> str:
        self._count += 1
        name = f"pspnet_edge/constant_{self._count}"
        self.proto.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def _add(
        self, kind: str, inputs: list[str], nodes: list[onnx.NodeProto], output: str = "", **attributes: Any
    ) -> str:
        self._count += 1
        name = output or f"pspnet_edge/{kind.lower()}_{self._count}"
        nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name


def bgr(channels: Sequence[int]) -> list[int]:
    """The first three channels turned round; a fourth stays."""
    return [*channels[2::-1], *channels[3:]]


def _use_half_pixel(proto: onnx.ModelProto) -> None:
    """Rename ``pytorch_half_pixel``, which is the same but for outputs of a single pixel, and which fewer know."""
    view = GraphView(onnx.shape_inference.infer_shapes(proto, data_prop=True))
    for node in proto.graph.node:
        several = min(view.shape(node.output[0])[2:], default=0) > 1 if node.op_type == "Resize" else False
        for entry in node.attribute:
            if several and entry.name == "coordinate_transformation_mode" and entry.s == b"pytorch_half_pixel":
                entry.s = b"half_pixel"


def _is(node: onnx.NodeProto | None, *kinds: str) -> TypeGuard[onnx.NodeProto]:
    return node is not None and node.op_type in kinds


def _level(threshold: float, bounds: Range | None) -> float:
    """What a score has to exceed: the logit of the threshold, or the threshold's place between the score's bounds."""
    if bounds is None:
        return math.log(threshold / (1 - threshold))
    return bounds[0] + threshold * (bounds[1] - bounds[0])

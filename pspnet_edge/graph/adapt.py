"""A segmentation network of another program gets our contract: uint8 frame in, uint8 mask out."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ..artifact import ensure_writable, sha256_of
from ..errors import ModelError, OptionError
from ..labels import LabelSet, bright_palette
from ..lazy import available
from ..sidecar import write_sidecar
from .adapt_output import Range, channels_last, four_axes, map_sides, nearest_resize, score_range
from .described import GREY_LEVELS, PROCESSOR_FILE, Colour, Described, Preprocessing
from .foreign import ForeignGraph, read_foreign
from .naming import name_by_place, unshare_weights
from .onnx_file import ModelFile, model_file, write_model
from .quantize import convolution_macs
from .reference import ReferenceSession
from .view import GraphView, attribute

_LARGEST_FACTOR = 10.0
"""No network wants pixels times more than this."""
_NORMALIZING = ("Sub", "Add", "Div", "Mul")
_SAME_VALUES = ("Cast", "Squeeze", "Unsqueeze", "Reshape", "Transpose", "Identity")
_INTEGERS = (TensorProto.INT64, TensorProto.INT32, TensorProto.UINT8, TensorProto.INT8, TensorProto.BOOL)


@dataclass(frozen=True)
class Adapted:
    """What ``adapt`` made."""

    path: Path
    shape_nhw: tuple[int, int, int]
    channels: int
    label_set: LabelSet
    output: str
    """The output of the original that was taken."""
    kind: str
    """What it is: ``scores``, ``one score`` or ``class ids``."""
    upsampled: float
    """How much larger the mask is than that output."""
    opset: int
    """Of the original."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float
    colour: str
    threshold: float | None
    gmac: float
    agreement: float | None
    """Share of the pixels of a test picture with the mask that the original gives; None without ONNX Runtime."""
    remarks: tuple[str, ...] = ()
    """What was seen in the graph and decided the preprocessing, or contradicts what was given."""

    def to_dict(self) -> dict[str, object]:
        """As JSON values."""
        facts = asdict(self)
        return facts | {"model": str(facts.pop("path")), "label_set": self.label_set.facts()}


def adapt(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str] | None,
    classes: Sequence[str] | LabelSet | int | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    size_hw: tuple[int, int] | None = None,
    threshold: float = 0.5,
    output_name: str | None = None,
    layout: str = "auto",
) -> Adapted:
    """Write another program's network as a model of this package.

    >>> import pspnet_edge
    >>> try:
    ...     adapted = pspnet_edge.adapt("segformer.onnx", "road.onnx", ["road", "car", "sky"])
    ...     print(adapted.path, adapted.agreement)
    ... except pspnet_edge.ModelError as error:
    ...     print(error.problem)
    there is no model segformer.onnx

    Args:
        model: an ONNX file of a float network, ``[N, C, H, W]`` or ``[N, H, W, C]``, whose output are scores of the
            classes (logits or probabilities) at any stride, one score, or class ids.
        output: where the model goes; None is its name with ``.adapted.onnx``.
        classes: names in the order of the scores, or how many there are; None are those that the file
            (Ultralytics) or config.json beside it (transformers) names.
        preprocessing: what the network wants done to a picture; None is what preprocessor_config.json beside it says,
            else pixels of 0 to 1.
        size_hw: height and width where the network takes any.
        threshold: of the probability, for networks of one score.
        output_name: which output is the segmentation, where there are several.
        layout: of the input: ``auto``, ``nchw`` or ``nhwc``.

    Raises:
        ModelError: the file is not such a network.
        OptionError: the arguments do not fit the network.
    """
    if not 0 < threshold < 1:
        raise OptionError(f"{threshold} is not a probability", "give one between 0 and 1", parameter="threshold")
    model = Path(model)
    output = model.with_suffix(".adapted.onnx") if output is None else Path(output)
    ensure_writable(output, sidecar=True)
    source = read_foreign(model, size_hw=size_hw, output=output_name, layout=layout)
    classes, remarks = _classes_of(classes, source.described)
    wanted, seen = _preprocessing_of(preprocessing, source)
    remarks += seen
    mean, std = _per_channel(wanted, source.shape[3])
    editor = _Editor(source)
    editor.prepend_frame(mean, std, wanted.factor, wanted.colour)
    scores = editor.append_mask(threshold, classes if isinstance(classes, int) else len(classes))
    label_set = _label_set(classes, scores, editor.kind)
    facts = {
        "mean": mean,
        "std": std,
        "scale": wanted.factor,
        "colour": wanted.colour,
        "threshold": threshold if editor.kind == "one score" else None,
    }
    adapted = editor.finish(model.stem, label_set, facts | {"source": model.name})
    agreement, compared = _agreement(editor, adapted, mean, std, wanted)
    result = Adapted(
        path=output,
        shape_nhw=adapted.shape_nhw,
        channels=adapted.channels,
        label_set=label_set,
        output=source.output,
        kind=editor.kind,
        upsampled=editor.upsampled,
        opset=source.opset,
        gmac=round(sum(convolution_macs(adapted.proto).values()) / adapted.shape_nhw[0] / 1e9, 4),
        agreement=agreement,
        remarks=(*remarks, *_said_of(editor, threshold), *compared),
        **facts,  # type: ignore[arg-type]
    )
    write_model(output, adapted)
    sidecar = {key: value for key, value in result.to_dict().items() if key != "model"}
    write_sidecar(
        output,
        "model",
        {
            "network": model.stem,
            "input_hw": list(adapted.shape_nhw[1:]),
            "batch": adapted.shape_nhw[0],
            "adapted_from_sha256": sha256_of(model),
            **sidecar,
        },
    )
    return result


class _Editor:
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
        self.proto = onnx.ModelProto()
        self.proto.CopyFrom(source.proto)
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
        order = _bgr(range(self.channels)) if turned else list(range(self.channels))
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
        needed, kept = {"masks"}, []
        for node in reversed(nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input)
        graph = helper.make_graph(
            [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)],
            "adapted",
            [helper.make_tensor_value_info("frames", TensorProto.UINT8, self.source.shape)],
            [helper.make_tensor_value_info("masks", TensorProto.UINT8, self.source.shape[:3])],
            [tensor for tensor in self.proto.graph.initializer if tensor.name in needed],
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
        while _is(maker, *_SAME_VALUES):
            maker = self._view.producer(maker.input[0])
        return maker

    def _holds_ids(self, name: str) -> bool:
        """Whether an output holds class ids: whole numbers, or such stored as float in one map."""
        shape = self._view.shape(name)
        if self._view.dtype(name) not in _INTEGERS and len(shape) == 4 and shape[1] > 1 and shape[3] > 1:
            return False  # one-hot
        maker = self._view.producer(name)
        while self._view.dtype(name) not in _INTEGERS:
            if maker is None or not (maker.op_type in _SAME_VALUES or nearest_resize(maker)):
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
                values = numpy_helper.to_array(tensor)[:, _bgr(range(self.channels))]
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


def _classes_of(
    given: Sequence[str] | LabelSet | int | None, known: Described
) -> tuple[Sequence[str] | LabelSet | int, tuple[str, ...]]:
    """The classes that were given, else those that the network's own files name."""
    if given is not None:
        return given, ()
    if known.classes is None:
        raise OptionError(
            "neither the file nor a config.json beside it names the classes",
            "give a file of their names in the order of the scores, or how many there are",
            parameter="classes",
        )
    return known.classes, (f"its {len(known.classes)} classes are named in {known.classes_from}",)


def _preprocessing_of(given: Preprocessing | None, source: ForeignGraph) -> tuple[Preprocessing, tuple[str, ...]]:
    """The preprocessing that was given, else that of the files beside the network, and what there is to say of it."""
    known = source.described.preprocessing
    if given is not None or known is None:
        return _beside_its_own(given or Preprocessing(), source)
    if source.whole_numbers or _own_normalization(source):
        own, remarks = _beside_its_own(Preprocessing(colour=known.colour), source)
        left_out = f"the network normalizes by itself, so mean, std and scale of {PROCESSOR_FILE} are left out"
        return own, (*remarks, left_out)
    return known, (f"mean, std, scale and order of colours are those of {PROCESSOR_FILE}",)


def _own_normalization(source: ForeignGraph) -> list[tuple[str, float]]:
    """What a graph does with the picture before anything else: its operators, and the largest number of each."""
    view, name, own = GraphView(source.proto), source.input, []
    while len(readers := view.readers(name)) == 1 and readers[0].op_type in (*_NORMALIZING, *_SAME_VALUES, "Gather"):
        node = readers[0]
        if node.op_type in _NORMALIZING:
            constants = [values for tensor in node.input if (values := view.constant(tensor)) is not None]
            if not constants:
                break
            own.append((node.op_type, float(np.abs(constants[0]).max(initial=0))))
        name = node.output[0]
    return own


def _beside_its_own(wanted: Preprocessing, source: ForeignGraph) -> tuple[Preprocessing, tuple[str, ...]]:
    """The preprocessing in front of a graph that may normalize by itself, and what there is to say of it."""
    if wanted.scale is not None and wanted.scale > _LARGEST_FACTOR:
        wanted = replace(wanted, scale=1 / wanted.scale)  # people also write what pixels are divided by, 255
    if source.whole_numbers:
        if wanted.mean != (0.0,) or wanted.std != (1.0,) or wanted.scale not in (None, 1.0):
            raise OptionError(
                "the network takes whole grey levels of 0 to 255, and normalizes by itself",
                "leave out --mean, --std and --scale",
            )
        return replace(wanted, scale=1.0), ("the network takes whole grey levels, so gets those of 0 to 255",)
    own = _own_normalization(source)
    if not own:
        return wanted, ()
    if wanted.mean != (0.0,) or wanted.std != (1.0,):
        return wanted, (
            "the network normalizes by itself before anything else: leave out --mean and --std, unless it was trained "
            "with both",
        )
    greys = any(size > GREY_LEVELS if kind != "Mul" else size < 1 / 50 for kind, size in own)
    if wanted.scale is None and greys:
        return replace(wanted, scale=1.0), ("the network normalizes grey levels of 0 to 255 by itself, so gets them",)
    return wanted, ()


def _bgr(channels: Sequence[int]) -> list[int]:
    """The first three channels turned round; a fourth stays."""
    return [*channels[2::-1], *channels[3:]]


def _per_channel(wanted: Preprocessing, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if wanted.colour not in ("rgb", "bgr"):
        raise OptionError(f"unknown order of colours {wanted.colour!r}", "choose rgb or bgr", parameter="colour")
    if not (math.isfinite(wanted.factor) and wanted.factor > 0):
        raise OptionError(f"{wanted.factor} is not a scale", "give a number above 0, such as 1/255", parameter="scale")
    found = []
    for what, values in (("mean", wanted.mean), ("std", wanted.std)):
        if len(values) not in (1, channels) or not all(math.isfinite(value) for value in values):
            raise OptionError(
                f"{len(values)} numbers for {channels} channels", f"give one or {channels} numbers", parameter=what
            )
        if what == "std" and min(values) <= 0:
            raise OptionError(f"{min(values)} is not a deviation", "give numbers above 0", parameter=what)
        found.append(tuple(values) if len(values) == channels else tuple(values) * channels)
    return found[0], found[1]


def _label_set(classes: Sequence[str] | LabelSet | int, scores: int | None, kind: str) -> LabelSet:
    if isinstance(classes, LabelSet):
        label_set = classes
    else:
        if isinstance(classes, int) and not 1 <= classes <= 254:
            raise OptionError(f"{classes} classes do not fit a mask", "give 1 to 254", parameter="classes")
        names = [f"class {index}" for index in range(classes)] if isinstance(classes, int) else list(classes)
        label_set = LabelSet("adapted", tuple(names), bright_palette(names))
    if kind in ("one score", "class ids") and len(label_set) == 1:
        both = ("background", *label_set.classes)
        label_set = LabelSet(label_set.name, both, ((0, 0, 0), *label_set.palette))
    if scores is not None and len(label_set) != scores:
        raise OptionError(
            f"the network scores {scores} classes and {len(label_set)} were given",
            "name each class once, in the order of the scores",
            parameter="classes",
        )
    return label_set


def _said_of(editor: _Editor, threshold: float) -> tuple[str, ...]:
    """How a single score was understood."""
    if editor.kind != "one score":
        return ()
    low, high = editor.bounds or (0.0, 0.0)
    what = "a logit" if editor.bounds is None else f"a score from {low:g} to {high:g}"
    return (f"it is {what}, and the object where it is above {editor.level:.3g} (--threshold {threshold:g})",)


def _level(threshold: float, bounds: Range | None) -> float:
    """What a score has to exceed: the logit of the threshold, or the threshold's place between the score's bounds."""
    if bounds is None:
        return math.log(threshold / (1 - threshold))
    return bounds[0] + threshold * (bounds[1] - bounds[0])


def _agreement(
    editor: _Editor,
    adapted: ModelFile,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    wanted: Preprocessing,
) -> tuple[float | None, tuple[str, ...]]:
    """How many pixels of a test picture get the class that the original gives them, and what there is to say of it.

    Raises:
        ModelError: they get ids that no class has.
    """
    if not available("onnxruntime"):
        return None, ()
    source = editor.source
    batch, height, width, channels = source.shape
    rows, columns = np.mgrid[0:height, 0:width]
    random = np.random.default_rng(0)
    smooth = [127 + 120 * np.sin(rows / (9 + 4 * c) + columns / (13 + 3 * c)) for c in range(channels)]
    frame = np.stack(smooth, -1) + random.normal(0, 12, (height, width, channels))
    frames = np.repeat(frame.clip(0, 255).astype(np.uint8)[None], batch, axis=0)
    own = frames[..., _bgr(range(channels))] if wanted.colour == "rgb" and channels >= 3 else frames
    x = ((own * wanted.factor - np.array(mean)) / np.array(std)).astype(np.float32)
    x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if source.channels_first else x
    (theirs,) = ReferenceSession(source.proto, "compare with the original").run(x)
    (masks,) = ReferenceSession(adapted.proto, "compare with the original").run(frames)
    if masks.max() >= len(adapted.label_set):
        raise ModelError(
            f"the output {source.output} gives the id {masks.max()}, and {len(adapted.label_set)} classes are named",
            "give every id from 0 on a class, in their order",
        )
    expected = _masks_of(theirs, editor, len(adapted.label_set))
    remarks: tuple[str, ...] = ()
    if editor.kind == "one score" and editor.bounds is None and theirs.min() >= 0 and theirs.max() <= 1:
        remarks = (
            f"the scores of a test picture lie between {theirs.min():.3g} and {theirs.max():.3g}: if they are "
            "probabilities, export the network with a sigmoid as its last operator, or without it",
        )
    return None if expected is None else float((masks == expected).mean()), remarks


def _masks_of(values: NDArray[Any], editor: _Editor, classes: int) -> NDArray[Any] | None:
    """The original's masks by NumPy; None where its output is smaller than the picture."""
    size = (editor.height, editor.width)
    if editor.kind == "class ids":
        height, width = map_sides(editor.source, list(values.shape))
        ids = values.reshape(editor.batch, height, width)
        return None if (height, width) != size else ids > 0 if classes == 2 else ids
    scores: NDArray[Any] = np.reshape(values, editor.arranged)
    if editor.turned:
        scores = np.moveaxis(scores, 3, 1)
    if scores.shape[2:] != size:
        return None
    return scores[:, 0] > editor.level if len(scores[0]) == 1 else np.asarray(scores.argmax(1))

"""A segmentation network of another program gets our contract: uint8 frame in, uint8 mask out."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from onnx import helper

from ..artifact import ensure_writable, sha256_of
from ..errors import ModelError, OptionError
from ..inputs import as_instance, as_number, as_path, as_path_or_none, as_several, as_size, as_text
from ..labels import LabelSet, bright_palette
from ..lazy import available
from ..sidecar import write_sidecar
from .adapt_editor import SAME_VALUES, Editor, bgr
from .adapt_output import ensure_each_pixel, map_sides
from .described import GREY_LEVELS, PROCESSOR_FILE, Described, Preprocessing
from .foreign import ForeignGraph, read_foreign
from .onnx_file import ModelFile, write_model
from .quantize import convolution_macs
from .reference import ReferenceSession
from .view import GraphView

_LARGEST_FACTOR = 10.0
"""No network wants pixels times more than this."""
_COARSEST = 32
"""No backbone of segmentation networks has a larger stride."""
_NORMALIZING = ("Sub", "Add", "Div", "Mul")


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
    output: str | os.PathLike[str] | None = None,
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
    if not 0 < as_number(threshold, "threshold") < 1:
        raise OptionError(f"{threshold} is not a probability", "give one between 0 and 1", parameter="threshold")
    model = as_path(model, "model")
    output = as_path_or_none(output, "output") or model.with_suffix(".adapted.onnx")
    size_hw = None if size_hw is None else as_size(size_hw, "size_hw")
    if preprocessing is not None:
        as_instance(preprocessing, Preprocessing, "preprocessing", "Preprocessing(scale=1.0)")
    if classes is not None and not isinstance(classes, (int, LabelSet)):
        classes = [as_text(name, "classes") for name in as_several(classes, "classes")]
    source = read_foreign(model, size_hw=size_hw, output=output_name, layout=layout)
    ensure_writable(output, sidecar=True, inputs=[model])
    ensure_each_pixel(source)
    classes, remarks = _classes_of(classes, source.described)
    wanted, seen = _preprocessing_of(preprocessing, source)
    remarks += seen
    mean, std = _per_channel(wanted, source.shape[3])
    editor = Editor(source)
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
    while len(readers := view.readers(name)) == 1 and readers[0].op_type in (*_NORMALIZING, *SAME_VALUES, "Gather"):
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


def _said_of(editor: Editor, threshold: float) -> tuple[str, ...]:
    """That the output is coarse, and how a single score was understood."""
    coarse: tuple[str, ...] = ()
    if editor.upsampled > _COARSEST:
        coarse = (
            f"the output is {editor.upsampled:.3g} times smaller than the picture, so its masks are coarse: check that "
            "it is the segmentation, or choose another with --output-name",
        )
    if editor.kind != "one score":
        return coarse
    low, high = editor.bounds or (0.0, 0.0)
    what = "a logit" if editor.bounds is None else f"a score from {low:g} to {high:g}"
    return (
        *coarse,
        f"it is {what}, and the object where it is above {editor.level:.3g} (--threshold {threshold:g})",
    )


def _agreement(
    editor: Editor,
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
    own = frames[..., bgr(range(channels))] if wanted.colour == "rgb" and channels >= 3 else frames
    x = ((own * wanted.factor - np.array(mean)) / np.array(std)).astype(np.float32)
    x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if source.channels_first else x
    theirs = _original_output(source, x)
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
    return float((masks == expected).mean()), remarks


def _original_output(source: ForeignGraph, x: NDArray[np.float32]) -> NDArray[Any]:
    """What the file itself computes; where ONNX Runtime cannot (FP64), what the converted graph does."""
    kind = source.original.graph.input[0].type.tensor_type.elem_type
    try:
        session = ReferenceSession(source.original, "compare with the original", [source.output])
        (values,) = session.run(x.astype(helper.tensor_dtype_to_np_dtype(kind)))
    except ModelError:
        (values,) = ReferenceSession(source.proto, "compare with the original").run(x)
    return values


def _masks_of(values: NDArray[Any], editor: Editor, classes: int) -> NDArray[Any]:
    """The original's masks at the picture's size, without the graph."""
    size = (editor.height, editor.width)
    if editor.kind == "class ids":
        height, width = map_sides(editor.source, list(values.shape))
        ids = values.reshape(editor.batch, height, width)
        ids = ids[:, np.arange(size[0]) * height // size[0]][:, :, np.arange(size[1]) * width // size[1]]
        return ids > 0 if classes == 2 else ids
    scores: NDArray[Any] = np.reshape(values, editor.arranged)
    if editor.turned:
        scores = np.moveaxis(scores, 3, 1)
    if scores.shape[2:] != size:
        maps = scores.reshape(-1, *scores.shape[2:]).astype(np.float32)
        larger = [cv2.resize(each, size[::-1], interpolation=cv2.INTER_LINEAR) for each in maps]
        scores = np.reshape(larger, (*scores.shape[:2], *size))
    return scores[:, 0] > editor.level if len(scores[0]) == 1 else np.asarray(scores.argmax(1))

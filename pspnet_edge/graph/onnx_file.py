"""ONNX files of this package: what is in them, and how they are read, checked and written.

A model file is self-contained. Its metadata carries, as JSON under the key ``pspnet_edge``:

    format_version   of this metadata
    preset           name of the network
    label_set        {"name", "classes", "palette"}
    facts            recipe and measured figures, when there are any
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from ..artifact import write_bytes
from ..built import ONNX_KEY
from ..document import LABEL_SET, Number, Record, Text, check_value, parse_json
from ..errors import ModelError
from ..inputs import check_file
from ..labels import LabelSet
from ..pixels import PixelFormat
from .gate import MOST_BATCH, MOST_FILE_BYTES, MOST_PIXELS, ensure_sound, infer, parse_proto
from .view import copy_of, replace_nodes

_FORMAT_VERSION = 1
CHANNELS = (1, 3, 4)
"""Channels that a frame may have."""
_METADATA = Record(
    {"format_version": Number(whole=True), "preset": Text(200), "label_set": LABEL_SET, "facts": Record({})}
)
_EXPORT_HINT = "make one with `pspnet-edge export CHECKPOINT`"


@dataclass(frozen=True)
class ModelFile:
    """A loaded and checked model: uint8 BGR frames ``[N, H, W, 3]`` in, uint8 masks ``[N, H, W]`` out.

    One-channel and four-channel models take ``[N, H, W, 1]`` and ``[N, H, W, 4]``.
    """

    proto: onnx.ModelProto
    preset: str
    label_set: LabelSet
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def shape_nhw(self) -> tuple[int, int, int]:
        """Frames per batch, height and width in pixels."""
        batch, height, width, _ = _shape(self.proto.graph.input[0])
        return batch, height, width

    @property
    def channels(self) -> int:
        """Channels of a frame: 3 for BGR."""
        return _shape(self.proto.graph.input[0])[3]

    @property
    def pixels(self) -> PixelFormat:
        """How pictures become frames: channels, and the range of deep pictures that it was trained with.

        Raises:
            ModelError: what the model says of it is damaged.
        """
        try:
            stored = self.facts.get("pixels") or {}
            return PixelFormat.from_dict({**stored, "channels": self.channels})
        except (TypeError, ValueError) as error:
            raise ModelError(
                f"the pixel range in the model {self.preset} is damaged ({error}): {_EXPORT_HINT}"
            ) from error

    def copy_proto(self) -> onnx.ModelProto:
        """A graph to edit, to be given to ``with_proto`` or ``with_nodes``."""
        return copy_of(self.proto)

    def with_proto(self, proto: onnx.ModelProto) -> ModelFile:
        """The same model computed by another graph, whose shapes are inferred again and which is checked."""
        changed = ModelFile(infer(proto, "the changed graph"), self.preset, self.label_set, self.facts)
        _attach(changed)
        return changed

    def with_nodes(
        self,
        proto: onnx.ModelProto,
        nodes: Sequence[onnx.NodeProto],
        constants: Sequence[onnx.TensorProto] = (),
    ) -> ModelFile:
        """``with_proto``, after the graph got other nodes; see ``with_nodes`` of this module."""
        return self.with_proto(with_nodes(proto, nodes, constants))


def model_file(graph: onnx.ModelProto, preset: str, label_set: LabelSet, facts: dict[str, object]) -> ModelFile:
    """Attach metadata to a graph and check it.

    Raises:
        ModelError: the graph does not take frames and give masks.
    """
    model = ModelFile(graph, preset, label_set, facts)
    _attach(model)
    ensure_sound(graph, "the exported graph")
    _check(graph, "the exported graph")
    return model


def read_model(path: Path) -> ModelFile:
    """Read a model file.

    Raises:
        ModelError: missing, not ONNX, without this package's metadata, or with another input or output.
    """
    check_file(path, "model", ModelError, "list the bundled ones", "pspnet-edge models", most_bytes=MOST_FILE_BYTES)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror})", "check the disk") from error
    return parse_model(parse_proto(content, str(path)), str(path))


def parse_model(proto: onnx.ModelProto, name: str) -> ModelFile:
    """Check a loaded graph and read its metadata; ``name`` is what errors call it.

    Raises:
        ModelError: without this package's metadata, or not such a graph as this package exports.
    """
    stored = {entry.key: entry.value for entry in proto.metadata_props}
    if ONNX_KEY not in stored:
        raise ModelError(
            f"{name} is an ONNX file from another tool, without class names",
            "wrap it",
            f"pspnet-edge adapt {shlex.quote(name)} --classes FILE",
        )
    try:
        metadata = parse_json(stored[ONNX_KEY])
        check_value(metadata, _METADATA, "it")
    except ValueError as error:
        raise ModelError(f"the metadata in {name} is damaged ({error}): {_EXPORT_HINT}") from error
    if metadata["format_version"] != _FORMAT_VERSION:
        raise ModelError(
            f"{name} has metadata version {metadata['format_version']}, this package reads {_FORMAT_VERSION}: "
            f"{_EXPORT_HINT}"
        )
    try:
        label_set = LabelSet.from_facts(metadata["label_set"])
    except ValueError as error:
        raise ModelError(f"the metadata in {name} is damaged ({error}): {_EXPORT_HINT}") from error
    inferred = ensure_sound(proto, name)
    _check(proto, name)
    return ModelFile(inferred, metadata["preset"], label_set, metadata["facts"])


def write_model(path: Path, model: ModelFile) -> None:
    """Write a model file atomically."""
    write_bytes(path, model.proto.SerializeToString())


def with_nodes(
    graph: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], constants: Sequence[onnx.TensorProto]
) -> onnx.ModelProto:
    """A graph with other nodes: it keeps those of its initializers that they read, and gets ``constants`` beside.

    Shapes have to be inferred again.
    """
    changed = copy_of(graph)
    read = {name for node in nodes for name in node.input} - {tensor.name for tensor in constants}
    kept = [tensor for tensor in graph.graph.initializer if tensor.name in read]
    del changed.graph.initializer[:], changed.graph.value_info[:]
    replace_nodes(changed, nodes)
    changed.graph.initializer.extend([*kept, *constants])
    return changed


def _attach(model: ModelFile) -> None:
    metadata = {
        "format_version": _FORMAT_VERSION,
        "preset": model.preset,
        "label_set": model.label_set.facts(),
        "facts": model.facts,
    }
    onnx.helper.set_model_props(model.proto, {ONNX_KEY: json.dumps(metadata)})


def _check(graph: onnx.ModelProto, name: str) -> None:
    inputs, outputs = graph.graph.input, graph.graph.output
    uint8 = onnx.TensorProto.UINT8
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelError(
            f"{name} has {len(inputs)} inputs and {len(outputs)} outputs, expected one input and one output"
        )
    frames, masks = _shape(inputs[0]), _shape(outputs[0])
    types = (inputs[0].type.tensor_type.elem_type, outputs[0].type.tensor_type.elem_type)
    if types != (uint8, uint8) or len(frames) != 4 or frames[3] not in CHANNELS or frames[:3] != masks or 0 in frames:
        raise ModelError(
            f"{name} maps {frames} to {masks}, expected static uint8 frames [N, H, W, C] of 1, 3 or 4 "
            f"channels to uint8 masks [N, H, W]: {_EXPORT_HINT}"
        )
    if frames[0] > MOST_BATCH or frames[1] * frames[2] > MOST_PIXELS:
        raise ModelError(
            f"{name} takes frames {frames}, more than {MOST_BATCH} or of more than {MOST_PIXELS >> 20} megapixels",
            "export it smaller",
        )


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(dimension.dim_value for dimension in value.type.tensor_type.shape.dim)

"""ONNX graphs of other exporters brought to the one opset that this package works on."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, version_converter

from ..errors import ModelError
from ..records import first_line
from .gate import OPSET
from .view import GraphView, attribute, copy_of, replace_nodes

OLDEST, NEWEST = 9, 23


def opset_of(proto: onnx.ModelProto) -> int:
    """The version of the plain ONNX operators."""
    return next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 0)


def raise_opset(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A graph of an older opset at ours; a newer one is returned as it is, for ``lower_opset``.

    Raises:
        ModelError: it is too old or too new, or has an operator that cannot be converted.
    """
    version = opset_of(proto)
    if not OLDEST <= version <= NEWEST:
        raise ModelError(f"{name} has opset {version}", f"export it with an opset from {OLDEST} to {NEWEST}")
    if version >= OPSET:
        return proto
    try:
        raised = version_converter.convert_version(proto, OPSET)
    except Exception as error:  # the converter is C++ and raises what it likes
        reason = first_line(error)
        raise ModelError(f"{name}: opset {version} cannot be converted ({reason})", "export with opset 17") from error
    # Before opset 11 pixels lay at their corners; the converter leaves the default of later ones.
    for node in raised.graph.node if version < 11 else ():
        if node.op_type == "Resize":
            place = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            node.attribute.extend(helper.make_attribute(*entry) for entry in place.items())
    return raised


def lower_opset(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A graph of a newer opset, its shapes and constants folded, at ours.

    Raises:
        ModelError: an operator that ours does not have.
    """
    if opset_of(proto) <= OPSET:
        return proto
    view = GraphView(proto)
    nodes: list[onnx.NodeProto] = []
    for node in view.nodes:
        change = _CHANGES.get(node.op_type, _reduction if node.op_type.startswith("Reduce") else None)
        changed = change(view, node) if change else None
        nodes += [node] if changed is None else changed
    lowered = copy_of(proto)
    del lowered.graph.value_info[:], lowered.opset_import[:]
    replace_nodes(lowered, nodes)
    lowered.opset_import.append(helper.make_opsetid("", OPSET))
    lowered.ir_version = min(lowered.ir_version, 8)
    for node in lowered.graph.node:
        _drop_defaults(node, name)
    return lowered


def _drop_defaults(node: onnx.NodeProto, name: str) -> None:
    """Remove attributes that came later, where they hold what older operators do."""
    try:
        known = set(onnx.defs.get_schema(node.op_type, OPSET, "").attributes)
    except onnx.defs.SchemaError as error:
        raise ModelError(f"{name} has operator {node.op_type}, which opset {OPSET} lacks", "export with 17") from error
    newer = [entry for entry in node.attribute if entry.name not in known]
    for entry in newer:
        value = helper.get_attribute_value(entry)
        usual = _LATER_DEFAULTS.get((node.op_type, entry.name))
        if value != usual and not (entry.name == "dilations" and set(value) == {1}):
            raise ModelError(f"{name}: {node.op_type} has {entry.name} = {value}", f"export with opset {OPSET}")
        node.attribute.remove(entry)


_LATER_DEFAULTS = {
    ("Resize", "antialias"): 0,
    ("Resize", "keep_aspect_ratio_policy"): b"stretch",
    ("Cast", "saturate"): 1,
    ("Cast", "round_mode"): b"up",
    ("LayerNormalization", "stash_type"): 1,
}


def _reduction(view: GraphView, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    """Axes became an input in opset 18, of ReduceSum in 13."""
    axes = view.constant(node.input[1]) if len(node.input) > 1 and node.input[1] else None
    if node.op_type == "ReduceSum" or axes is None:
        return None
    kept = attribute(node, "keepdims", 1)
    values = [int(axis) for axis in axes.ravel()]
    return [helper.make_node(node.op_type, node.input[:1], node.output, node.name, keepdims=kept, axes=values)]


def _split(view: GraphView, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    """Equal parts need no number of parts."""
    if attribute(node, "num_outputs", 0) == 0:
        return None
    return [helper.make_node("Split", node.input, node.output, node.name, axis=attribute(node, "axis", 0))]


def _gelu(view: GraphView, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """``x / 2 · (1 + erf(x / √2))``, or its tanh form."""
    (x,), (y,), name = node.input, node.output, node.name or node.output[0]

    def constant(value: float, role: str) -> str:
        view.proto.graph.initializer.append(numpy_helper.from_array(np.float32(value), f"{name}.{role}"))
        return f"{name}.{role}"

    def make(kind: str, inputs: list[str], role: str) -> str:
        made.append(helper.make_node(kind, inputs, [f"{name}.{role}"], f"{name}.{role}"))
        return f"{name}.{role}"

    made: list[onnx.NodeProto] = []
    if attribute(node, "approximate", "none") == "tanh":
        cube = make("Mul", [make("Mul", [x, x], "square"), x], "cube")
        bent = make("Add", [x, make("Mul", [cube, constant(0.044715, "share")], "bend")], "bent")
        inner = make("Tanh", [make("Mul", [bent, constant(math.sqrt(2 / math.pi), "scale")], "scaled")], "tanh")
    else:
        inner = make("Erf", [make("Div", [x, constant(math.sqrt(2), "root")], "scaled")], "erf")
    raised = make("Add", [inner, constant(1, "one")], "raised")
    halved = make("Mul", [x, constant(0.5, "half")], "halved")
    return [*made, helper.make_node("Mul", [halved, raised], [y], name)]


def _mish(view: GraphView, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    (x,), (y,), name = node.input, node.output, node.name or node.output[0]
    return [
        helper.make_node("Softplus", [x], [f"{name}.soft"], f"{name}.soft"),
        helper.make_node("Tanh", [f"{name}.soft"], [f"{name}.tanh"], f"{name}.tanh"),
        helper.make_node("Mul", [x, f"{name}.tanh"], [y], name),
    ]


def _group_norm(view: GraphView, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    """Each group is one channel of InstanceNormalization; the factors of opset 18 are of groups, of 21 of channels."""
    x, name, groups = node.input[0], node.name or node.output[0], attribute(node, "num_groups", 1)
    scale, bias = (view.constant(tensor) for tensor in node.input[1:])
    if scale is None or bias is None:
        return None

    def constant(values: NDArray[Any], role: str) -> str:
        view.proto.graph.initializer.append(numpy_helper.from_array(values, f"{name}.{role}"))
        return f"{name}.{role}"

    of_channels = opset_of(view.proto) >= 21
    own = (constant(np.ones(groups, np.float32), "ones"), constant(np.zeros(groups, np.float32), "zeros"))
    steps: list[tuple[str, list[str], dict[str, float]]] = [
        ("Reshape", [x, constant(np.array([0, groups, -1]), "grouped")], {}),
        (
            "InstanceNormalization",
            ["", *(own if of_channels else node.input[1:])],
            {"epsilon": attribute(node, "epsilon", 1e-5)},
        ),
    ]
    if of_channels:
        steps += [
            ("Reshape", ["", constant(np.array([0, len(scale), -1]), "channels")], {}),
            ("Mul", ["", constant(scale[:, None], "scale")], {}),
            ("Add", ["", constant(bias[:, None], "bias")], {}),
        ]
    steps.append(("Reshape", ["", f"{name}.shape"], {}))
    made = [helper.make_node("Shape", [x], [f"{name}.shape"], f"{name}.shape")]
    for place, (kind, inputs, attributes) in enumerate(steps, 1):
        output = node.output[0] if place == len(steps) else f"{name}.{place}"
        inputs = [entry or made[-1].output[0] for entry in inputs]
        made.append(helper.make_node(kind, inputs, [output], f"{name}.{place}", **attributes))
    return made


_CHANGES: dict[str, Callable[[GraphView, onnx.NodeProto], list[onnx.NodeProto] | None]] = {
    "Split": _split,
    "Gelu": _gelu,
    "GroupNormalization": _group_norm,
    "Mish": _mish,
}

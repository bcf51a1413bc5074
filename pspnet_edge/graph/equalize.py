"""Cross-layer equalisation in front of depthwise convolutions: faint channels are stretched over the whole int8 range.

An activation has one scale for all channels, so a channel that never exceeds a tenth of the range gets a tenth of the
codes. Stretching it in the convolution before and shrinking it in the depthwise one after leaves the network as it was,
and costs no precision of weights, because both have a scale a channel. A dense convolution after has none for its
inputs: there, what the activation gains the weights lose (measured: docs/int8.md), so those are left alone.

Source: M. Nagel et al., Data-Free Quantization, ICCV 2019, which takes ReLU6 for ReLU; here its ceiling stays, and is
reached only by values well above those seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

MARGIN = 1.5
"""How far above the largest value seen a channel's own ceiling is put."""
_MOST = 16.0
"""The largest stretch: more would amplify noise, and take weights out of FP16's normal range in layers left there."""


@dataclass(frozen=True)
class Stretch:
    """Two convolutions with nothing between them but one activation function."""

    before: onnx.NodeProto
    tensor: str
    """What the depthwise convolution reads."""
    after: onnx.NodeProto
    ceiling: float | None
    """Where the activation function between them clips; None where it does not."""


def stretches(graph: onnx.ModelProto) -> list[Stretch]:
    """Every place where channels can be stretched, in the order of the graph."""
    makers = {output: node for node in graph.graph.node for output in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    found = []
    for after in graph.graph.node:
        if after.op_type != "Conv" or not _is_depthwise(after, tensors) or len(readers[after.input[0]]) != 1:
            continue
        before, ceiling = makers.get(after.input[0]), None
        if before is not None and before.op_type in ("Relu", "Clip") and len(readers[before.input[0]]) == 1:
            if before.op_type == "Clip":
                floor, ceiling = (float(numpy_helper.to_array(tensors[name])) for name in before.input[1:3])
                if floor != 0:
                    continue
            before = makers.get(before.input[0])
        if before is not None and before.op_type == "Conv" and len(before.input) == 3:
            found.append(Stretch(before, after.input[0], after, ceiling))
    return found


def stretch_factors(largest: NDArray[np.float32], ceiling: float | None) -> list[float]:
    """What each channel is multiplied by, 1 to 16.

    Args:
        largest: ``float32 [channels]``, the largest absolute value of each that was seen.
        ceiling: where the activation function clips, or None.
    """
    top = float(largest.max()) if ceiling is None else ceiling
    own = np.maximum(largest * (1.0 if ceiling is None else MARGIN), top / _MOST)
    return [float(f"{factor:.5g}") for factor in np.clip(top / np.maximum(own, 1e-12), 1.0, _MOST)]


def stretched_range(largest: NDArray[np.float32], factors: Sequence[float], ceiling: float | None) -> float:
    """The largest value after stretching; never zero."""
    reached = float((largest * np.asarray(factors)).max())
    return float(f"{(reached if ceiling is None else ceiling) or 1.0:.7g}")


def _is_depthwise(node: onnx.NodeProto, tensors: dict[str, onnx.TensorProto]) -> bool:
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    outputs, inputs = tensors[node.input[1]].dims[:2]
    return bool(groups == outputs and inputs == 1 and groups > 1)

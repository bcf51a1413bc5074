"""Cross-layer equalization in front of depthwise convolutions: faint channels are stretched over the whole int8 range.

An activation has one scale for all channels, so a channel that never exceeds a tenth of the range gets a tenth of the
codes. Stretching it in the convolution before and shrinking it in the depthwise one after leaves the network as it was,
and costs no precision of weights, because both have one scale per channel. A dense convolution after has none for its
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

from .view import GraphView, is_depthwise

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
    view = GraphView(graph)
    found = []
    for after in view.of_kind("Conv"):
        if not is_depthwise(view, after) or len(view.readers(after.input[0])) != 1:
            continue
        before, ceiling = view.producer(after.input[0]), None
        if before is not None and before.op_type in ("Relu", "Clip") and len(view.readers(before.input[0])) == 1:
            if before.op_type == "Clip":
                bounds = [view.constant(name) for name in before.input[1:3]]
                floor, top = bounds if len(bounds) == 2 else (None, None)
                if floor is None or top is None or float(floor) != 0:
                    continue
                ceiling = float(top)
            before = view.producer(before.input[0])
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

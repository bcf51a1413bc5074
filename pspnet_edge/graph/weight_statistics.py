"""What calibration learns of single weights and single channels, once the ranges of whole tensors are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray

from .calibration_table import CalibrationTable
from .equalize import stretch_factors, stretched_range, stretches
from .quantize import quantised_convolutions, weight_scales
from .rounding import Patches, Rounding, chosen_rounding, roundable_weights


class SecondLook:
    """Patches of every convolution's input, and the largest value of every channel that could be stretched."""

    def __init__(self, graph: onnx.ModelProto) -> None:
        self._seen = [
            (node, weights, Patches(node, weights))
            for node in quantised_convolutions(graph)
            if (weights := roundable_weights(graph, node)) is not None
        ]
        self._stretches = stretches(graph)
        self._largest: dict[str, NDArray[np.float32]] = {}

    def add(self, activations: dict[str, NDArray[np.float32]]) -> None:
        """Take one image's activations ``float32 [N, C, H, W]``."""
        for node, _, patches in self._seen:
            patches.add(activations[node.input[0]][0])
        for place in self._stretches:
            largest = np.abs(activations[place.tensor]).max((0, 2, 3))
            self._largest[place.tensor] = np.maximum(self._largest.get(place.tensor, 0.0), largest)

    def roundings(self) -> dict[str, Rounding]:
        """How to round each convolution's weights."""
        return {
            node.name: chosen_rounding(weights, weight_scales(weights), patches)
            for node, weights, patches in self._seen
        }

    def equalized(self, table: CalibrationTable) -> CalibrationTable:
        """The table with the stretch of channels, and the ranges of what is stretched."""
        stretch, amax = {}, dict(table.amax)
        for place in self._stretches:
            largest = self._largest[place.tensor]
            stretch[place.tensor] = factors = stretch_factors(largest, place.ceiling)
            amax[place.tensor] = stretched_range(largest, factors, place.ceiling)
        return replace(table, stretch=stretch, amax=amax)

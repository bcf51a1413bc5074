"""Quantise a model with NNCF, its bias correction included: MODEL FRAMES.npy OUTPUT performance|mixed.

``performance`` is symmetric, ``mixed`` has asymmetric activations.
"""

from __future__ import annotations

import sys

import nncf
import numpy as np
import onnx


def main() -> None:
    """Quantise."""
    model, frames, output, preset = sys.argv[1:]
    graph, images = onnx.load(model), np.load(frames)
    name = graph.graph.input[0].name
    quantised = nncf.quantize(
        graph,
        nncf.Dataset(list(images), lambda frame: {name: frame[None]}),
        preset=nncf.QuantizationPreset(preset),
        subset_size=len(images),
    )
    onnx.save(quantised, output)


if __name__ == "__main__":
    main()

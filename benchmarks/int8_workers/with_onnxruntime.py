"""Quantise a model with ONNX Runtime's own tool: MODEL FRAMES.npy OUTPUT METHOD PLACEMENT.

METHOD is MinMax, Entropy or Percentile. PLACEMENT is ``default`` (every operator that the tool knows) or ``convolutions``
(their inputs and weights alone, as TensorRT fuses best). Int8 symmetric throughout, weights per channel, biases in FP32.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class Reader(CalibrationDataReader):
    """Frames one at a time, by ranges: without ranges the tool keeps every activation of every frame in memory."""

    def __init__(self, name: str, frames: np.ndarray) -> None:
        self._name, self._frames = name, frames
        self._range = iter(range(len(frames)))

    def __len__(self) -> int:
        return len(self._frames)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._range = iter(range(start_index, end_index))

    def get_next(self) -> dict[str, np.ndarray] | None:
        index = next(self._range, None)
        return None if index is None else {self._name: self._frames[index][None]}


def main() -> None:
    """Quantise."""
    model, frames, output, method, placement = sys.argv[1:]
    options = {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "QuantizeBias": False,
        "CalibStridedMinMax": 1,
    }
    operators = None
    if placement == "convolutions":
        operators = ["Conv"]
        options["OpTypesToExcludeOutputQuantization"] = ["Conv"]
    prepared = Path(output).with_suffix(".prepared.onnx")
    quant_pre_process(model, prepared)
    quantize_static(
        prepared,
        output,
        Reader(onnx.load(model).graph.input[0].name, np.load(frames)),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=operators,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod[method],
        extra_options=options,
    )


if __name__ == "__main__":
    main()

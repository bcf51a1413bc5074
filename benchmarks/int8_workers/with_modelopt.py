"""Quantise a model with NVIDIA Model Optimizer, as its guide does for TensorRT: MODEL FRAMES.npy OUTPUT max|entropy.

What it leaves unquantised it computes in FP32 here, not FP16, so that the table compares INT8 alone.
"""

from __future__ import annotations

import sys

import numpy as np
from modelopt.onnx.quantization import quantize


def main() -> None:
    """Quantise."""
    model, frames, output, method = sys.argv[1:]
    quantize(
        model,
        quantize_mode="int8",
        calibration_data=np.load(frames),
        calibration_method=method,
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=output,
    )


if __name__ == "__main__":
    main()

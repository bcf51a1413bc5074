"""Activation ranges of a model, measured by running calibration images through ONNX Runtime."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

import numpy as np
import onnx
from numpy.typing import NDArray

from ..data.geometry import frame_at
from ..errors import CalibrationError
from ..lazy import require
from .calibration_table import CalibrationTable, weights_fingerprint
from .histogram import Histogram
from .onnx_file import ModelFile
from .quantize import quantised_tensors


def table_from_images(
    model: ModelFile,
    images: Iterable[NDArray[np.uint8]],
    *,
    dataset: str,
    method: str = "mse",
    on_image: Callable[[int], None] = lambda done: None,
) -> CalibrationTable:
    """Run images through the FP32 model and choose a range for every tensor that is to be quantised.

    Only one image's activations and the histograms are in memory at a time.

    Args:
        model: the FP32 model.
        images: BGR ``uint8 [H, W, 3]`` of any size.
        dataset: what the images are, kept in the table.
        method: one of ``histogram.METHODS``.
        on_image: called with the number of images done.

    Raises:
        CalibrationError: there is no image, or an activation is not finite.
    """
    names = quantised_tensors(model.graph)
    session = _session(model, names)
    _, height, width = model.shape_nhw
    histograms = {name: Histogram() for name in names}
    digest = hashlib.sha256()
    done = 0
    for image in images:
        digest.update(image.tobytes())
        frame = frame_at(image, (height, width))
        for name, value in zip(names, session.run(names, {model.graph.graph.input[0].name: frame[None]})):
            histograms[name].add(value)
        done += 1
        on_image(done)
    if done == 0:
        raise CalibrationError("there is no image to calibrate with: give a data set or a folder that holds some")
    amax = {name: _rounded(histogram.amax(method)) for name, histogram in histograms.items()}
    return CalibrationTable(weights_fingerprint(model.graph), method, dataset, done, digest.hexdigest(), amax)


def _session(model: ModelFile, names: list[str]):  # type: ignore[no-untyped-def]
    onnxruntime = require("onnxruntime", "calibrate")
    watched = onnx.ModelProto()
    watched.CopyFrom(model.graph)
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
    )
    return onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])


def _rounded(value: float) -> float:
    """Seven significant digits: all that float32 holds."""
    return float(f"{value:.7g}")

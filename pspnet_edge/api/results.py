"""What the functions of the public API return: frozen records with ``to_dict()`` for JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..measure.facts import Percentiles
from ..records import JsonRecord

Precision = Literal["fp32", "fp16", "int8"]
WantedPrecision = Literal["auto", "fp32", "fp16", "int8"]
Runtime = Literal["tensorrt", "openvino", "onnxruntime", "tensorrt-rtx"]
WantedRuntime = Literal["auto", "tensorrt", "openvino", "onnxruntime", "tensorrt-rtx"]
Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class BuiltEngine(JsonRecord):
    """An engine file."""

    engine: Path
    runtime: str
    precision: str
    shape_nhw: tuple[int, int, int]
    """Frames per batch, height and width in pixels."""
    classes: tuple[str, ...]
    int8_mac_fraction: float
    """Share of the multiply-accumulates that are computed in INT8."""
    calibration_sha256: str | None
    drop: float | None
    """What INT8 loses, as measured for ``max_drop``; None without it."""
    left_in_float: tuple[str, ...]
    """Layers that ``max_drop`` left unquantized, costliest first."""


@dataclass(frozen=True)
class ExportedModel(JsonRecord):
    """An ONNX model."""

    model: Path
    calibration: Path | None
    """The table of learned ranges, after quantization-aware training."""
    network: str
    input_hw: Size
    batch: int
    classes: tuple[str, ...]
    gmac: float
    """Multiply-accumulates per frame, in billions."""


@dataclass(frozen=True)
class Calibration(JsonRecord):
    """A calibration table."""

    calibration: Path
    calibration_sha256: str
    method: str
    images: int
    tensors: int
    skipped: tuple[str, ...]
    """Names of images that could not be read."""


@dataclass(frozen=True)
class Evaluation(JsonRecord):
    """Segmentation quality of an engine over a labelled split."""

    miou: float
    """Mean IoU over the classes that occur, 0 to 1; NaN where none does."""
    per_class_iou: dict[str, float]
    pixel_accuracy: float
    images: int
    engine: Path
    runtime: str
    precision: str
    compute_ms: float
    """Median time of one batch in the engine."""
    dataset: str
    split: str
    """``held out`` for the images of a folder without lists that training held out."""
    trained_on: bool | None
    """Whether the network was trained on images of the split, and so does better than on new ones; None where its file
    does not tell."""


@dataclass(frozen=True)
class ImportedModel(JsonRecord):
    """A checkpoint of this package, made from another project's."""

    checkpoint: Path
    format: str
    network: str
    classes: tuple[str, ...]
    assumed: tuple[str, ...]
    """What the weights do not show and was taken as the format's default."""
    left_out: dict[str, str]
    """Tensors that were not used, each with the reason."""


@dataclass(frozen=True)
class BenchmarkRow(JsonRecord):
    """One engine in a benchmark."""

    id: str
    model: str
    precision: str
    size_hw: Size
    runtime: str
    fps: float
    """Frames per second at the median latency."""
    latency_ms: Percentiles
    """Of one batch."""
    loop_fps: float | None
    """Frames per second of the whole loop: decoding, resizing, inference."""
    miou: float | None
    miou_change: float | None
    """Difference from FP32."""
    agreement: float | None
    """Share of mask pixels that equal FP32's."""
    engine_bytes: int
    peak_memory_bytes: int


@dataclass(frozen=True)
class BenchmarkReport(JsonRecord):
    """A benchmark: its rows, and the files that show them."""

    rows: tuple[BenchmarkRow, ...]
    pareto: tuple[str, ...]
    """Ids of the rows that no other beats in both FPS and mIoU."""
    files: tuple[Path, ...]

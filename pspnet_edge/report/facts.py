"""What is in a report.json. ``shape.py`` checks a file against it when it is read."""

from __future__ import annotations

from typing import TypedDict

from ..estimate.predict import EstimateFacts
from ..labels import LabelFacts
from ..measure.facts import Environment, Percentiles, Power, Sample


class Times(TypedDict):
    """How fast an engine is, alone or in the whole loop."""

    fps: float
    latency_ms: Percentiles
    """``p50`` is the median of the rounds' medians, the others are of all frames."""
    spread_ms: dict[str, float]
    """Of the rounds' medians: ``q25``, ``q75``, ``least`` and ``most``."""
    frames: int
    rounds_ms: list[float]
    reference_ms: list[float]
    undisturbed_rounds_ms: list[float]
    undisturbed_reference_ms: list[float]
    quantiles_ms: list[float]
    """101: the percentiles of all frames."""


class Quality(TypedDict):
    """What the masks are worth; None where it was not measured."""

    miou: float | None
    miou_change: float | None
    """From FP32."""
    agreement: float | None
    pixel_accuracy: float | None
    per_class_iou: dict[str, float] | None
    confusion_matrix: list[list[int]] | None
    images: int | None


class PowerPerFrame(Power):
    """Power, and what it is worth."""

    fps_per_watt: float | None


class Row(Times, Quality):
    """One engine."""

    id: str
    model: str
    precision: str
    size: str
    """``HEIGHTxWIDTH``."""
    runtime: str
    batch: int
    loop: Times | None
    engine_bytes: int
    build_s: float | None
    open_s: float
    peak_memory_bytes: int
    gmac: float | None
    int8_mac_fraction: float | None
    flavour: str | None
    runtime_version: str | None
    engine_sha256: str
    model_sha256: str | None
    calibration_sha256: str | None
    power: PowerPerFrame | None


class NamedEstimate(EstimateFacts):
    """An estimate of a named model."""

    model: str
    size: str


class EstimateRow(NamedEstimate, total=False):
    """An estimate, with the mIoU that was measured here where it was."""

    miou: float | None


class Published(TypedDict, total=False):
    """A figure of others: only what they published is there, and ``number``, ``model`` and ``source`` always."""

    number: int
    model: str
    source: str
    precision: str
    device: str
    runtime: str
    dataset: str
    split: str
    input: str
    miou: float
    miou_change: float
    fps: float
    note: str


class ImagesFacts(TypedDict):
    """What mIoU was measured on."""

    dataset: str | None
    split: str
    folder: str | None


class OptionsFacts(TypedDict):
    """How it was measured."""

    rounds: int
    seconds: float
    images: ImagesFacts
    video: str


class Change(TypedDict, total=False):
    """One figure that moved between two reports beyond noise."""

    row: str
    what: str
    change: float
    worse: bool
    old: float
    new: float
    p: float
    """Of a latency."""


class Comparison(TypedDict):
    """What changed since an older report."""

    old: str
    rows: int
    changes: list[Change]
    lines: list[str]
    """For people."""
    regressed: bool
    """Whether latency, mIoU or agreement became worse beyond noise."""


class Report(TypedDict):
    """The whole report."""

    format_version: int
    kind: str
    made_by: dict[str, str]
    made_at: str
    command: str
    options: OptionsFacts
    environment: Environment
    rows: list[Row]
    pareto: list[str]
    """Ids of the rows that no other beats in both FPS and mIoU."""
    estimates: list[EstimateRow]
    published: list[Published]
    samples: list[Sample]
    label_set: LabelFacts | None
    against: Comparison | None


ClassIou = TypedDict("ClassIou", {"class": str, "iou": dict[str, "float | None"]})
"""One class, with its IoU by engine; None where the engine's row does not name it."""


class ClassGroup(TypedDict):
    """The engines of one model, size and runtime, class by class."""

    title: str
    names: list[str]
    classes: list[ClassIou]


ConfusionRow = TypedDict("ConfusionRow", {"class": str, "shares": list["float | None"]})
"""The pixels of one label, as shares by predicted class; None where no pixel has that label."""


class Confusion(TypedDict):
    """One engine's confusion matrix."""

    title: str
    classes: list[str]
    rows: list[ConfusionRow]

"""The JSON values that measuring hands on: what a process is asked to do, and what it finds."""

from __future__ import annotations

from typing import TypedDict


class _Split(TypedDict):
    dataset: str | None
    root: str | None
    split: str


class Place(_Split, total=False):
    """Images: a labelled data set, or those below a folder where ``dataset`` is None."""

    held_out: str
    """Where the split is what training held out: what tells which images those are."""


class Task(TypedDict, total=False):
    """What one process does; which keys are there depends on ``kind``."""

    kind: str
    """``time``, ``score``, ``agree`` or ``samples``."""
    engine: str
    exact: str
    """The FP32 engine, of ``agree`` and ``samples``."""
    input: str
    """What the loop decodes."""
    seconds: float
    images: Place
    folder: str
    """For pictures."""
    count: int


class Percentiles(TypedDict):
    """In milliseconds."""

    p50: float
    p95: float
    p99: float


class SliceFacts(TypedDict):
    """Times of one engine in one process, in milliseconds."""

    ms: list[float]
    reference_ms: list[float]
    window: list[float]
    """``time.monotonic()`` at the beginning and the end."""


class Power(TypedDict):
    """What the board's sensors said; None for a sensor that it lacks."""

    watts: float | None
    gpu_mhz: float | None
    gpu_max_mhz: float | None
    cpu_mhz: float | None
    emc_mhz: float | None
    celsius: float | None
    throttled: float | None
    """Share of the readings, 0 to 1."""
    readings: float | None


class BoardFacts(TypedDict, total=False):
    """What the board is and how it is set; empty where this is not a Jetson with jetson-stats."""

    board: str | None
    module: str | None
    jetpack: str | None
    l4t: str | None
    power_mode: str | None
    jetson_clocks: bool | None


class Turn(TypedDict):
    """One engine in one round."""

    open_s: float
    engine: SliceFacts
    loop: SliceFacts | None
    """With decoding and resizing; None for batches of several frames."""
    peak_memory_bytes: int
    power: Power | None


class Score(TypedDict):
    """Quality of an engine over a labelled split."""

    miou: float
    per_class_iou: dict[str, float]
    confusion_matrix: list[list[int]]
    """Pixels: one row per label, one column per prediction."""
    pixel_accuracy: float
    coverage: float
    """Share of the labelled pixels that the engine did not leave unknown, and on which the rest is measured."""
    images: int
    compute_ms: float
    """Median time of one batch in the engine."""
    processes: int
    times_ms: dict[str, float]
    """Mean wall time per image of the slowest process: ``total``, ``load``, ``infer`` and ``confusion``."""


class Evaluated(Score):
    """A score, and what it was measured on."""

    engine: str
    runtime: str
    precision: str
    dataset: str
    split: str
    trained_on: bool | None
    """Whether the network was trained on images of the split; None where its file does not tell."""
    fit: str
    """``tiles``, or how images fill the engine's input."""


class Agreement(TypedDict):
    """Share of mask pixels as in FP32."""

    agreement: float
    images: int


class Built(TypedDict):
    """What is known of an engine file."""

    build_s: float | None
    """None for an engine that was built before; so is ``gmac``."""
    engine_bytes: int
    engine_sha256: str
    batch: int
    gmac: float | None
    model_sha256: str | None
    calibration_sha256: str | None
    int8_mac_fraction: float | None
    flavour: str | None
    runtime_version: str | None


class SampleFacts(TypedDict):
    """One image, and the pictures that show what two engines make of it."""

    name: str
    changed: float
    """Share of the pixels whose class differs."""
    why: str
    pictures: dict[str, str]
    """File names by what they show."""


class Sample(SampleFacts):
    """A sample, and the engines that it compares."""

    exact: str
    other: str
    precision: str


class Environment(BoardFacts):
    """The machine, its settings, and the versions of what ran; None where it has no such thing."""

    processor: str
    instructions: list[str]
    cores: int
    governor: str | None
    cpu_max_mhz: float | None
    memory_bytes: int
    load_at_start: float
    system: str
    python: str
    pspnet_edge: str
    packages: dict[str, str]

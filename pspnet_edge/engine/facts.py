"""What the sidecar of an engine holds, as JSON values."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from ..labels import LabelFacts

if TYPE_CHECKING:
    from ..graph.calibration_table import Accuracy


class TailFacts(TypedDict, total=False):
    """How a kernel ends the network. Sidecars of 0.1 have no ``dtype``."""

    classes: int
    logits_hw: list[int]
    align_corners: bool
    dtype: str
    """Of the logits: ``float32`` or ``float16``."""
    kernels: str
    """Machine code for the GPU, in base64."""


class HeadFacts(TypedDict, total=False):
    """How a kernel begins the network."""

    order: list[int]
    """The channel of a frame that each channel of the input is made of."""
    dtype: str
    """Of the input: ``float32``, ``float16`` or ``int8``."""
    levels: str
    """``[C, 256]`` values that pixels become, in base64."""
    kernels: str
    """Machine code for the GPU, in base64."""


class TensorRtFacts(TypedDict, total=False):
    """What a plan was built for."""

    compute_capability: str | None
    """None where it runs on several."""
    device: str | None
    version_compatible: bool
    hardware_compatible: bool
    dla_core: int | None
    dla_fallback: list[str]
    workspace_bytes: int
    optimization_level: int | None
    left_in_float: list[str]
    proved: list[str]
    """Whose kernels, ``head`` and ``tail``, gave the right values on the GPU of the build."""
    left_to_graph: dict[str, str]
    """Of ``head`` and ``tail`` what has a kernel for this GPU that was not taken, and why."""


class Int8Convolutions(TypedDict):
    """How many convolutions were quantized in the graph, and what TensorRT made of them."""

    placed: int
    built: int
    not_named: int


class TriedFacts(TypedDict):
    """One of the engines of a search."""

    name: str
    precision: str
    latency_ms: float
    kept: bool


class MadeFacts(TypedDict, total=False):
    """What a backend says of what it built."""

    tensorrt: TensorRtFacts
    graph_sha256: str
    int8_convolutions: Int8Convolutions
    precision_by_convolution: dict[str, str]
    head: HeadFacts | None
    tail: TailFacts | None
    build_s: float


class EngineFacts(MadeFacts, total=False):
    """The sidecar of an engine. Which keys are there depends on the runtime, the precision and the options."""

    model: str
    model_sha256: str
    runtime: str
    runtime_version: str
    precision: str
    shape_nhw: tuple[int, int, int]
    channels: int
    pixels: dict[str, object]
    held_out: str | None
    """Tells which images training held out; None where they were listed. Sidecars of 0.1 lack it."""
    trained_split: str | None
    """Data set and split that the network was trained on, ``"folder trainval"``; None where that is not known."""
    label_set: LabelFacts
    min_confidence: float | None
    int8_mac_fraction: float
    calibration_sha256: str | None
    kept_float: list[str]
    accuracy: Accuracy | None
    """None without a gate."""
    flavour: str | None
    scores_hw: list[int]
    decision_saved_to: str
    search: list[TriedFacts]
    made_by: dict[str, str]

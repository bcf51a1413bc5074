"""What a report.json must hold, so that one that was damaged or edited is refused before it is drawn."""

from __future__ import annotations

from ..document import LABEL_SET, SHA256, Flag, List, Map, Number, Optional, Record, Shape, Text

_FIGURE = Number(0, 1e15)
_SHARE = Number(0, 1)
_WORDS = Optional(Text(1000))
_SIZE = Text(20, pattern="[0-9]{1,6}x[0-9]{1,6}")
_LATENCY = Record({"p50": _FIGURE, "p95": _FIGURE, "p99": _FIGURE})
_TIMES: dict[str, Shape] = {
    "fps": _FIGURE,
    "latency_ms": _LATENCY,
    "spread_ms": Record(dict.fromkeys(("q25", "q75", "least", "most"), Number(1e-9, 1e15))),
    "frames": Number(0, whole=True),
    "rounds_ms": List(_FIGURE, 1),
    "reference_ms": List(_FIGURE, 1),
    "undisturbed_rounds_ms": List(_FIGURE, 1),
    "undisturbed_reference_ms": List(_FIGURE, 1),
    "quantiles_ms": List(_FIGURE, 101, 101),
}
_ROW = Record(
    {
        "id": Text(1000),
        "model": Text(1000),
        "precision": Text(among=("fp32", "fp16", "int8")),
        "size": _SIZE,
        "runtime": Text(50),
        "batch": Number(1, 65_536, whole=True),
        **_TIMES,
        "loop": Optional(Record(_TIMES)),
        "miou": Optional(_SHARE),
        "miou_change": Optional(Number(-1, 1)),
        "agreement": Optional(_SHARE),
        "pixel_accuracy": Optional(_SHARE),
        "per_class_iou": Optional(Map(Optional(_SHARE), 254)),
        "images": Optional(Number(0, whole=True)),
        "engine_bytes": Number(0),
        "build_s": Optional(_FIGURE),
        "open_s": _FIGURE,
        "peak_memory_bytes": Number(0),
        "gmac": Optional(_FIGURE),
        "int8_mac_fraction": Optional(_SHARE),
        "power": Optional(Record({"watts": Optional(Number()), "fps_per_watt": Optional(Number())})),
    },
    {
        "confusion_matrix": Optional(List(List(Number(0, whole=True), 1, 254), 1, 254)),
        "flavour": Optional(Text(50)),
        "runtime_version": _WORDS,
        **dict.fromkeys(("engine_sha256", "model_sha256", "calibration_sha256"), Optional(SHA256)),
    },
)
_ESTIMATE = Record(
    {
        "model": Text(1000),
        "precision": Text(50),
        "size": _SIZE,
        "board_title": Text(200),
        "power_mode": _WORDS,
        "fps": Number(1e-6, 1e15),
        "latency_ms": _FIGURE,
        "bound_by": Map(_SHARE, 10),
    },
    {
        "fps_low": _FIGURE,
        "fps_high": _FIGURE,
        "graph_ends_ms": _FIGURE,
        "miou": Optional(_SHARE),
        "is_estimate": Flag(),
    },
)
_ENVIRONMENT = Record(
    {
        **dict.fromkeys(("board", "module", "jetpack", "l4t", "power_mode", "governor"), _WORDS),
        **dict.fromkeys(("processor", "system", "python", "pspnet_edge"), Text(1000)),
        "jetson_clocks": Optional(Flag()),
        "instructions": List(Text(50), 0, 100),
        "cores": Number(1, 65_536, whole=True),
        "cpu_max_mhz": Optional(_FIGURE),
        "memory_bytes": _FIGURE,
        "load_at_start": _FIGURE,
        "packages": Map(Text(200), 1000),
    }
)
_PUBLISHED = Record(
    {"number": Number(whole=True), "model": Text(1000), "source": Text(1000)},
    {
        **dict.fromkeys(("dataset", "split", "note", "input", "precision", "device", "runtime"), Text(1000)),
        "miou": _SHARE,
        "miou_change": Number(-1, 1),
        "fps": Number(1e-6, 1e15),
    },
)
_SAMPLE = Record(
    {"name": Text(1000), "changed": _SHARE, "why": Text(1000), "pictures": Map(Text(1000), 20)},
    {"other": Text(1000)},
)
_IMAGES = Record({"dataset": _WORDS, "split": _WORDS}, {"folder": _WORDS})
REPORT = Record(
    {
        "kind": Text(),
        "format_version": Number(whole=True),
        "made_at": Text(100),
        "command": Text(100_000),
        "options": Record({"rounds": Number(1), "seconds": Number(0), "images": _IMAGES, "video": Text(10_000)}),
        "environment": _ENVIRONMENT,
        "rows": List(_ROW, 0, 10_000),
        "pareto": List(Text(1000)),
        "estimates": List(_ESTIMATE, 0, 10_000),
        "published": List(_PUBLISHED, 0, 10_000),
        "samples": List(_SAMPLE, 0, 1000),
        "label_set": Optional(LABEL_SET),
    },
    {"against": Optional(Record({"old": Text(10_000), "lines": List(Text(10_000), 0, 10_000)}))},
)

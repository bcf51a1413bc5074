"""What a report.json must hold, so that one that was damaged or edited is refused before it is drawn."""

from __future__ import annotations

from ..document import LABEL_SET, Anything, Flag, List, Map, Number, Optional, Record, Shape, Text

_FIGURE = Number(0, 1e15)
_SHARE = Number(0, 1)
_SIZE = Text(20, pattern="[0-9]{1,6}x[0-9]{1,6}")
_LATENCY = Record({"p50": _FIGURE, "p95": _FIGURE, "p99": _FIGURE})
_TIMES: dict[str, Shape] = {
    "fps": _FIGURE,
    "latency_ms": _LATENCY,
    "spread_ms": Map(_FIGURE),
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
        "runtime_version": Text(200),
    },
)
_ESTIMATE = Record(
    {"model": Text(1000), "precision": Text(50), "size": _SIZE, "board_title": Text(200), "fps": _FIGURE},
    {"fps_low": _FIGURE, "fps_high": _FIGURE, "miou": Optional(_SHARE), "bound_by": Anything(), "is_estimate": Flag()},
)
REPORT = Record(
    {
        "kind": Text(),
        "format_version": Number(whole=True),
        "made_at": Text(100),
        "command": Text(100_000),
        "options": Record({"rounds": Number(1), "seconds": Number(0), "images": Record({}), "video": Text(10_000)}),
        "environment": Record({}),
        "rows": List(_ROW, 0, 10_000),
        "pareto": List(Text(1000)),
        "estimates": List(_ESTIMATE, 0, 10_000),
        "published": List(Record({"number": Number(whole=True)})),
        "samples": List(Record({})),
        "label_set": Optional(LABEL_SET),
    },
    {"against": Anything()},
)

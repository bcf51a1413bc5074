"""From measurements to the rows of a report: one flat set of facts per engine."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..measure.benchmark import Measured, exact_of
from ..measure.latency import over_rounds, undisturbed


def rows_of(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """The rows of a report.

    Times are ``_ms`` per batch, FPS is of the median. Of each row: ``latency_ms`` with ``p50`` (median of the rounds'
    medians), ``p95`` and ``p99`` (of all frames), ``spread_ms`` (quartiles and extremes of the rounds' medians), and
    the same of the whole loop below ``loop``; ``miou`` and ``miou_change`` from FP32, or ``agreement`` with FP32.
    """
    return [_row(entry, measured) for entry in measured]


def pareto(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Ids of the rows that no other beats in both FPS and mIoU, fastest last."""
    rated = sorted((row for row in rows if row["miou"] is not None), key=lambda row: (-row["fps"], -row["miou"]))
    front, best = [], -1.0
    for row in rated:
        # To the fourth place: what two runtimes make of the same arithmetic differs after it.
        if (miou := round(row["miou"], 4)) > best:
            front.append(row["id"])
            best = miou
    return front[::-1]


def _row(entry: Measured, measured: Sequence[Measured]) -> dict[str, Any]:
    subject, built = entry.subject, entry.built
    engine, loop = [turn["engine"] for turn in entry.rounds], [turn["loop"] for turn in entry.rounds if turn["loop"]]
    row: dict[str, Any] = {
        "id": subject.name,
        "model": subject.model,
        "precision": subject.precision,
        "size": f"{subject.size_hw[0]}x{subject.size_hw[1]}",
        "runtime": subject.runtime,
        "batch": built["batch"],
        **_times(engine, built["batch"]),
        "loop": _times(loop, 1) if loop else None,
        **_quality(entry, measured),
        "engine_bytes": built["engine_bytes"],
        "build_s": built["build_s"],
        "open_s": round(statistics.median(turn["open_s"] for turn in entry.rounds), 3),
        "peak_memory_bytes": int(statistics.median(turn["peak_memory_bytes"] for turn in entry.rounds)),
        "gmac": built["gmac"],
        "int8_mac_fraction": built["int8_mac_fraction"],
        "flavour": built["flavour"],
        "runtime_version": built["runtime_version"],
        "engine_sha256": built["engine_sha256"],
        "model_sha256": built["model_sha256"],
        "calibration_sha256": built["calibration_sha256"],
    }
    row["power"] = _power([turn["power"] for turn in entry.rounds if turn["power"]], row["fps"])
    return row


def _times(slices: Sequence[dict[str, Any]], batch: int) -> dict[str, Any]:
    latency, spread = over_rounds([entry["ms"] for entry in slices])
    every = [value for entry in slices for value in entry["ms"]]
    return {
        "fps": round(1000 * batch / latency["p50"], 2),
        "latency_ms": latency,
        "spread_ms": spread,
        "frames": len(every),
        "rounds_ms": [round(statistics.median(entry["ms"]), 3) for entry in slices],
        "reference_ms": [round(statistics.median(entry["reference_ms"]), 4) for entry in slices],
        "undisturbed_rounds_ms": [round(undisturbed(entry["ms"]), 3) for entry in slices],
        "undisturbed_reference_ms": [round(undisturbed(entry["reference_ms"]), 4) for entry in slices],
        "quantiles_ms": [round(float(value), 2) for value in np.percentile(every, range(101))],
    }


def _quality(entry: Measured, measured: Sequence[Measured]) -> dict[str, Any]:
    score = entry.score or {}
    exact = exact_of(entry.subject, [other.subject for other in measured])
    baseline = next((other.score for other in measured if other.subject is exact and other.score), None)
    miou = score.get("miou")
    change = None if miou is None or baseline is None else miou - baseline["miou"]
    return {
        "miou": miou,
        "miou_change": change,
        "agreement": entry.agreement,
        "pixel_accuracy": score.get("pixel_accuracy"),
        "per_class_iou": score.get("per_class_iou"),
        "confusion_matrix": score.get("confusion_matrix"),
        "images": score.get("images"),
    }


_JOINED: dict[str, Callable[[Sequence[float]], float]] = {
    "celsius": max,
    "throttled": statistics.fmean,
    "readings": sum,
}
"""How readings of several rounds become one; all others by their median."""


def _power(readings: Sequence[dict[str, Any]], fps: float) -> dict[str, Any] | None:
    if not readings:
        return None
    facts: dict[str, Any] = {}
    for name in readings[0]:
        known = [reading[name] for reading in readings if reading[name] is not None]
        facts[name] = round(float(_JOINED.get(name, statistics.median)(known)), 3) if known else None
    facts["fps_per_watt"] = round(fps / facts["watts"], 3) if facts["watts"] else None
    return facts

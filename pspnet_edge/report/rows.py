"""From measurements to the rows of a report: one flat set of facts per engine."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ..measure.benchmark import Measured, exact_of
from ..measure.facts import Power, SliceFacts
from ..measure.latency import over_rounds, undisturbed
from .facts import PowerPerFrame, Quality, Row, Times


def rows_of(measured: Sequence[Measured]) -> list[Row]:
    """The rows of a report.

    Times are ``_ms`` per batch, FPS is of the median. Of each row: ``latency_ms`` with ``p50`` (median of the rounds'
    medians), ``p95`` and ``p99`` (of all frames), ``spread_ms`` (quartiles and extremes of the rounds' medians), and
    the same of the whole loop below ``loop``; ``miou`` and ``miou_change`` from FP32, or ``agreement`` with FP32.
    """
    return [_row(entry, measured) for entry in measured]


def pareto(rows: Sequence[Row]) -> list[str]:
    """Ids of the rows that no other beats in both FPS and mIoU, fastest last."""
    rated = [(row["fps"], row["miou"], row["id"]) for row in rows if row["miou"] is not None]
    front, best = [], -1.0
    for _, exact, name in sorted(rated, key=lambda entry: (-entry[0], -entry[1])):
        # To the fourth place: what two runtimes make of the same arithmetic differs after it.
        if (miou := round(exact, 4)) > best:
            front.append(name)
            best = miou
    return front[::-1]


def _row(entry: Measured, measured: Sequence[Measured]) -> Row:
    subject, built = entry.subject, entry.built
    engine, loop = [turn["engine"] for turn in entry.rounds], [turn["loop"] for turn in entry.rounds if turn["loop"]]
    times = _times(engine, built["batch"])
    return {
        "id": subject.name,
        "model": subject.model,
        "precision": subject.precision,
        "size": f"{subject.size_hw[0]}x{subject.size_hw[1]}",
        "runtime": subject.runtime,
        "batch": built["batch"],
        **times,
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
        "power": _power([turn["power"] for turn in entry.rounds if turn["power"]], times["fps"]),
    }


def _times(slices: Sequence[SliceFacts], batch: int) -> Times:
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


def _quality(entry: Measured, measured: Sequence[Measured]) -> Quality:
    score = entry.score
    exact = exact_of(entry.subject, [other.subject for other in measured])
    baseline = next((other.score for other in measured if other.subject is exact and other.score), None)
    miou = score["miou"] if score else None
    change = None if miou is None or baseline is None else miou - baseline["miou"]
    return {
        "miou": miou,
        "miou_change": change,
        "agreement": entry.agreement,
        "pixel_accuracy": score["pixel_accuracy"] if score else None,
        "per_class_iou": score["per_class_iou"] if score else None,
        "confusion_matrix": score["confusion_matrix"] if score else None,
        "images": score["images"] if score else None,
    }


def _power(readings: Sequence[Power], fps: float) -> PowerPerFrame | None:
    """Readings of several rounds as one: medians, but the highest temperature and the sum of the readings."""
    if not readings:
        return None

    def joined(values: Iterable[float | None], how: Callable[[list[float]], float] = statistics.median) -> float | None:
        known = [value for value in values if value is not None]
        return round(float(how(known)), 3) if known else None

    watts = joined(entry["watts"] for entry in readings)
    return {
        "watts": watts,
        "gpu_mhz": joined(entry["gpu_mhz"] for entry in readings),
        "gpu_max_mhz": joined(entry["gpu_max_mhz"] for entry in readings),
        "cpu_mhz": joined(entry["cpu_mhz"] for entry in readings),
        "emc_mhz": joined(entry["emc_mhz"] for entry in readings),
        "celsius": joined((entry["celsius"] for entry in readings), max),
        "throttled": joined((entry["throttled"] for entry in readings), statistics.fmean),
        "readings": joined((entry["readings"] for entry in readings), sum),
        "fps_per_watt": round(fps / watts, 3) if watts else None,
    }

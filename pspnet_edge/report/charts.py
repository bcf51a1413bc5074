"""The charts of a report, drawn by matplotlib: as SVG for the page, wide and narrow, and as PNG.

Colours are Okabe and Ito's, which stay apart for every kind of colour blindness; a runtime has its colour, a precision
its marker, so that neither depends only on colour.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..lazy import require
from ..lettering import plottable
from .facts import EstimateRow, Published, Report, Row
from .published import comparable

RUNTIME_COLOURS = {
    "openvino": "#0072B2",
    "onnxruntime": "#E69F00",
    "tensorrt": "#009E73",
    "tensorrt-rtx": "#CC79A7",
}
RUNTIME_TITLES = {
    "openvino": "OpenVINO",
    "onnxruntime": "ONNX Runtime",
    "tensorrt": "TensorRT",
    "tensorrt-rtx": "TensorRT-RTX",
}
PRECISION_MARKERS = {"fp32": "o", "fp16": "s", "int8": "^"}
_ESTIMATE = "#D55E00"
_GREY = "#7f7f7f"
_INK = "#010203"  # replaced by the page's own colour of text, in SVG
_PAPER = "#fdfcfb"  # likewise for its background

Axes = Any
"""matplotlib has no types that hold without it."""


def svg(draw: Callable[[Report, bool], Any], report: Report, *, narrow: bool) -> str:
    """An ``<svg>`` element that takes its text and paper colours from the page around it.

    Args:
        draw: ``tradeoff`` or ``latencies``.
        report: the report.
        narrow: for a phone, 360 pixels wide, instead of a desktop.
    """
    name = f"{draw.__name__}-{'narrow' if narrow else 'wide'}"
    with (
        _drawing({"svg.fonttype": "none", "svg.hashsalt": name, **_style(narrow)}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the page's own font writes it
        figure = draw(report, narrow)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    # Ids are made unique, because one page holds several charts.
    text = re.sub(r'id="(?!m[0-9a-f]{8})(?!p[0-9a-f]{8})([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" role="img" aria-label="">', text, count=1)
    text = text.replace('aria-label=""', f'aria-label="{_LABELS[draw.__name__]}"', 1)
    text = re.sub(r"font: ([^;\"]*)'[^;\"]*'[^;\"]*", r"font: \1inherit", text)
    return text.replace(_INK, "currentColor").replace(_PAPER, "var(--paper)")


def png(report: Report) -> bytes:
    """The wide trade-off chart on white."""
    report = {**report, "rows": [{**row, "model": plottable(row["model"])} for row in report["rows"]]}
    with _drawing(_style(narrow=False)):
        figure = tradeoff(report, narrow=False)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=160, facecolor="white", metadata={"Software": None})
    return stream.getvalue()


@contextlib.contextmanager
def _drawing(style: dict[str, Any]) -> Iterator[None]:
    """Draw in one style, whatever a ``matplotlibrc`` of the user or of the working folder says."""
    matplotlib = require("matplotlib", "draw a report")
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(style)
        yield


_LABELS = {
    "tradeoff": "Frames per second against mIoU, with the Pareto front and published figures",
    "latencies": "Distribution of latency of each engine, alone and in the whole loop",
}


def tradeoff(report: Report, narrow: bool) -> Any:
    """FPS against mIoU: what was measured with its Pareto front, and the same beside published figures."""
    others = comparable(report)
    report = {**report, "published": others}
    rows = [row for row in report["rows"] if row["miou"] is not None]
    beside = bool(others or any(entry.get("miou") is not None for entry in report["estimates"]))
    height = 4.4 if not beside and narrow else 9.6 if narrow else 6.0 if beside else 4.6
    figure = require("matplotlib.figure", "draw a report").Figure(
        figsize=(3.6 if narrow else 12.0, height), layout="constrained"
    )
    if not beside:
        _measured_panel(figure.subplots(), rows, report["pareto"])
        _legend(figure, rows, report, narrow)
        return figure
    if not _speeds_alone(report):
        measured, context = figure.subplots(2, 1) if narrow else figure.subplots(1, 2, width_ratios=(1, 1.15))
        _speed_axis(context, report, narrow)
    else:
        if narrow:
            measured, context, devices = figure.subplots(3, 1, height_ratios=(1.15, 1.25, 0.6))
        else:
            axes = figure.subplot_mosaic("MC;MD", width_ratios=(1, 1.15), height_ratios=(2.4, 1))
            measured, context, devices = axes["M"], axes["C"], axes["D"]
        devices.sharex(context)
        _devices_panel(devices, report)
        _speed_axis(devices, report, narrow)
    _measured_panel(measured, rows, report["pareto"])
    _context_panel(context, rows, report)
    _legend(figure, rows, report, narrow)
    return figure


def latencies(report: Report, narrow: bool) -> Any:
    """One box per engine: quartiles and median, whiskers from the 5th to the 99th percentile, alone and in the loop."""
    rows = report["rows"]
    height = 0.9 + 0.24 * len(rows)
    figure = require("matplotlib.figure", "draw a report").Figure(
        figsize=(3.6, 2 * height) if narrow else (11.0, height), layout="constrained"
    )
    alone, loop = figure.subplots(2, 1) if narrow else figure.subplots(1, 2, sharey=True)
    # On a phone the names leave the axes less room than their titles take.
    side = "right" if narrow else "left"
    alone.set_title("Engine alone, ms per batch", loc=side)
    loop.set_title("Whole loop, ms per frame" if narrow else "Whole loop, decode to mask, ms per frame", loc=side)
    _boxes(alone, rows, [row["quantiles_ms"] for row in rows])
    loops = [row["loop"]["quantiles_ms"] if row["loop"] else None for row in rows]
    _boxes(loop, rows, loops)
    return figure


def _style(narrow: bool) -> dict[str, float | str | bool]:
    return {
        "font.size": 8.0 if narrow else 9.5,
        "axes.titlesize": 9.0 if narrow else 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "font.family": "sans-serif",
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _GREY,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": _GREY,
        "grid.alpha": 0.22,
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
    }


def _measured_panel(axes: Axes, rows: Sequence[Row], front: Sequence[str]) -> None:
    axes.set_title("Measured here")
    axes.set_xlabel("FPS of the engine alone")
    axes.set_ylabel("mIoU, %")
    if not rows:
        axes.text(0.5, 0.5, "no labelled images", transform=axes.transAxes, ha="center", color=_GREY)
        return
    best = sorted((row for row in rows if row["id"] in front), key=lambda row: row["fps"])
    # Up to this speed one has that mIoU: the step falls where the next engine of the front takes over.
    x = [0.0, *(row["fps"] for row in best)]
    y = [_miou(best[0]), *map(_miou, best)]
    axes.step(x, y, where="pre", color=_INK, linewidth=1.1, linestyle=(0, (4, 2)), zorder=1.5)
    for row in rows:
        _point(axes, row, size=52, bold=row["id"] in front)
        spread = row["spread_ms"]
        low, high = (1000 * row["batch"] / spread[end] for end in ("q75", "q25"))
        axes.plot((low, high), (_miou(row),) * 2, color=_INK, linewidth=0.8, alpha=0.6, zorder=1.8)
    for _, group in _groups(rows):
        fastest = max(group, key=lambda row: row["fps"])
        axes.annotate(
            _title(fastest, rows),
            (fastest["fps"], _miou(fastest)),
            xytext=(6, 5),
            textcoords="offset points",
            fontsize="small",
            color=_INK,
        )
    reach = max(1000 * row["batch"] / row["spread_ms"]["q25"] for row in rows)
    axes.set_xlim(0, max(1.22 * max(row["fps"] for row in rows), 1.04 * reach))
    values = list(map(_miou, rows))
    margin = max(0.12 * (max(values) - min(values)), 0.25)
    axes.set_ylim(min(values) - margin, max(values) + 1.6 * margin)


def _context_panel(axes: Axes, rows: Sequence[Row], report: Report) -> None:
    """Measured and published in one; what was published with only an mIoU, on the same data, is at the right edge."""
    beside = ["published figures"] * bool(report["published"]) + ["estimates"] * bool(report["estimates"])
    axes.set_title("Beside " + " and ".join(beside))
    axes.set_ylabel("mIoU, %")
    for row in rows:
        _point(axes, row, size=26, bold=False)
    for entry in report["estimates"]:
        if entry.get("miou") is not None:
            marker = PRECISION_MARKERS[entry["precision"]]
            axes.scatter(entry["fps"], _miou(entry), 26, marker=marker, c="none", edgecolors=_ESTIMATE, zorder=2)
    both = [entry for entry in report["published"] if entry.get("miou") and entry.get("fps")]
    for figure in both:
        axes.scatter(figure["fps"], _miou(figure), 30, marker="D", c="none", edgecolors=_GREY, zorder=2)
        _write(axes, str(figure["number"]), (figure["fps"], _miou(figure)), (5, 3))
    for device, entries in _by_device(both):
        slowest = min(entries, key=lambda entry: float(entry["fps"]))
        text = f"{device}, {slowest['dataset'].capitalize()}"
        _write(axes, text, (slowest["fps"], _miou(slowest)), (-3, 9))
    same = sorted((entry for entry in report["published"] if _same_data(entry, report)), key=lambda e: float(e["miou"]))
    values = [*map(_miou, both), *map(_miou, rows), *map(_miou, same)] or [0.0, 100.0]
    low, high = min(values), max(values)
    margin = 0.07 * max(high - low, 1.0)
    axes.set_ylim(low - margin, high + 1.4 * margin)
    heights = _apart(list(map(_miou, same)), 0.62 * margin)
    for figure, height in zip(same, heights):
        y = _miou(figure)
        axes.plot((0.975, 1.0), (y, y), transform=axes.get_yaxis_transform(), color=_GREY, linewidth=1.2)
        text = f"{figure['number']} {figure['model']}"
        edge = axes.get_yaxis_transform()
        axes.plot((1.0, 1.02), (y, height), transform=edge, color=_GREY, linewidth=0.5, clip_on=False)
        _write(axes, text, (1.025, height), (0, -2.5), edge)


def _speeds_alone(report: Report) -> list[Published]:
    """What was published with a speed and no mIoU."""
    return [entry for entry in report["published"] if entry.get("fps") and not entry.get("miou")]


def _devices_panel(axes: Axes, report: Report) -> None:
    """What was published with only a speed, one line per device."""
    devices = _by_device(_speeds_alone(report))
    for place, (_, entries) in enumerate(devices):
        for entry in entries:
            axes.scatter(entry["fps"], place, 24, marker="D", c="none", edgecolors=_GREY, zorder=2)
            _write(axes, str(entry["number"]), (entry["fps"], place), (4, 2))
    axes.set_yticks(range(len(devices)), [device.removeprefix("Jetson ") for device, _ in devices], fontsize="small")
    axes.set_ylim(len(devices) - 0.4, -0.7)
    axes.set_title("Published FPS of other networks", fontsize="medium", fontweight="normal")


def _speed_axis(axes: Axes, report: Report, narrow: bool) -> None:
    """The logarithmic axis of speed that the panels beside the measured one share."""
    axes.set_xscale("log")
    known = [*_speeds_alone(report), *report["rows"], *report["estimates"]]
    known += [entry for entry in report["published"] if entry.get("miou") and entry.get("fps")]
    axes.set_xlim(min(entry["fps"] for entry in known) / 1.5, 1.6 * max(entry["fps"] for entry in known))
    axes.set_xlabel("FPS, logarithmic" + ("" if narrow or not report["published"] else "; grey: published"))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _by_device(entries: Sequence[Published]) -> list[tuple[str, list[Published]]]:
    devices: dict[str, list[Published]] = {}
    for entry in entries:
        devices.setdefault(entry.get("device", "other devices"), []).append(entry)
    return list(devices.items())


def _apart(values: Sequence[float], gap: float) -> list[float]:
    """Heights for labels of rising values, each at least ``gap`` above the one before, moved as little as is easy."""
    heights = list(values)
    for _ in range(200):
        for place in range(1, len(heights)):
            missing = gap - (heights[place] - heights[place - 1])
            if missing > 1e-6:
                heights[place - 1] -= missing / 2
                heights[place] += missing / 2
    return heights


def _write(
    axes: Axes, text: str, place: tuple[float, float], shift: tuple[float, float], transform: Any = None
) -> None:
    """A small grey label: a number is that of the table of published figures."""
    axes.annotate(
        text,
        place,
        xycoords=transform or "data",
        xytext=shift,
        textcoords="offset points",
        fontsize="x-small",
        color=_GREY,
        annotation_clip=False,
    )


def _miou(entry: Row | EstimateRow | Published) -> float:
    """In percent, of an entry that has one."""
    miou = entry.get("miou")
    assert miou is not None
    return 100 * miou


def _point(axes: Axes, row: Row, *, size: float, bold: bool) -> None:
    axes.scatter(
        row["fps"],
        _miou(row),
        size * (1.25 if row["precision"] == "int8" else 1.0),
        marker=PRECISION_MARKERS[row["precision"]],
        c=RUNTIME_COLOURS[row["runtime"]],
        edgecolors=_INK if bold else _PAPER,
        linewidths=1.4 if bold else 0.6,
        zorder=3 if bold else 2.5,
    )


def _legend(figure: Any, rows: Sequence[Row], report: Report, narrow: bool) -> None:
    line = require("matplotlib.lines", "draw a report").Line2D

    def key(marker: str, colour: str, text: str, edge: str | None = None) -> Any:
        return line([], [], linestyle="", marker=marker, color=colour, markeredgecolor=edge or colour, label=text)

    keys = [
        key("o", colour, RUNTIME_TITLES[runtime])
        for runtime, colour in RUNTIME_COLOURS.items()
        if any(row["runtime"] == runtime for row in rows)
    ]
    keys += [
        key(marker, "none", precision.upper(), _INK)
        for precision, marker in PRECISION_MARKERS.items()
        if any(row["precision"] == precision for row in rows)
    ]
    keys.append(line([], [], color=_INK, linewidth=1.1, linestyle=(0, (4, 2)), label="Pareto front"))
    if report["published"]:
        keys.append(key("D", "none", "published", _GREY))
    if any(entry.get("miou") is not None for entry in report["estimates"]):
        keys.append(key("o", "none", "estimate", _ESTIMATE))
    place = "outside upper center" if narrow else "outside lower center"
    figure.legend(handles=keys, loc=place, ncols=3 if narrow else len(keys), frameon=False, handletextpad=0.3)


def _boxes(axes: Axes, rows: Sequence[Row], quantiles: Sequence[list[float] | None]) -> None:
    names = []
    for place, (row, values) in enumerate(zip(rows, quantiles)):
        names.append(f"{_title(row, rows)} {row['precision'].upper()} {_SHORT[row['runtime']]}")
        if values is None:
            continue
        colour = RUNTIME_COLOURS[row["runtime"]]
        axes.plot((values[5], values[99]), (place, place), color=colour, linewidth=1.4)
        axes.barh(place, values[75] - values[25], left=values[25], height=0.62, color=colour, alpha=0.45)
        axes.plot((values[50],) * 2, (place - 0.36, place + 0.36), color=_INK, linewidth=1.8)
        for share, marker in ((95, "|"), (99, ">")):
            axes.plot(values[share], place, marker=marker, color=colour, markersize=6)
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.grid(axis="y", visible=False)
    known = [values for values in quantiles if values is not None]
    if known:
        # One stall of the machine must not squeeze all boxes: beyond the limit a whisker just runs out of the picture.
        most = float(np.median([values[99] for values in known]))
        axes.set_xlim(0, max(1.15 * max(values[75] for values in known), 1.6 * most))


_SHORT = {"openvino": "OV", "onnxruntime": "ORT", "tensorrt": "TRT", "tensorrt-rtx": "RTX"}


def _groups(rows: Sequence[Row]) -> list[tuple[tuple[str, str], list[Row]]]:
    """Rows of one model at one size, together."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["model"], row["size"]), []).append(row)
    return list(groups.items())


def _title(row: Row, rows: Sequence[Row]) -> str:
    """The size, and the model where there are several."""
    size = str(row["size"]).replace("x", "×")
    return size if len({other["model"] for other in rows}) == 1 else f"{row['model']} {size}"


def _same_data(entry: Published, report: Report) -> bool:
    images = report["options"]["images"]
    here = (images["dataset"], images["split"])
    return bool(entry.get("miou")) and not entry.get("fps") and (entry.get("dataset"), entry.get("split")) == here

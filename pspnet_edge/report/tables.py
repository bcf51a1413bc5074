"""What a report says, as words and columns: the same for the page and for Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

from ..measure.facts import Environment
from ..records import counted
from .charts import RUNTIME_TITLES
from .facts import ClassGroup, ClassIou, Confusion, ConfusionRow, EstimateRow, NamedEstimate, Published, Report, Row

_Entry = TypeVar("_Entry")
Columns = list[tuple[str, Callable[[_Entry], str]]]
"""Headings, and what each shows of an entry."""


def findings(report: Report) -> list[dict[str, str]]:
    """The three or four figures that a reader wants first."""
    fastest = max(report["rows"], key=lambda row: row["fps"])
    digits = 1 if fastest["fps"] < 10 else 0
    found = [{"figure": f"{fastest['fps']:.{digits}f} FPS", "text": f"fastest: {_name(fastest, report)}"}]
    rated = [(round(row["miou"], 4), row["fps"], row) for row in report["rows"] if row["miou"] is not None]
    if rated:
        best = max(rated, key=lambda entry: entry[:2])[-1]
        found.append({"figure": f"{percent(best['miou'])} mIoU", "text": f"best: {_name(best, report)}"})
    for row in sorted(report["rows"], key=lambda row: -row["fps"]):
        exact = _exact(row, report["rows"])
        if row["precision"] == "int8" and exact is not None:
            cost = row["miou_change"]
            price = f"for {points(cost)} mIoU" if cost is not None else f"{percent(row['agreement'])} of pixels as FP32"
            figure = f"×{row['fps'] / exact['fps']:.2f} FPS"
            found.append({"figure": figure, "text": f"INT8 over FP32, {price}: {_name(row, report)}"})
            break
    thrift = [(row["power"]["fps_per_watt"] or 0.0, row) for row in report["rows"] if row["power"]]
    most, thrifty = max(thrift, key=lambda entry: entry[0], default=(0.0, None))
    if most and thrifty:
        figure = f"{most:.1f} FPS/W"
        found.append({"figure": figure, "text": f"most frames per joule: {_name(thrifty, report)}"})
    return found


def summary_lines(report: Report) -> list[str]:
    """What was measured, on what and how, in a sentence or two."""
    options, machine = report["options"], report["environment"]
    images = options["images"]
    name = f"{images['dataset']} {images['split']}" if images["dataset"] else "images without labels"
    if images.get("folder"):
        name = f"{images['folder']} ({name})"
    counts = {row["images"] for row in report["rows"] if row["images"]}
    many = f", {max(counts)} images" if counts else ""
    where = machine["board"] or f"{machine['processor']}, {machine['cores']} cores"
    busy = machine["load_at_start"] > BUSY * machine["cores"]
    models = list(dict.fromkeys(row["model"] for row in report["rows"]))
    labels = report["label_set"]
    classes = f" {len(labels['classes'])} classes: {', '.join(labels['classes'][:30])}" if labels else ""
    more = "…" if labels and len(labels["classes"]) > 30 else "."
    engines = counted(len(report["rows"]), "engine")
    measured = "mIoU on " if any(row["miou"] is not None for row in report["rows"]) else ""
    return [
        f"{'Model' if len(models) == 1 else 'Models'}: {', '.join(models)}.{classes}{more if classes else ''}",
        f"{engines} on {where}; {measured}{name}{many}; latency in {options['rounds']} interleaved "
        f"rounds of {options['seconds']:g} s, each in a fresh process. pspnet-edge {machine['pspnet_edge']}, "
        f"{report['made_at'][:10]}.",
        *([busy_sentence(machine)] if busy else []),
    ]


PowerFigure = Literal["watts", "fps_per_watt", "gpu_mhz", "celsius", "throttled"]
BUSY = 0.6
"""Of the cores: when other programs already kept so many busy, times say more of them than of the engines."""


def busy_sentence(machine: Environment) -> str:
    """What to think of times that were taken on a busy machine."""
    return (
        f"Other programs kept the machine busy when this began (load {machine['load_at_start']} on {machine['cores']} "
        "cores): expect its times to be too slow and their spread to be large."
    )


def result_columns(report: Report) -> Columns[Row]:
    """Headings of the table of results, and what each shows of a row."""
    rows = report["rows"]
    front = set(report["pareto"])
    columns: Columns[Row] = [
        ("engine", lambda row: _name(row, report) + (" ◆" if row["id"] in front else "")),
        ("FPS", lambda row: f"{row['fps']:.1f}"),
        ("p50 ms (IQR)", _median_and_spread),
        ("p95 / p99", lambda row: f"{row['latency_ms']['p95']:.1f} / {row['latency_ms']['p99']:.1f}"),
        ("loop FPS", lambda row: f"{row['loop']['fps']:.1f}" if row["loop"] else "–"),
        ("loop p50 / p95 / p99", _loop),
    ]
    if any(row["miou"] is not None for row in rows):
        columns.append(("mIoU", lambda row: percent(row["miou"])))
        columns.append(("change, pp", lambda row: points(row["miou_change"]).removesuffix(" pp")))
    if any(row["agreement"] is not None for row in rows):
        columns.append(("pixels as FP32", lambda row: percent(row["agreement"])))
    if any(row["power"] for row in rows):
        columns.append(("W", lambda row: _of_power(row, "watts", "{:.1f}")))
        columns.append(("FPS/W", lambda row: _of_power(row, "fps_per_watt", "{:.2f}")))
        columns.append(("GPU MHz", lambda row: _of_power(row, "gpu_mhz", "{:.0f}")))
        columns.append(("°C", lambda row: _of_power(row, "celsius", "{:.0f}")))
        columns.append(("throttled", lambda row: _of_power(row, "throttled", "{:.0%}")))
    columns += [
        ("GMAC", lambda row: f"{row['gmac']:.2f}" if row["gmac"] is not None else "–"),
        ("INT8 MACs", lambda row: f"{row['int8_mac_fraction']:.1%}" if row["int8_mac_fraction"] is not None else "–"),
        ("MB", lambda row: f"{row['engine_bytes'] / 1e6:.1f}"),
        ("build s", lambda row: f"{row['build_s']:.1f}" if row["build_s"] is not None else "–"),
        ("peak RAM MB", lambda row: f"{row['peak_memory_bytes'] / 1e6:.0f}"),
    ]
    return columns


ESTIMATE_COLUMNS: Columns[EstimateRow] = [
    ("board (estimate)", lambda entry: entry["board_title"]),
    ("power mode", lambda entry: entry["power_mode"]),
    ("engine", lambda entry: f"{entry['model']} {entry['size'].replace('x', '×')} {entry['precision'].upper()}"),
    ("FPS, estimated", lambda entry: estimated_fps(entry)),
    ("ms, estimated", lambda entry: f"{entry['latency_ms']:.2f}"),
    ("ms without our kernels", lambda entry: f"{entry.get('graph_ends_ms', entry['latency_ms']):.2f}"),
    ("bound by", lambda entry: ", ".join(f"{name} {share:.0%}" for name, share in entry["bound_by"].items())),
    ("mIoU measured here", lambda entry: percent(entry.get("miou"))),
]
PUBLISHED_COLUMNS: Columns[Published] = [
    ("no.", lambda entry: str(entry["number"])),
    ("model", lambda entry: entry["model"] + (f" {entry['precision'].upper()}" if "precision" in entry else "")),
    ("device", lambda entry: ", ".join(filter(None, (entry.get("device"), entry.get("runtime")))) or "–"),
    ("data", lambda entry: " ".join(filter(None, (entry.get("dataset"), entry.get("split")))) or "–"),
    ("input", lambda entry: entry.get("input", "–").replace("x", "×")),
    ("mIoU", lambda entry: percent(entry.get("miou")) if "miou_change" not in entry else points(entry["miou_change"])),
    ("FPS", lambda entry: f"{entry['fps']:g}" if "fps" in entry else "–"),
    ("source", lambda entry: "; ".join(filter(None, (entry["source"], entry.get("note"))))),
]


def class_groups(report: Report) -> list[ClassGroup]:
    """IoU by class, worst first in FP32 (or the first precision), for each model, size and runtime.

    Returns:
        ``title``; ``names`` of the engines compared; ``classes``: ``class``, ``iou`` by engine name, ``worst_change``.
    """
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in report["rows"]:
        if row["per_class_iou"]:
            groups.setdefault((row["model"], row["size"], row["runtime"]), []).append(row)
    found: list[ClassGroup] = []
    for (model, size, runtime), rows in groups.items():
        rows = sorted(rows, key=lambda row: ("fp32", "fp16", "int8").index(row["precision"]))
        names = [row["precision"].upper() for row in rows]
        by_name = {name: row["per_class_iou"] or {} for name, row in zip(names, rows)}
        first = by_name[names[0]]
        order = sorted(first, key=lambda label: first[label] if first[label] is not None else 2.0)
        classes: list[ClassIou] = [
            {"class": label, "iou": {name: by_name[name].get(label) for name in names}} for label in order
        ]
        title = f"{model}, {size.replace('x', '×')}, {RUNTIME_TITLES[runtime]}"
        found.append({"title": title, "names": names, "classes": classes})
    return found


_MOST_CLASSES = 32
"""Of a confusion matrix on the page; a larger one is only in report.json."""


def confusions(report: Report) -> list[Confusion]:
    """The confusion matrices of the engines on the front, most accurate first, as shares of each label's pixels.

    Returns:
        ``title``; ``classes``; ``rows``: each with ``class`` and ``shares``, None where no pixel has that label.
    """
    labels = report["label_set"]
    found: list[Confusion] = []
    for row in sorted(report["rows"], key=lambda row: -(row["miou"] or 0)):
        counts = row.get("confusion_matrix")
        if row["id"] not in report["pareto"] or not counts or not labels or len(counts) > _MOST_CLASSES:
            continue
        names = labels["classes"]
        if len(names) != len(counts) or any(len(line) != len(counts) for line in counts):
            continue
        rows: list[ConfusionRow] = [
            {"class": name, "shares": [count / sum(line) if sum(line) else None for count in line]}
            for name, line in zip(names, counts)
        ]
        found.append({"title": _name(row, report), "classes": names, "rows": rows})
    return found


def environment_facts(report: Report) -> list[tuple[str, str]]:
    """The environment and the options as pairs of words, what is unknown left out."""
    machine, options = report["environment"], report["options"]
    held = {None: None, True: "held by jetson_clocks", False: "not held: jetson_clocks is off"}[
        machine["jetson_clocks"]
    ]
    clock = machine["cpu_max_mhz"]
    facts = [
        ("board", machine["board"]),
        ("module", machine["module"]),
        ("JetPack", machine["jetpack"]),
        ("L4T", machine["l4t"]),
        ("power mode", machine["power_mode"]),
        ("clocks", held),
        ("processor", f"{machine['processor']}, {machine['cores']} cores"),
        ("instructions", ", ".join(machine["instructions"])),
        ("processor clock", f"up to {clock:.0f} MHz" if clock else None),
        ("governor", machine["governor"]),
        ("memory", f"{machine['memory_bytes'] / 1e9:.1f} GB"),
        ("load when it began", str(machine["load_at_start"])),
        ("system", machine["system"]),
        ("Python", machine["python"]),
        *((name, version) for name, version in machine["packages"].items()),
        ("video of the loop", options["video"]),
        ("made at", report["made_at"]),
        ("not known here", ", ".join(name for name in ("board", "power_mode", "governor") if not machine[name])),
    ]
    return [(name, str(text)) for name, text in facts if text]


def percent(value: float | None) -> str:
    """A fraction as percent with two places; a dash for None."""
    return "–" if value is None else f"{100 * value:.2f}%"


def points(value: float | None) -> str:
    """A difference of fractions in percentage points, ``−0.01 pp``; a dash for None."""
    if value is None:
        return "–"
    # Rounded first: a change of −0.000001 is no change.
    return f"{round(100 * value, 2) + 0.0:+.2f} pp".replace("-", "−")


def estimated_fps(entry: NamedEstimate) -> str:
    """``264 (176–397)``; reports of 0.1 have no error bar."""
    bar = f" ({entry['fps_low']:.0f}–{entry['fps_high']:.0f})" if "fps_low" in entry else ""
    return f"{entry['fps']:.0f}{bar}"


def _name(row: Row, report: Report) -> str:
    several = len({other["model"] for other in report["rows"]}) > 1
    model = f"{row['model']} " if several else ""
    return f"{model}{row['size'].replace('x', '×')} {row['precision'].upper()} {RUNTIME_TITLES[row['runtime']]}"


def _exact(row: Row, rows: Sequence[Row]) -> Row | None:
    same = (row["model"], row["size"], row["runtime"])
    exact = (other for other in rows if other["precision"] == "fp32")
    return next((other for other in exact if (other["model"], other["size"], other["runtime"]) == same), None)


def _median_and_spread(row: Row) -> str:
    spread = row["spread_ms"]
    return f"{row['latency_ms']['p50']:.2f} ({spread['q75'] - spread['q25']:.2f})"


def _loop(row: Row) -> str:
    if not row["loop"]:
        return "–"
    latency = row["loop"]["latency_ms"]
    return f"{latency['p50']:.1f} / {latency['p95']:.1f} / {latency['p99']:.1f}"


def _of_power(row: Row, name: PowerFigure, form: str) -> str:
    value = row["power"][name] if row["power"] else None
    return "–" if value is None else form.format(value)

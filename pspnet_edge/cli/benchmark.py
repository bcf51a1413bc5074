"""``pspnet-edge benchmark``: what each frame per second costs in mIoU, as a report."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import labelled_name, parse_size, refuse_given
from .output import JsonFlag, progress, result, say

if TYPE_CHECKING:
    from ..report.facts import NamedEstimate, Report


_MEASURING = (
    "models", "precision", "size", "runtime", "dataset", "root", "split", "video", "calibration", "rounds", "seconds",
    "estimate", "fresh",
)  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("benchmark")(benchmark)


def benchmark(
    context: typer.Context,
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL…", help="Bundled names, .onnx, .pt, .pspnet or engine files."),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            metavar="fp32|fp16|int8",
            help="Repeatable, or comma-separated. Default: all; int8 only if the model has a calibration table.",
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HEIGHTxWIDTH",
            help="Input sizes, likewise. Sizes other than the model's own need its .pt and torch.",
        ),
    ] = None,
    runtime: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="As for `build`, likewise. Default: auto.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Labelled data set for mIoU, as for `evaluate`. Default: scenes (synthetic streets)."
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Its folder; detected without --dataset. Unlabelled images measure agreement with FP32.",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Split to measure mIoU on. Default: test, else val, else the images held out of training, else all.",
        ),
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option("--input", metavar="FILE", help="Video for the camera loop. Default: the synthetic drive."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Calibration table, as for `build`; of several models for the one it fits."),
    ] = None,
    rounds: Annotated[
        int, typer.Option(metavar="N", min=2, help="Timing rounds; in each, the engines take turns.")
    ] = 7,
    seconds: Annotated[float, typer.Option(metavar="S", min=0.05, help="Seconds per engine and round.")] = 1.0,
    estimate: Annotated[
        list[str] | None, typer.Option(metavar="BOARD", help="Also estimate FPS on a board, such as orin-nano.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="OLD.json", help="Compare with an older report; exit status 1 on a regression."),
    ] = None,
    from_report: Annotated[
        Path | None, typer.Option("--from", metavar="REPORT.json", help="Measure nothing; render this report again.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over instead of resuming an interrupted benchmark.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Report folder. Default: report.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the report in --output instead of writing to DIR-2.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure latency, mIoU, size and memory side by side; write report.html, .md, .json and .png.

    With --estimate and none of -o, --dataset, --root, --input, --against and --from, nothing is measured.

    Examples:

      pspnet-edge benchmark runs/a/best.pt runs/b/best.pt --root my_data

      pspnet-edge benchmark --precision fp32,int8 -o now --against last/report.json

      pspnet-edge benchmark --estimate orin-nano
    """
    from ..lazy import install_command
    from ..report.compare import compare
    from ..report.measured import Wanted, forget_work, measured_report
    from ..report.place import opened_report_folder
    from ..report.render import PICTURES, can_draw, read_report, write_report

    if from_report is not None:
        refuse_given(context, _MEASURING, "belongs to measuring, and --from renders what was measured")
    if estimate and not any((output, dataset, root, video, against, from_report)):
        _estimate_only(models or [], _listed(precision), _listed(size), calibration, _listed(estimate), as_json)
        return
    old = read_report(against) if against else None
    named: str | None = "scenes"
    if from_report is None and (dataset is not None or root is not None):
        named = labelled_name(dataset, root)
    place = output or Path("report")
    with opened_report_folder(place, overwrite=overwrite, source=from_report, baseline=against, say=say) as folder:
        if not can_draw():
            say(
                f"report.html and report.png need matplotlib and jinja2: {install_command('report')}, "
                "or make them elsewhere with --from report.json"
            )
        if from_report is not None:
            report, pictures = read_report(from_report), from_report.parent / PICTURES
        else:
            pictures = folder / PICTURES
            wanted = Wanted(
                models=models or [],
                precisions=_listed(precision),
                sizes_hw=[parse_size(text) for text in _listed(size)],
                runtimes=_listed(runtime) or ["auto"],
                dataset=named,
                root=root,
                split=split,
                video=video,
                calibration=calibration,
                rounds=rounds,
                seconds=seconds,
                boards=_listed(estimate),
            )
            command = shlex.join(["pspnet-edge", *sys.argv[1:]])
            report = measured_report(wanted, folder, command=command, fresh=fresh, progress=progress, say=say)
        report["against"] = compare(old, report, str(against)) if old else None
        files = write_report(report, folder, pictures)
        if from_report is None:
            forget_work(folder)
    result({**report, "files": [str(path) for path in files]}, as_json, _summary(report, files))
    if report["against"] and report["against"]["regressed"]:
        raise typer.Exit(1)


def _estimate_only(
    models: list[str],
    precisions: list[str],
    sizes: list[str],
    calibration: Path | None,
    boards: list[str],
    as_json: bool,
) -> None:
    from ..engine.build import check_precision
    from ..engine.model import prepare_model
    from ..graph.onnx_file import read_model
    from ..graph.precision import PRECISIONS
    from ..report.document import estimates_of

    for name in precisions:
        check_precision(name)
    found = []
    for name in models or [""]:
        for size in sizes or [""]:
            model = prepare_model(name or None, parse_size(size) if size else None)
            found.append((model, read_model(model.path).shape_nhw[1:]))
    estimates = estimates_of(found, precisions or PRECISIONS, boards)
    lines = [_estimate_line(entry) for entry in estimates]
    lines.append("In brackets: within a factor of 1.5, as 49 of 50 published figures are (docs/estimate.md).")
    lines.append("With -o DIR the same models are also measured on this machine.")
    result({"rows": [], "pareto": [], "estimates": estimates, "files": []}, as_json, "\n".join(lines))


def _estimate_line(entry: NamedEstimate) -> str:
    from ..report.tables import estimated_fps

    what = f"{entry['model']} {entry['size']} {entry['precision']}"
    return f"estimate, not measured: {entry['board_title']}, {what}: {estimated_fps(entry)} FPS{_graph_ends(entry)}"


def _graph_ends(entry: NamedEstimate) -> str:
    """What the plan's own head and tail would give; nothing where that is all there is, or in an older report."""
    slower = entry.get("graph_ends_ms", entry["latency_ms"])
    if slower == entry["latency_ms"]:
        return ""
    return f", {entry['fps'] * entry['latency_ms'] / slower:.0f} with --head graph --tail graph"


def _listed(values: list[str] | None) -> list[str]:
    """``["a,b", "c"]`` → ``["a", "b", "c"]``."""
    return [part.strip() for value in values or [] for part in value.split(",") if part.strip()]


def _summary(report: Report, files: list[Path]) -> str:
    lines = [f"{'engine':<50}{'FPS':>8}{'p50 ms':>9}{'p99 ms':>9}{'loop FPS':>10}{'mIoU':>8}{'change':>9}"]
    for row in report["rows"]:
        miou = "–" if row["miou"] is None else f"{row['miou']:.4f}"
        change = "–" if row["miou_change"] is None else f"{row['miou_change']:+.4f}"
        if row["miou"] is None and row["agreement"] is not None:
            miou = f"={row['agreement']:.3f}"
        loop = f"{row['loop']['fps']:.1f}" if row["loop"] else "–"
        latency = row["latency_ms"]
        lines.append(
            f"{row['id']:<50}{row['fps']:>8.1f}{latency['p50']:>9.2f}{latency['p99']:>9.2f}{loop:>10}{miou:>8}{change:>9}"
        )
    if any(row["miou"] is None and row["agreement"] is not None for row in report["rows"]):
        lines.append("=: mIoU could not be measured, so this is the share of the pixels whose class is that of FP32")
    for entry in report["estimates"]:
        lines.append(_estimate_line(entry))
    if report["against"]:
        lines += [f"against {report['against']['old']}:", *report["against"]["lines"]]
    return "\n".join([*lines, *map(str, files)])

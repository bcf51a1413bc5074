"""``pspnet-edge build``: model → engine."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..records import counted
from .options import (
    CapabilityOption,
    DlaOption,
    HardwareCompatibleFlag,
    HeadOption,
    MinConfidenceOption,
    OptimizationOption,
    PrecisionOption,
    RuntimeOption,
    TailOption,
    VersionCompatibleFlag,
    WorkspaceOption,
)
from .output import JsonFlag, progress, result, say

if TYPE_CHECKING:
    from ..graph.calibration_table import Accuracy

_int8 = partial(typer.Option, rich_help_panel="INT8")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("build")(build)


def build(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="Bundled name, .onnx, .pt or .pspnet file. Default: the bundled model."),
    ] = None,
    precision: PrecisionOption = "auto",
    runtime: RuntimeOption = "auto",
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HEIGHTxWIDTH",
            help="Input size. To change it, give the .pt (an .onnx has a fixed size); needs torch.",
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        _int8(metavar="FILE", help="Calibration table. Default: the bundled one, or MODEL.calib.json next to MODEL."),
    ] = None,
    flavour: Annotated[
        str,
        _int8(
            metavar="auto|symmetric|uint8",
            help="Activations: symmetric int8, which TensorRT needs, or uint8, which auto chooses for other runtimes.",
        ),
    ] = "auto",
    max_drop: Annotated[
        float | None,
        _int8(
            metavar="F", help="Maximum mIoU loss, e.g. 0.003: the layers that cost most stay unquantized. Needs images."
        ),
    ] = None,
    dataset: Annotated[str | None, _int8(metavar="NAME", help="Data set to measure --max-drop on.")] = None,
    root: Annotated[
        Path | None,
        _int8(
            "--root",
            "--data-root",
            metavar="DIR",
            help="Its folder; detected without --dataset. Unlabelled images work too.",
        ),
    ] = None,
    split: Annotated[
        str | None,
        _int8(
            metavar="NAME",
            help="Split to measure --max-drop on; not the one you report results on. Default: val, else the images "
            "held out of training, else all.",
        ),
    ] = None,
    scores: Annotated[
        bool, typer.Option("--scores", help="Add per-pixel confidence as a second output; not for TensorRT.")
    ] = False,
    search: Annotated[
        bool,
        typer.Option(
            "--search",
            help="Try INT8, INT8 with depthwise convolutions unquantized, and FP16 or FP32; keep the fastest.",
        ),
    ] = False,
    min_confidence: MinConfidenceOption = None,
    dla: DlaOption = None,
    version_compatible: VersionCompatibleFlag = False,
    hardware_compatible: HardwareCompatibleFlag = False,
    compute_capability: CapabilityOption = None,
    workspace: WorkspaceOption = None,
    head: HeadOption = "auto",
    tail: TailOption = "auto",
    optimization_level: OptimizationOption = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Engine file. Default: a file in the user's cache."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Build an engine from a model. INT8 needs a calibration table (see `calibrate`); bundled models have one.

    Examples:

      pspnet-edge build -o pspnet.engine

      pspnet-edge build mine.onnx --precision int8 --max-drop 0.003 --root my_data -o mine.engine
    """
    from ..doctor.board import check_clocks
    from ..doctor.system import RealSystem
    from ..doctor.verdict import Wanted
    from ..engine.backends import backend_of, choose_runtime
    from ..engine.build import (
        Gate,
        build_engine,
        check_precision,
        choose_precision,
        default_engine_path,
        images_of_gate,
    )
    from ..engine.model import prepare_model
    from ..engine.search import build_fastest
    from ..engine.tensorrt.builder import BuildOptions, target_sentence
    from ..errors import OptionError
    from ..graph.onnx_file import read_model
    from .options import parse_size

    check_precision(precision)
    source, chosen = prepare_model(model, parse_size(size) if size else None), choose_runtime(runtime)
    if search and precision != "auto":
        raise OptionError(f"--search chooses the precision, and --precision {precision} was given: leave one out")
    if search and (scores or flavour != "auto" or min_confidence is not None):
        raise OptionError("--search takes neither --scores, --flavour nor --min-confidence: leave --search out")
    precision = choose_precision(precision, source, chosen, calibration)
    path = output or default_engine_path(source, precision, chosen, min_confidence)
    workspace_bytes = workspace and workspace << 20
    options = BuildOptions(
        dla,
        version_compatible,
        hardware_compatible,
        compute_capability,
        workspace_bytes,
        tail,
        head,
        optimization_level,
    )
    if backend_of(chosen).on_gpu:
        say(target_sentence(chosen))
        clocks = check_clocks(RealSystem(), Wanted())
        if clocks.state == "warn":
            # The builder chooses kernels by timing them.
            say(clocks.says)
    elif options != BuildOptions():
        raise OptionError(f"an option for TensorRT was given and the runtime is {chosen}: add --runtime tensorrt")
    say(f"building {source.name}, {precision}, {chosen}")
    with progress("build", None) as advance:
        gate = None
        if max_drop is not None:
            gate = Gate(max_drop, *images_of_gate(read_model(source.path), dataset, root, split, say), on_step=advance)
        own = options if backend_of(chosen).on_gpu else None
        if search:
            facts = build_fastest(source, chosen, path, calibration=calibration, gate=gate, options=own, report=advance)
            precision = facts["precision"]
        else:
            facts = build_engine(
                source,
                precision,
                chosen,
                path,
                calibration=calibration,
                gate=gate,
                flavour=flavour,
                scores=scores,
                min_confidence=min_confidence,
                options=own,
                report=advance,
            )
    for tried in facts.get("search", ()):
        say(f"{tried['name']}: {tried['latency_ms']:.2f} ms{', kept' if tried['kept'] else ''}")
    if accuracy := facts.get("accuracy"):
        say(accuracy_sentence(accuracy))
    if facts.get("decision_saved_to"):
        say(f"saved to {facts['decision_saved_to']}: builds with this table leave the same layers unquantized")
    summary = f"{path}: {source.name}, {precision}, {chosen}, {facts['int8_mac_fraction']:.1%} of MACs in INT8"
    classes = facts.pop("label_set")["classes"]
    # Machine code, of use in the sidecar alone.
    if beginning := facts.get("head"):
        del beginning["kernels"]
    if ending := facts.get("tail"):
        del ending["kernels"]
    result({"engine": str(path), "engine_bytes": path.stat().st_size, **facts, "classes": classes}, as_json, summary)


def accuracy_sentence(accuracy: Accuracy) -> str:
    """What the gate measured and decided, for people."""
    left = accuracy["left_in_float"]
    names = ", ".join(f"{cost['layer']} (changes {cost['disagreement']:.2%} of the mask)" for cost in left)
    drop = accuracy["drop"]
    change = f"lost {drop:.4f} of {accuracy['max_drop']} allowed" if drop >= 0 else f"gained {-drop:.4f}"
    metric = {"miou": "mIoU"}.get(accuracy["metric"], accuracy["metric"])
    return (
        f"{metric} on {counted(accuracy['images'], 'image')}, {accuracy['measured_on']}, in ONNX Runtime: "
        f"FP32 {accuracy['fp32']:.4f}, INT8 {accuracy['int8']:.4f}, {change}; "
        + (f"left unquantized: {names}" if left else "every layer in INT8")
    )

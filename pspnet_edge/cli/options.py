"""Options that several commands share, and the engine that is meant when none is named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .output import say

if TYPE_CHECKING:
    from ..engine.engine import Engine

EngineArgument = Annotated[
    Path | None, typer.Argument(metavar="[ENGINE]", help="An engine file; left out, the default one is built.")
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", metavar="MODEL", help="Without ENGINE: a bundled name, .onnx or .pt to build from."),
]
PrecisionOption = Annotated[str, typer.Option(metavar="fp32|fp16|int8", help="Precision of the engine.")]
RuntimeOption = Annotated[
    str,
    typer.Option(
        metavar="auto|tensorrt|openvino|onnxruntime|tensorrt-rtx",
        help="auto: TensorRT where a GPU is, else OpenVINO, else ONNX Runtime. tensorrt-rtx builds without a GPU.",
    ),
]
DlaOption = Annotated[int | None, typer.Option(metavar="CORE", min=0, help="TensorRT: run what can on this DLA core.")]
VersionCompatibleFlag = Annotated[
    bool, typer.Option("--version-compatible", help="TensorRT: a plan that later releases of this major open too.")
]
HardwareCompatibleFlag = Annotated[
    bool, typer.Option("--hardware-compatible", help="TensorRT: a plan for every GPU from Ampere on, not on Jetson.")
]
CapabilityOption = Annotated[
    str | None,
    typer.Option(metavar="X.Y", help="TensorRT-RTX: the one GPU to build for. Default: every one that it knows."),
]
TailOption = Annotated[
    str,
    typer.Option("--tail", metavar="graph|kernel", help="TensorRT: upsampling and argmax in the plan or in a kernel."),
]
WorkspaceOption = Annotated[
    int | None, typer.Option("--workspace", metavar="MIB", min=1, help="TensorRT: scratch memory a layer may take.")
]
DatasetOption = Annotated[
    str, typer.Option(metavar="camvid|voc|cityscapes|folder|scenes", help="Which labelled data set.")
]
RootOption = Annotated[Path | None, typer.Option(metavar="DIR", help="Its folder; scenes needs none.")]


def engine_or_default(path: Path | None, model: str | None, precision: str, runtime: str) -> Engine:
    """Open the engine that was named, or build the default one into the user's cache and say so."""
    from ..engine.backends import open_engine
    from ..engine.build import cached_engine, check_precision, choose_runtime, find_model

    if path is None:
        check_precision(precision)
        source, chosen = find_model(model), choose_runtime(runtime)
        path, was_built = cached_engine(source, precision, chosen)
        say(f"{'built' if was_built else 'using'} {source.name}, {precision}, {chosen}: {path}")
    return open_engine(path)

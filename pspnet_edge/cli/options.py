"""Options that several commands share, how a size is written, and which engine an ENGINE argument means."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..bundled import names_model
from ..inputs import size_of_text
from .output import say

if TYPE_CHECKING:
    from ..data.datasets import Dataset
    from ..engine.engine import Engine
    from ..pixels import PixelFormat

_tensorrt = partial(typer.Option, rich_help_panel="TensorRT")

EngineArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="ENGINE",
        help="Engine, or a model to build first: a bundled name, an .onnx or .pt file, or a pack (.pspnet). "
        "Default: the bundled model.",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", metavar="MODEL", help="Without ENGINE: the model to build from.", hidden=True),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        metavar="auto|fp32|fp16|int8", help="auto: int8 if there is a calibration table, else fp16 on a GPU, else fp32."
    ),
]
RuntimeOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="tensorrt, openvino, onnxruntime, or tensorrt-rtx (builds without a GPU). auto: the first available.",
    ),
]
DlaOption = Annotated[
    int | None,
    _tensorrt(metavar="CORE", min=0, help="Run the layers that DLA supports on this core, the others on the GPU."),
]
VersionCompatibleFlag = Annotated[
    bool,
    _tensorrt(
        "--version-compatible", help="Make the engine load in later releases of the same TensorRT major version."
    ),
]
HardwareCompatibleFlag = Annotated[
    bool, _tensorrt("--hardware-compatible", help="Make the engine run on any GPU from Ampere on; not for Jetson.")
]
CapabilityOption = Annotated[
    str | None, _tensorrt(metavar="X.Y", help="TensorRT-RTX: build for this compute capability only. Default: all.")
]
HeadOption = Annotated[
    str,
    _tensorrt(
        "--head",
        metavar="auto|graph|kernel",
        help="Resizing and normalization: on the CPU and in the engine (graph) or in our CUDA kernel; auto: as --tail.",
    ),
]
TailOption = Annotated[
    str,
    _tensorrt(
        "--tail",
        metavar="auto|graph|kernel",
        help="Upsampling and argmax: in the engine (graph) or in our CUDA kernel; auto: kernel if exact on this GPU.",
    ),
]
OptimizationOption = Annotated[
    int | None,
    _tensorrt(
        "--optimization-level",
        metavar="0-5",
        min=0,
        max=5,
        help="TensorRT's builder optimization level: higher tries more kernels and builds longer. Default: 3.",
    ),
]
WorkspaceOption = Annotated[
    int | None, _tensorrt("--workspace", metavar="MIB", min=1, help="Limit on scratch memory per layer.")
]
MinConfidenceOption = Annotated[
    float | None,
    typer.Option("--min-confidence", metavar="P", help="Mark pixels 255 (unknown) whose class probability is below P."),
]
DatasetOption = Annotated[
    str | None,
    typer.Option(
        metavar="camvid|voc|cityscapes|folder|scenes",
        help="Labelled data set. Default: detected from --root; without --root, scenes (synthetic streets).",
    ),
]
RootOption = Annotated[Path | None, typer.Option(metavar="DIR", help="Data set folder; not needed for scenes.")]


def parse_size(text: str, option: str = "--size") -> tuple[int, int]:
    """``"384x480"`` → ``(384, 480)``: height and width in pixels.

    Raises:
        OptionError: it is not a size, or larger than any network takes.
    """
    from ..errors import OptionError

    size = size_of_text(text)
    if size is None:
        raise OptionError(f"{text!r} is not a size", f"give {option} as HEIGHTxWIDTH in pixels, such as 384x480")
    return size


def parse_camera_size(text: str | None) -> tuple[int, int] | None:
    """The size to ask a camera for, ``(width, height)``. Up to 0.1 it was WIDTHxHEIGHT, which is still understood.

    Raises:
        OptionError: it is not a size.
    """
    if text is None:
        return None
    height, width = parse_size(text)
    if height > width:  # no camera is higher than wide
        say(f"--size is HEIGHTxWIDTH now: taking {height}x{width} as {width}x{height}")
        height, width = width, height
    return width, height


def engine_or_default(engine: str | os.PathLike[str] | None, model: str | None, precision: str, runtime: str) -> Engine:
    """Open an engine file, or build one into the user's cache and say so.

    Args:
        engine: an engine file, or a model to build from; None takes ``model``.
        model: without ``engine``, the model to build from; None is the default bundled model.
        precision: of an engine that is built, ``auto`` included.
        runtime: of an engine that is built, ``auto`` included.
    """
    from ..engine.backends import open_engine
    from ..engine.build import build_cached_engine, choose_precision, choose_runtime, prepare_model

    if engine is not None and not names_model(engine):
        return open_engine(engine, precision, runtime)
    source, chosen = prepare_model(engine if engine is not None else model), choose_runtime(runtime)
    chosen_precision = choose_precision(precision, source, chosen)
    path, was_built = build_cached_engine(source, chosen_precision, chosen)
    how = f"{chosen_precision} (auto)" if precision == "auto" else chosen_precision
    say(f"{'built' if was_built else 'using'} {source.name}, {how}, {chosen}: {path}")
    return open_engine(path)


def chosen_dataset(name: str | None, root: Path | None) -> str:
    """The data set that is meant: the named one, else what the folder holds, which is said; without a folder,
    scenes."""
    from ..data.recognize import dataset_or_scenes

    found = dataset_or_scenes(name, root)
    if name is None and root is not None:
        say(f"{root}: data set of layout {found}")
    return found


def refuse_given(context: typer.Context, names: Sequence[str], reason: str) -> None:
    """Usage error for the first option of ``names`` that was given on the command line."""
    for parameter in context.command.params:
        if parameter.name in names and is_given(context, parameter.name):
            named = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar
            raise typer.BadParameter(f"it {reason}: leave it out", context, param_hint=named)


def is_given(context: typer.Context, name: str) -> bool:
    """Whether a parameter was given on the command line."""
    # By name: typer brings its own click.
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def images_to_measure(
    name: str, root: Path | None, wanted: str, facts: Mapping[str, Any], pixels: PixelFormat | None = None
) -> tuple[Dataset, str]:
    """``unseen_images``; where they are not those of the wanted split, or trained on, it is said."""
    from ..data.held_out import about_images, unseen_images
    from ..pixels import PixelFormat

    images, split = unseen_images(name, root, wanted, facts, pixels or PixelFormat())
    if said := about_images(name, root, wanted, split, len(images), facts):
        say(said)
    return images, split


def labelled_name(name: str | None, root: Path | None) -> str | None:
    """The name of a labelled data set, or None where the folder holds bare images."""
    from ..data import recognize

    return recognize.labelled_name(name, root)

"""A model becomes an engine: precision, runtime, file, sidecar."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__, bundled
from ..artifact import atomic_path, ensure_writable, sha256_of, write_sidecar
from ..data.datasets import Dataset
from ..data.progress import Advance
from ..errors import BuildError, CalibrationError, EngineError, ModelError, OptionError
from ..graph.calibration_table import read_table
from ..graph.flavour import quantised_before_concat
from ..graph.onnx_file import ModelFile, read_model
from ..graph.precision import PRECISIONS, fp16_model
from ..graph.quantize import int8_mac_fraction, int8_model, with_uint8_activations
from ..graph.sensitivity import Images, gated_int8_model
from ..graph.tail import tail_by_class
from ..lazy import available, require
from .backends import CPU_RUNTIMES, RUNTIMES, TENSORRT_RUNTIMES, open_session, read_info, runtime_version
from .tensorrt.builder import BuildOptions, build_plan
from .tensorrt.gpu import find_gpu
from .tensorrt.session import check_here


@dataclass(frozen=True)
class Model:
    """A model to build from, with the calibration table that stands beside it."""

    name: str
    path: Path
    table_path: Path | None


FLAVOURS = ("auto", "symmetric", "uint8")
"""Of INT8: the canonical graph, or the one for x86; ``auto`` takes what the runtime is best at."""


@dataclass(frozen=True)
class Gate:
    """How much INT8 may lose, and what that is measured on."""

    max_drop: float
    images: Dataset | Images
    """Labelled pairs, or bare images, whose masks are held against FP32's."""
    images_name: str
    on_step: Advance = lambda done, note: None


def find_model(name: str | None) -> Model:
    """A bundled name, or the path of an ``.onnx`` or a ``.pt`` file; None is the default bundled model.

    A checkpoint is exported into the user's cache, at the size that `export` takes when none is given.

    Raises:
        ModelError: neither a bundled name nor a file, or a file that cannot be read.
        MissingPackage: exporting needs torch.
    """
    name = name or bundled.DEFAULT
    if name in bundled.names():
        return Model(name, bundled.onnx_path(name), bundled.table_path(name))
    path = Path(name)
    if path.suffix == ".pt":
        return _exported(path)
    read_model(path)
    return Model(path.stem, path, table_beside(path))


def table_beside(path: Path) -> Path | None:
    """The calibration table that stands beside a model or checkpoint, if one does."""
    beside = path.with_suffix(".calib.json")
    return beside if beside.is_file() else None


def _exported(checkpoint: Path) -> Model:
    if not checkpoint.is_file():
        raise ModelError(f"there is no checkpoint {checkpoint}: `pspnet-edge models` lists the bundled names")
    require("torch", f"export {checkpoint}")
    from ..graph.export import export_checkpoint

    path = cache_folder() / f"{checkpoint.stem}-{sha256_of(checkpoint)[:12]}.onnx"
    if not path.is_file():
        ensure_writable(path, sidecar=True)
        export_checkpoint(checkpoint, path)
    return Model(checkpoint.stem, path, table_beside(checkpoint) or table_beside(path))


def choose_runtime(wanted: str) -> str:
    """``auto`` takes TensorRT where a GPU is, else OpenVINO, else ONNX Runtime; a name is checked.

    Raises:
        OptionError: an unknown name, or none of the runtimes is installed.
    """
    if wanted == "auto":
        if available("tensorrt") and find_gpu() is not None:
            return "tensorrt"
        for runtime in CPU_RUNTIMES:
            if available(runtime):
                return runtime
        raise OptionError("no runtime is installed: pip install 'pspnet-edge[openvino]' or 'pspnet-edge[onnxruntime]'")
    if wanted not in RUNTIMES:
        raise OptionError(f"there is no runtime {wanted!r}: choose auto, {', '.join(RUNTIMES)}")
    return wanted


def cache_folder() -> Path:
    """The user's cache of engines and timing caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pspnet-edge"


def default_engine_path(model: Model, precision: str, runtime: str) -> Path:
    """Where an engine goes when nobody says: the user's cache, named by what it was made from."""
    fingerprint = sha256_of(model.path)[:12]
    return cache_folder() / f"{model.name}-{fingerprint}-{precision}-{runtime}.engine"


def build_engine(
    model: Model,
    precision: str,
    runtime: str,
    path: Path,
    *,
    calibration: Path | None = None,
    gate: Gate | None = None,
    flavour: str = "auto",
    tensorrt: BuildOptions | None = None,
    report: Advance = lambda done, note: None,
) -> dict[str, Any]:
    """Build an engine file and its sidecar; nothing is left when it fails.

    Args:
        model: what to build from.
        precision: ``fp32``, ``fp16`` or ``int8``.
        runtime: a name that ``choose_runtime`` gave.
        path: where the engine goes.
        calibration: a table for ``int8``; left out, the one beside the model.
        gate: how much ``int8`` may lose, and the images to measure it on.
        flavour: of ``int8``, a name in ``FLAVOURS``.
        tensorrt: further choices for the TensorRT runtimes.
        report: told how far a TensorRT build is.

    Returns:
        The sidecar's facts.

    Raises:
        OptionError, ModelError, CalibrationError, BuildError, OutputError: with the mend in the message.
    """
    check_precision(precision)
    ensure_writable(path, sidecar=True)
    source = read_model(model.path)
    graph, facts = _in_precision(source, precision, calibration or model.table_path, gate)
    facts["flavour"] = _chosen_flavour(flavour, precision, runtime)
    if facts["flavour"] == "uint8":
        graph = with_uint8_activations(graph)
    if runtime == "openvino":
        graph = _for_openvino(graph, precision)
    facts = {
        "model": model.name,
        "model_sha256": sha256_of(model.path),
        "runtime": runtime,
        "runtime_version": runtime_version(runtime),
        "precision": precision,
        "shape_nhw": source.shape_nhw,
        "label_set": source.label_set.facts(),
        **facts,
    }
    with atomic_path(path) as temporary:
        if runtime in TENSORRT_RUNTIMES:
            # TensorRT's own builder has the last word; running the plan needs a GPU, which may not be here.
            typed = graph if precision == "int8" else source
            plan = build_plan(
                runtime, typed, precision, tensorrt or BuildOptions(), cache=cache_folder(), report=report
            )
            temporary.write_bytes(plan.content)
            facts |= plan.facts
        else:
            _write_graph(temporary, graph, runtime, precision)
        # The sidecar comes first: a build killed between the two leaves no engine.
        write_sidecar(path, "engine", facts, content=temporary)
    return facts


def cached_engine(model: Model, precision: str, runtime: str) -> tuple[Path, bool]:
    """The engine in the user's cache, built now if it is not there or does not fit; and whether it was built."""
    path = default_engine_path(model, precision, runtime)
    try:
        info = read_info(path)
        if runtime in TENSORRT_RUNTIMES:
            check_here(path, info.facts)
        if info.facts["made_by"]["pspnet_edge"] == __version__:
            return path, False
    except EngineError:
        pass
    build_engine(model, precision, runtime, path)
    return path, True


def _for_openvino(graph: ModelFile, precision: str) -> ModelFile:
    if precision == "int8":
        graph = quantised_before_concat(graph)
    # Faster on x86; whether it is on ARM processors, which OpenVINO serves by other kernels, was not measured.
    return tail_by_class(graph) if platform.machine().lower() in ("x86_64", "amd64") else graph


def _chosen_flavour(wanted: str, precision: str, runtime: str) -> str | None:
    if wanted not in FLAVOURS:
        raise OptionError(f"there is no flavour {wanted!r}: choose one of {', '.join(FLAVOURS)}")
    if precision != "int8":
        return None
    if wanted == "uint8" and runtime in TENSORRT_RUNTIMES:
        raise OptionError("TensorRT has no uint8 activations and would clip them without a word: leave out --flavour")
    if wanted == "auto":
        return "uint8" if runtime in CPU_RUNTIMES else "symmetric"
    return wanted


def _write_graph(path: Path, graph: ModelFile, runtime: str, precision: str) -> None:
    """The engine of a runtime of the processor is the graph itself."""
    path.write_bytes(graph.graph.SerializeToString())
    try:
        # The runtime itself has the last word on whether this is an engine.
        open_session(runtime, path, precision).close()
    except EngineError as error:
        raise BuildError(f"the model cannot be built: {error}") from error


def check_precision(precision: str) -> None:
    """Raise ``OptionError`` for a precision that does not exist."""
    if precision not in PRECISIONS:
        raise OptionError(f"there is no precision {precision!r}: choose one of {', '.join(PRECISIONS)}")


def _in_precision(
    source: ModelFile, precision: str, table_path: Path | None, gate: Gate | None
) -> tuple[ModelFile, dict[str, Any]]:
    """The graph in a precision, and what the sidecar says about how it was made."""
    if gate is not None and precision != "int8":
        raise OptionError(f"--max-drop limits what INT8 loses, and {precision} was asked for: give --precision int8")
    if precision == "fp32":
        return source, {"int8_mac_fraction": 0.0, "calibration_sha256": None}
    if precision == "fp16":
        return fp16_model(source), {"int8_mac_fraction": 0.0, "calibration_sha256": None}
    if table_path is None:
        raise CalibrationError(
            "INT8 needs a calibration table: make one with `pspnet-edge calibrate MODEL -o FILE` "
            "and give it with --calibration FILE"
        )
    table = read_table(table_path)
    accuracy: dict[str, Any] | None = None
    if gate is None:
        graph = int8_model(source, table)
    else:
        graph, measured = gated_int8_model(source, table, gate.images, gate.max_drop, on_step=gate.on_step)
        accuracy = {"measured_on": gate.images_name, **measured.facts()}
    return graph, {
        "int8_mac_fraction": int8_mac_fraction(graph.graph),
        "calibration_sha256": sha256_of(table_path),
        "accuracy": accuracy,
    }

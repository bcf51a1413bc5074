"""A model becomes an engine: precision, runtime, file, sidecar."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from .. import __version__, bundled
from ..artifact import atomic_path, ensure_writable, sha256_of, table_path_of
from ..data.datasets import ImageSet
from ..data.held_out import about_images, split_or_unseen
from ..data.images import ImageFiles
from ..data.progress import Advance
from ..data.recognize import labelled_name
from ..errors import EngineError, OptionError, OutputError, one_of
from ..graph.calibration_table import CalibrationTable, read_table, write_table
from ..graph.confidence import with_min_confidence
from ..graph.onnx_file import ModelFile, read_model
from ..graph.precision import PRECISIONS
from ..graph.quantize import int8_mac_fraction, int8_model, with_uint8_activations
from ..graph.scores import with_scores
from ..graph.sensitivity import gated_int8_model
from ..ownership import remove_leftovers
from ..sidecar import write_sidecar
from .backend import Backend, BuildRequest, Precision
from .backends import RUNTIMES, backend_of, choose_runtime, read_info
from .facts import EngineFacts
from .model import Model, cache_folder, lacks_table, naming_model, prepare_model, table_beside

_log = logging.getLogger(__name__)

__all__ = [
    "FLAVOURS",
    "RUNTIMES",
    "Gate",
    "Model",
    "build_cached_engine",
    "build_engine",
    "cache_folder",
    "check_precision",
    "choose_precision",
    "choose_runtime",
    "default_engine_path",
    "images_of_gate",
    "prepare_model",
    "table_beside",
]

_GATE_SPLIT = "val"
FLAVOURS = ("auto", "symmetric", "uint8")
"""Of INT8: the canonical graph, or the one for x86; ``auto`` takes what the runtime is best at."""


@dataclass(frozen=True)
class Gate:
    """How much INT8 may lose, and what that is measured on."""

    max_drop: float
    images: ImageSet
    """With labels, or bare images, whose masks are compared with FP32's."""
    images_name: str
    on_step: Advance = lambda done, note: None


def images_of_gate(
    model: ModelFile,
    dataset: str | None,
    root: Path | None,
    split: str | None,
    say: Callable[[str], None] = lambda words: None,
) -> tuple[ImageSet, str]:
    """The images that INT8 is compared with FP32 on, and what to call them.

    Args:
        model: read with its channels, and without the images that it was trained on.
        dataset: the kind of data set; None is what ``root`` holds.
        root: its folder, or one of images without labels.
        split: of the data set; None is val, else the images that training held out, else all.
        say: told when another split is measured on.

    Raises:
        OptionError: neither a data set nor a folder is given.
        DataError: it cannot be opened.
    """
    name = labelled_name(dataset, root)
    if name is not None:
        images, part = split_or_unseen(name, root, split, model.facts, model.pixels, wanted=_GATE_SPLIT)
        if said := about_images(name, root, split or _GATE_SPLIT, part, len(images), model.facts):
            say(said)
        return images, f"{name} {part}"
    if root is None:
        raise OptionError(
            "it needs images to measure on", "give --root DIR, images like those of training", parameter="max_drop"
        )
    return ImageFiles(root, model.pixels), f"images in {root.name}"


def check_precision(precision: str) -> None:
    """Raise ``OptionError`` for an unknown precision; ``auto`` is known."""
    one_of(precision, ("auto", *PRECISIONS), "precision")


def choose_precision(wanted: str, model: Model, runtime: str, calibration: Path | None = None) -> Precision:
    """``auto`` takes INT8 where the model has a calibration table, else FP16 on a GPU, else FP32; a name is checked.

    Raises:
        OptionError: an unknown name.
    """
    check_precision(wanted)
    if wanted != "auto":
        return cast(Precision, wanted)
    if calibration is not None or model.table_path is not None:
        return "int8"
    return "fp16" if backend_of(runtime).on_gpu else "fp32"


def default_engine_path(model: Model, precision: str, runtime: str, min_confidence: float | None = None) -> Path:
    """The default path of an engine: in the user's cache, named by what it was made from."""
    fingerprint = sha256_of(model.path)[:12]
    limit = "" if min_confidence is None else f"-confidence{min_confidence:g}"
    return cache_folder() / f"{model.name}-{fingerprint}-{precision}-{runtime}{limit}.engine"


def build_engine(
    model: Model | str | os.PathLike[str] | None,
    precision: str,
    runtime: str,
    path: str | os.PathLike[str],
    *,
    calibration: Path | None = None,
    gate: Gate | None = None,
    flavour: str = "auto",
    scores: bool = False,
    min_confidence: float | None = None,
    options: object = None,
    report: Advance = lambda done, note: None,
) -> EngineFacts:
    """Build an engine file and its sidecar; nothing is left when it fails.

    Args:
        model: a prepared model, a bundled name, an ``.onnx`` or ``.pt`` file; None is the default bundled model.
        precision: ``fp32``, ``fp16``, ``int8``, or ``auto`` as ``choose_precision`` takes it.
        runtime: a name in ``RUNTIMES``, or ``auto`` as ``choose_runtime`` takes it.
        path: where the engine goes.
        calibration: a table for ``int8``; None takes the model's own.
        gate: how much ``int8`` may lose, and the images to measure it on. What it decides is kept in the table.
        flavour: of ``int8``, a name in ``FLAVOURS``.
        scores: add a second output, how sure the network is; not for TensorRT.
        min_confidence: the winning probability below which a pixel is 255, unknown; None keeps every winner.
        options: the runtime's own, such as ``engine.tensorrt.builder.BuildOptions``.
        report: called with the progress of a TensorRT build.

    Returns:
        The sidecar's facts; ``decision_saved_to`` among them where a gate decided.

    Raises:
        OptionError, ModelError, CalibrationError, BuildError, OutputError: with the fix in the message.
    """
    model, path = model if isinstance(model, Model) else prepare_model(model), Path(path)
    backend = backend_of(choose_runtime(runtime))
    chosen = choose_precision(precision, model, backend.name, calibration)
    ensure_writable(path, sidecar=True, inputs=(*model.files, calibration))
    source = read_model(model.path)
    graph, precise = _in_precision(model, source, chosen, calibration or model.table_path, gate, path)
    precise["flavour"] = _choose_flavour(flavour, chosen, backend)
    if precise["flavour"] == "uint8":
        graph = with_uint8_activations(graph)
    if scores:
        graph, precise["scores_hw"] = _add_scores(graph, backend)
    if min_confidence is not None:
        graph = with_min_confidence(graph, min_confidence)
    _log.info("building %s from %s: %s, %s, frames %s", path, model.path, chosen, backend.name, source.shape_nhw)
    built = backend.build(BuildRequest(graph, chosen, cache_folder(), options, report))
    facts: EngineFacts = {
        "model": model.name,
        "model_sha256": sha256_of(model.path),
        "runtime": backend.name,
        "runtime_version": backend.version(),
        "precision": chosen,
        "shape_nhw": source.shape_nhw,
        "channels": source.channels,
        "pixels": source.pixels.to_dict(),
        "held_out": source.facts.get("held_out"),
        "trained_split": source.facts.get("trained_split"),
        "label_set": source.label_set.facts(),
        "min_confidence": graph.facts.get("min_confidence"),
        **precise,
        **built.facts,
    }
    with atomic_path(path) as temporary:
        temporary.write_bytes(built.content)
        # The sidecar comes first: a build killed between the two leaves no engine.
        write_sidecar(path, "engine", facts, content=temporary)
    _log.info("built %s, %d bytes", path, path.stat().st_size)
    return facts


def _add_scores(graph: ModelFile, backend: Backend) -> tuple[ModelFile, list[int]]:
    if backend.on_gpu:
        raise OptionError(f"{backend.title} engines give masks and no scores", "build for openvino or onnxruntime")
    with_them, size_hw = with_scores(graph)
    return with_them, list(size_hw)


def build_cached_engine(model: Model, precision: str, runtime: str, *, scores: bool = False) -> tuple[Path, bool]:
    """The engine in the user's cache, built now unless it is there and fits; and whether it was built."""
    precision = choose_precision(precision, model, runtime)
    path = default_engine_path(model, precision, runtime)
    if scores:
        path = path.with_stem(f"{path.stem}-scores")
    remove_leftovers(path.parent)
    try:
        info = read_info(path)
        backend_of(runtime).ensure_opens_here(path, info)
        if info.facts["made_by"]["pspnet_edge"] == __version__ and not _is_stale(info.facts, model, precision):
            return path, False
    except EngineError:
        pass
    build_engine(model, precision, runtime, path, scores=scores)
    return path, True


def _is_stale(facts: EngineFacts, model: Model, precision: str) -> bool:
    """Whether an INT8 engine was built with another table than the model has now."""
    if precision != "int8" or model.table_path is None:
        return False
    return bool(facts.get("calibration_sha256") != sha256_of(model.table_path))


def _choose_flavour(wanted: str, precision: str, backend: Backend) -> str | None:
    one_of(wanted, FLAVOURS, "flavour")
    if precision != "int8":
        return None
    if wanted == "auto":
        return backend.flavours[0]
    if wanted not in backend.flavours:
        raise OptionError(f"{backend.title} has no uint8 activations and would clip them silently: leave out --flavour")
    return wanted


def _in_precision(
    model: Model, source: ModelFile, precision: str, table_path: Path | None, gate: Gate | None, engine: Path
) -> tuple[ModelFile, EngineFacts]:
    """The FP32 or the Q/DQ graph, and what the sidecar says about how it was made."""
    if gate is not None and precision != "int8":
        raise OptionError(
            f"it limits what INT8 loses, and the engine is {precision}", "ask for int8", parameter="max_drop"
        )
    if precision != "int8":
        return source, {"int8_mac_fraction": 0.0, "calibration_sha256": None}
    if table_path is None:
        raise lacks_table(model)
    with naming_model(model, table_path):
        table = read_table(table_path)
        if gate is None:
            graph = int8_model(source, table)
        else:
            graph, measured = gated_int8_model(source, table, gate.images, gate.max_drop, on_step=gate.on_step)
            table = replace(
                table.carried_to(source.proto),
                kept_float=tuple(cost.layer for cost in measured.left_in_float),
                gate=measured.facts(gate.images_name),
            )
            table_path = _save_decision(table, table_path, engine)
    facts: EngineFacts = {
        "int8_mac_fraction": int8_mac_fraction(graph.proto),
        "calibration_sha256": sha256_of(table_path),
        "kept_float": list(table.kept_float),
        "accuracy": table.gate,
    }
    if gate is not None:
        facts["decision_saved_to"] = str(table_path)
    return graph, facts


def _save_decision(table: CalibrationTable, path: Path, engine: Path) -> Path:
    """Write the table back with what the gate decided; one that ships with the package, or is read-only, is copied."""
    if not path.resolve().is_relative_to(bundled.FOLDER.resolve()):
        try:
            write_table(path, table)
        except OutputError:
            pass
        else:
            return path
    beside = table_path_of(engine)
    write_table(beside, table)
    return beside

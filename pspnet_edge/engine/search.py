"""The fastest of several engines of one model, by measurement on the machine that will run it.

INT8 is not always the fastest: depthwise convolutions gain little from it and may lose to FP16. So INT8 everywhere,
INT8 with depthwise convolutions in floating point, and no INT8 at all are built and timed, and the fastest is kept.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..artifact import atomic_path, ensure_writable, scratch_folder, table_path_of
from ..data.progress import Advance
from ..errors import EngineError
from ..graph.calibration_table import read_table, write_table
from ..graph.onnx_file import read_model
from ..graph.quantize import int8_model
from ..sidecar import write_sidecar
from .backends import backend_of, open_engine
from .build import Gate, build_engine
from .facts import EngineFacts
from .model import Model, lacks_table, naming_model
from .tensorrt.gpu import find_gpu
from .tensorrt.graphs import quantized_depthwise

_WARM_UP, _RUNS, _LIMIT_S = 10, 100, 5.0


@dataclass(frozen=True)
class Tried:
    """One engine that was built and timed."""

    name: str
    precision: str
    latency_ms: float
    """Median of one batch, without preparing frames."""


def build_fastest(
    model: Model,
    runtime: str,
    path: Path,
    *,
    calibration: Path | None = None,
    gate: Gate | None = None,
    options: object = None,
    report: Advance = lambda done, note: None,
    measure_ms: Callable[[Path], float] | None = None,
) -> EngineFacts:
    """Build several engines and keep the fastest.

    Args:
        model: what to build from.
        runtime: a name in ``RUNTIMES``.
        path: where the engine goes.
        calibration: a table; None takes the model's own.
        gate: how much mIoU INT8 may lose; layers stay unquantized until it fits.
        options: the runtime's own.
        report: called with the progress of a TensorRT build.
        measure_ms: latency of an engine file; None runs it.

    Returns:
        The sidecar's facts, with every engine that was tried under ``search``.

    Raises:
        EngineError: there is nothing here to measure on.
        OptionError, ModelError, CalibrationError, BuildError, OutputError: as ``build_engine`` does.
    """
    backend = backend_of(runtime)
    if measure_ms is None and backend.on_gpu and find_gpu() is None:
        raise EngineError(
            "a search measures the engines that it builds, and there is no GPU here to run them",
            "search on the board, or name a --precision",
        )
    table_path = calibration or model.table_path
    if table_path is None:
        raise lacks_table(model, "a search tries INT8, which needs a calibration table")
    ensure_writable(path, sidecar=True, inputs=(*model.files, calibration))
    with scratch_folder() as folder:
        with naming_model(model, table_path):
            tables = _tables(model, table_path, folder)
        found: list[tuple[Tried, Path, EngineFacts]] = []
        for name, (precision, table) in [*tables.items(), _without_int8(backend.on_gpu)]:
            engine = folder / f"{len(found)}.engine"
            report(0, name)
            facts = build_engine(
                model,
                precision,
                runtime,
                engine,
                calibration=table,
                gate=gate if precision == "int8" else None,
                options=options,
                report=report,
            )
            found.append((Tried(name, precision, (measure_ms or latency_ms)(engine)), engine, facts))
        best, engine, facts = min(found, key=lambda each: each[0].latency_ms)
        facts["search"] = [
            {"name": each.name, "precision": each.precision, "latency_ms": each.latency_ms, "kept": each is best}
            for each, _, _ in found
        ]
        _keep(engine, facts, tables.get(best.name, ("", None))[1], table_path, path)
    return facts


def latency_ms(path: Path) -> float:
    """The median time of one batch in an engine."""
    with open_engine(path) as engine:
        frames = np.random.default_rng(0).integers(0, 256, (*engine.info.shape_nhw, engine.info.channels), np.uint8)
        taken: list[float] = []
        end = time.perf_counter() + _LIMIT_S
        while len(taken) < _WARM_UP + _RUNS and (time.perf_counter() < end or len(taken) < _WARM_UP + 3):
            start = time.perf_counter()
            engine.infer(frames)
            taken.append(1000 * (time.perf_counter() - start))
    return float(np.median(taken[_WARM_UP:]))


def _tables(model: Model, table_path: Path, folder: Path) -> dict[str, tuple[str, Path | None]]:
    """Name → precision and table of each INT8 engine. Copies, because a gate writes its decision into a table."""
    everything = folder / "everything.calib.json"
    shutil.copyfile(table_path, everything)
    tables: dict[str, tuple[str, Path | None]] = {"INT8": ("int8", everything)}
    source, table = read_model(model.path), read_table(table_path)
    depthwise = quantized_depthwise(int8_model(source, table))
    if depthwise:
        without = folder / "depthwise.calib.json"
        carried = table.carried_to(source.proto)
        write_table(without, replace(carried, kept_float=(*carried.kept_float, *depthwise)))
        tables["INT8, depthwise unquantized"] = ("int8", without)
    return tables


def _without_int8(on_gpu: bool) -> tuple[str, tuple[str, Path | None]]:
    return ("FP16", ("fp16", None)) if on_gpu else ("FP32", ("fp32", None))


def _keep(engine: Path, facts: EngineFacts, table: Path | None, given: Path, path: Path) -> None:
    """Move the chosen engine to its place; its table goes beside it where it is not the one that was given."""
    facts.pop("decision_saved_to", None)
    if table is not None and table.read_bytes() != given.read_bytes():
        beside = table_path_of(path)
        with atomic_path(beside) as temporary:
            shutil.copyfile(table, temporary)
        facts["decision_saved_to"] = str(beside)
    with atomic_path(path) as temporary:
        shutil.copyfile(engine, temporary)
        write_sidecar(path, "engine", facts, content=temporary)

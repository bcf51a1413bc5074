"""The steps of the workflow: import, export, calibrate, build, open, evaluate, benchmark.

A model is a bundled name, an ``.onnx``, ``.pt`` or ``.pspnet`` file; None is the default bundled model. Sizes are
``(height, width)`` in pixels. Whatever goes wrong raises a ``PspnetEdgeError``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import bundled
from ..artifact import ensure_writable, sha256_of
from ..built import ensure_not_built
from ..data.progress import Progress, silent
from ..engine.backends import choose_runtime, read_info
from ..engine.backends import open_engine as open_engine_file
from ..engine.build import Gate, build_cached_engine, choose_precision, default_engine_path, images_of_gate
from ..engine.build import build_engine as build_engine_file
from ..engine.engine import Engine
from ..engine.model import prepare_model
from ..graph.onnx_file import read_model
from ..inputs import as_number, as_path, as_path_or_none, as_several, as_size, as_whole
from ..lazy import require
from .results import (
    BenchmarkReport,
    BenchmarkRow,
    BuiltEngine,
    Calibration,
    Evaluation,
    ExportedModel,
    ImportedModel,
    Size,
    WantedPrecision,
    WantedRuntime,
)

if TYPE_CHECKING:
    from ..report.facts import Row

_log = logging.getLogger(__name__)

AnyPath = str | os.PathLike[str]
_DEFAULT_IMAGES = 128


def open_engine(
    engine: AnyPath | None = None, *, precision: WantedPrecision = "auto", runtime: WantedRuntime = "auto"
) -> Engine:
    """Open an engine: frames in, masks out.

    >>> import numpy as np, pspnet_edge
    >>> with pspnet_edge.open_engine(precision="fp32") as engine:
    ...     masks = engine.infer(np.zeros((1, *engine.size_hw, 3), np.uint8))
    >>> masks.shape == (1, *engine.size_hw)
    True

    Args:
        engine: an engine file, or a model, which is built into the user's cache first; None is the default model.
        precision: of an engine that is built. ``auto`` takes INT8 where the model has a calibration table, else FP16
            on a GPU, else FP32.
        runtime: of an engine that is built. ``auto`` takes TensorRT on a GPU, else OpenVINO, else ONNX Runtime.

    Raises:
        EngineError: no such file, a sidecar that does not fit, or a runtime that refuses it.
        OptionError: the engine file has another precision or runtime.
        ModelError, CalibrationError, BuildError: it cannot be built.
    """
    place = as_path_or_none(engine, "engine")
    if place is not None and not bundled.names_model(place):
        return open_engine_file(place, precision, runtime)
    model, chosen = prepare_model(_text(engine, "engine")), choose_runtime(runtime)
    path, _ = build_cached_engine(model, choose_precision(precision, model, chosen), chosen)
    return open_engine_file(path)


def build_engine(
    model: AnyPath | None = None,
    output: AnyPath | None = None,
    *,
    precision: WantedPrecision = "auto",
    runtime: WantedRuntime = "auto",
    size_hw: Size | None = None,
    scores: bool = False,
    calibration: AnyPath | None = None,
    max_drop: float | None = None,
    dataset: str | None = None,
    root: AnyPath | None = None,
    split: str | None = None,
) -> BuiltEngine:
    """Build an engine file and its sidecar.

    >>> import pspnet_edge
    >>> built = pspnet_edge.build_engine(output="road.engine", precision="int8")
    >>> built.int8_mac_fraction > 0.9
    True

    Args:
        model: what to build from.
        output: the engine file; None is a name in the user's cache.
        precision: as in ``open_engine``.
        runtime: as in ``open_engine``.
        size_hw: input height and width in pixels; None keeps the model's own. Another needs its checkpoint and torch.
        scores: add a second output, how sure the network is of each pixel; not for TensorRT.
        calibration: the table for INT8; None takes the one beside the model.
        max_drop: what INT8 may lose, 0–1, of mIoU or, on images without labels, of agreement with FP32: the layers that
            cost most stay unquantized. None does not measure it.
        dataset: the kind of data set to measure it on; None is what ``root`` holds.
        root: its folder, or one of images without labels.
        split: of the data set; not the one that you report results on. None is val, else the images that training held
            out, else all.

    Raises:
        ModelError, CalibrationError, BuildError, OutputError, OptionError: it cannot be built.
        DataError: the images of ``max_drop`` cannot be read.
    """
    size_hw = None if size_hw is None else as_size(size_hw, "size_hw")
    source, chosen = prepare_model(_text(model, "model"), size_hw), choose_runtime(runtime)
    table, folder = as_path_or_none(calibration, "calibration"), as_path_or_none(root, "root")
    gate = None
    if max_drop is not None:
        drop, images = as_number(max_drop, "max_drop"), images_of_gate(read_model(source.path), dataset, folder, split)
        gate = Gate(drop, *images)
    wanted = choose_precision(precision, source, chosen, table)
    path = as_path_or_none(output, "output") or default_engine_path(source, wanted, chosen)
    facts = build_engine_file(source, wanted, chosen, path, calibration=table, gate=gate, scores=scores)
    info = read_info(path)
    accuracy = facts.get("accuracy")
    return BuiltEngine(
        path,
        info.runtime,
        info.precision,
        info.shape_nhw,
        info.label_set.classes,
        float(facts["int8_mac_fraction"]),
        facts["calibration_sha256"],
        accuracy["drop"] if accuracy else None,
        tuple(cost["layer"] for cost in accuracy["left_in_float"]) if accuracy else (),
    )


def export(
    checkpoint: AnyPath,
    output: AnyPath | None = None,
    *,
    size_hw: Size | None = None,
    batch: int = 1,
    min_confidence: float | None = None,
    threshold: float | None = None,
) -> ExportedModel:
    """Export a checkpoint as a self-contained ONNX model: uint8 BGR frames in, uint8 masks out.

    >>> import pspnet_edge
    >>> exported = pspnet_edge.export("pspnet_lite0_camvid", "road.onnx", size_hw=(192, 256))
    >>> exported.input_hw
    (192, 256)

    Args:
        checkpoint: a ``.pt`` file, or a bundled name.
        output: the model; None is the checkpoint's name with ``.onnx``.
        size_hw: input height and width in pixels; None is the size that training validated at, else 384×480.
        batch: frames per batch.
        min_confidence: the winning probability below which a pixel is 255, unknown; None keeps every winner.
        threshold: the probability above which a pixel of a binary network is the object; None is the checkpoint's own.

    Raises:
        ModelError: the checkpoint cannot be read.
        OptionError: the network does not take that size, or is not binary.
        OutputError: the model cannot be written.
        MissingPackage: torch is not installed.
    """
    source = bundled.checkpoint_at(as_path(checkpoint, "checkpoint"))
    path = as_path_or_none(output, "output") or Path(f"{source.stem}.onnx")
    size_hw, batch = None if size_hw is None else as_size(size_hw, "size_hw"), as_whole(batch, "batch", least=1)
    min_confidence = None if min_confidence is None else as_number(min_confidence, "min_confidence")
    threshold = None if threshold is None else as_number(threshold, "threshold")
    ensure_not_built(source)
    ensure_writable(path, sidecar=True, inputs=[source])
    require("torch", "export a checkpoint")
    from ..graph.export import export_checkpoint

    facts, table = export_checkpoint(
        source, path, size_hw=size_hw, batch=batch, min_confidence=min_confidence, threshold=threshold
    )
    classes, (height, width) = tuple(facts["label_set"]["classes"]), facts["input_hw"]
    return ExportedModel(path, table, facts["network"], (height, width), batch, classes, facts["gmac"])


def calibrate(
    model: AnyPath | None = None,
    output: AnyPath | None = None,
    *,
    dataset: str | None = None,
    root: AnyPath | None = None,
    split: str = "train",
    images: int | None = None,
    method: str = "mse",
    overwrite: bool = False,
    progress: Progress = silent,
) -> Calibration:
    """Measure activation ranges on images, for INT8 engines. An interrupted run resumes.

    >>> import pspnet_edge
    >>> table = pspnet_edge.calibrate(output="road.calib.json", dataset="scenes", images=4)
    >>> table.images
    4

    Args:
        model: what to calibrate.
        output: the table; None is the model's name with ``.calib.json`` beside it, where builds look; of a bundled
            model in the working folder.
        dataset: the kind of data set, as for the command line; None is what ``root`` holds.
        root: its folder, or one of images without labels; only scenes needs none.
        split: never the split that quality is measured on. Of a folder without lists ``train`` is what training did
            not hold out.
        images: how many, evenly spaced; None is 128.
        method: ``minmax``, ``percentile``, ``entropy`` or ``mse``.
        overwrite: replace a table that was made from other images, or holds what the accuracy gate decided.
        progress: shows how far it is.

    Raises:
        DataError: images that cannot be used.
        CalibrationError: an activation is not finite.
        OptionError: neither ``dataset`` nor ``root`` was given, scenes for a model of other classes, a table that needs
            ``overwrite``, or another value is wrong.
        ModelError, OutputError: as the names say.
    """
    from ..data.subset import evenly_spaced
    from ..graph.calibrate import table_from_dataset
    from ..graph.calibration_images import calibration_images
    from ..graph.calibration_table import ensure_replaceable, write_table

    images = _DEFAULT_IMAGES if images is None else as_whole(images, "images", least=1)
    source = prepare_model(_text(model, "model"))
    path = as_path_or_none(output, "output") or source.table_place
    ensure_writable(path, inputs=[source.source, source.path])
    network = read_model(source.path)
    pictures, named, _ = calibration_images(network, dataset, as_path_or_none(root, "root"), split, _log.info)
    if not overwrite:
        ensure_replaceable(path, network.proto, named)
    chosen = evenly_spaced(pictures, images)
    state = path.with_name(f"{path.name}.partial")
    with progress("calibrate", len(chosen)) as advance:
        table, skipped = table_from_dataset(
            network,
            chosen,
            dataset=named,
            method=method,
            state=state,
            on_image=lambda done: advance(done, ""),
        )
    write_table(path, table)
    state.unlink(missing_ok=True)
    return Calibration(path, sha256_of(path), table.method, table.images, len(table.amax), tuple(skipped))


def evaluate(
    engine: AnyPath | None = None,
    *,
    dataset: str | None = None,
    root: AnyPath | None = None,
    split: str | None = None,
    precision: WantedPrecision = "auto",
    runtime: WantedRuntime = "auto",
    on_image: Callable[[int], None] = lambda done: None,
) -> Evaluation:
    """Measure mIoU at the resolution of the labels, from one confusion matrix over the split.

    >>> import pspnet_edge
    >>> result = pspnet_edge.evaluate(dataset="scenes", split="val")
    >>> result.images, result.miou > 0.5
    (100, True)

    Args:
        engine: an engine file or a model, as in ``open_engine``.
        dataset: the kind of data set, as for the command line; None is what ``root`` holds, or scenes without it.
        root: its folder; scenes needs none.
        split: train, val or test; for a folder also all. None is test, and of a folder without it val, else the
            images that training held out, else all; the result says which.
        precision: of an engine that is built.
        runtime: of an engine that is built.
        on_image: called with the number of images that are done.

    Raises:
        EngineError, DataError: the engine or an image cannot be used, or the classes of engine and data set differ.
    """
    from ..data.held_out import split_or_unseen, trained_on_split
    from ..data.recognize import dataset_or_scenes
    from ..measure.evaluate import evaluate_engine

    folder = as_path_or_none(root, "root")
    dataset = dataset_or_scenes(dataset, folder)
    with open_engine(engine, precision=precision, runtime=runtime) as opened:
        info = opened.info
        labelled, split = split_or_unseen(dataset, folder, split, info.facts, info.pixels)
        facts = evaluate_engine(opened, labelled, on_image=on_image)
    return Evaluation(
        facts["miou"],
        facts["per_class_iou"],
        facts["pixel_accuracy"],
        facts["images"],
        info.path,
        info.runtime,
        info.precision,
        facts["compute_ms"],
        dataset,
        split,
        trained_on_split(dataset, split, info.facts),
    )


def benchmark(
    models: Sequence[AnyPath] = (),
    output: AnyPath = "report",
    *,
    precisions: Sequence[str] = (),
    sizes_hw: Sequence[Size] = (),
    runtimes: Sequence[str] = ("auto",),
    dataset: str | None = None,
    root: AnyPath | None = None,
    split: str | None = None,
    rounds: int = 7,
    seconds: float = 1.0,
    overwrite: bool = False,
    progress: Progress = silent,
) -> BenchmarkReport:
    """Measure latency, mIoU, size and memory side by side, and write the report into a folder.

    >>> import pspnet_edge
    >>> report = pspnet_edge.benchmark(output="report", precisions=["int8"], rounds=2, seconds=0.05)
    >>> report.rows[0].precision, report.rows[0].fps > 0
    ('int8', True)

    Args:
        models: bundled names, ``.onnx``, ``.pt``, ``.pspnet`` or engine files; none means the default bundled model.
        output: folder of the report; where it holds one already, the new one goes into ``output-2``.
        precisions: each model is built in each of them; none means FP32, FP16 and, with a calibration table, INT8.
        sizes_hw: input sizes; none means the model's own. Others need its checkpoint and torch.
        runtimes: each model is built for each of them.
        dataset: labelled set for mIoU; None is what ``root`` holds, or scenes without it. In a folder of images
            without labels, masks are compared with FP32.
        root: folder of the data set.
        split: of the data set; None is as for ``evaluate``.
        rounds: how often each engine is timed, in turn with the others.
        seconds: how long an engine is timed in a round.
        overwrite: replace a report in ``output`` instead.
        progress: shows how far it is.

    Raises:
        ModelError, CalibrationError, BuildError, EngineError, DataError, OptionError, OutputError: as the names say.
    """
    from ..data.recognize import labelled_name
    from ..report.measured import Wanted, forget_work, measured_report
    from ..report.place import opened_report_folder
    from ..report.render import PICTURES, write_report

    rounds, seconds = as_whole(rounds, "rounds", least=2), as_number(seconds, "seconds", least=0.05)
    names = [str(as_path(model, "models")) for model in as_several(models, "models")]
    precisions, runtimes = as_several(precisions, "precisions"), as_several(runtimes, "runtimes")
    sizes_hw = [as_size(size, "sizes_hw") for size in as_several(sizes_hw, "sizes_hw")]
    place = as_path_or_none(root, "root")
    dataset = "scenes" if dataset is None and root is None else labelled_name(dataset, place)
    wanted = Wanted(
        models=names,
        precisions=precisions,
        sizes_hw=sizes_hw,
        runtimes=runtimes,
        dataset=dataset,
        root=place,
        split=split,
        rounds=rounds,
        seconds=seconds,
    )
    with opened_report_folder(as_path(output, "output"), overwrite=overwrite) as folder:
        report = measured_report(wanted, folder, command="pspnet_edge.benchmark(…)", progress=progress)
        files = write_report(report, folder, folder / PICTURES)
        forget_work(folder)
    return BenchmarkReport(tuple(map(_row, report["rows"])), tuple(report["pareto"]), tuple(files))


def import_checkpoint(
    checkpoint: AnyPath,
    output: AnyPath | None = None,
    *,
    format: str = "auto",
    label_set: str | None = None,
    class_names: Sequence[str] | None = None,
    **options: Any,
) -> ImportedModel:
    """Turn a PSPNet checkpoint of another project into one of this package.

    >>> import pspnet_edge
    >>> try:
    ...     imported = pspnet_edge.import_checkpoint("semseg.pth", label_set="cityscapes")
    ...     print(imported.checkpoint, imported.network)
    ... except pspnet_edge.ModelError as error:
    ...     print(error.problem)
    there is no checkpoint semseg.pth

    Args:
        checkpoint: the file that the other project saved. Nothing in it is executed.
        output: the new checkpoint; None is its name with ``.imported.pt``.
        format: the project, as for the command line; ``auto`` recognizes it.
        label_set: ``camvid``, ``voc`` or ``cityscapes``: what it was trained for.
        class_names: its classes in the order of its logits, where neither file nor format says.
        options: what weights do not show, as the command line has it: ``weights``, ``config``, ``mean``, ``std``,
            ``scale``, ``colour``, ``threshold``, ``bins``, ``output_stride``, ``align_corners``, ``encoder`` or
            ``decoder``; see ``model.foreign.importer.ImportOptions``.

    Raises:
        ModelError: a file that is damaged, unsafe or not understood.
        OptionError: classes that do not fit.
        MissingPackage: torch is not installed.
    """
    source = as_path(checkpoint, "checkpoint")
    path = as_path_or_none(output, "output") or source.with_suffix(".imported.pt")
    ensure_not_built(source)
    ensure_writable(path, inputs=[source])
    require("torch", "import a checkpoint")
    from ..model.checkpoint import save_checkpoint
    from ..model.foreign.classes import find_label_set
    from ..model.foreign.importer import import_checkpoint as read_checkpoint
    from ..model.foreign.places import find_given

    imported = read_checkpoint(
        source,
        None if format == "auto" else format,
        label_set=None if label_set is None else find_label_set(label_set),
        class_names=class_names,
        **options,
    )
    file = find_given(source, None).checkpoint
    origin = {"format": imported.format, "source": source.name, "source_sha256": sha256_of(file)}
    save_checkpoint(path, imported.model, imported.label_set, {"imported": origin})
    return ImportedModel(
        path,
        imported.format,
        imported.model.preset,
        imported.label_set.classes,
        tuple(imported.assumed),
        dict(imported.left_out),
    )


def _text(given: AnyPath | None, parameter: str) -> str | None:
    path = as_path_or_none(given, parameter)
    return None if path is None else str(path)


def _row(row: Row) -> BenchmarkRow:
    height, width = row["size"].split("x")
    return BenchmarkRow(
        id=row["id"],
        model=row["model"],
        precision=row["precision"],
        size_hw=(int(height), int(width)),
        runtime=row["runtime"],
        fps=row["fps"],
        latency_ms=row["latency_ms"],
        loop_fps=row["loop"]["fps"] if row["loop"] else None,
        miou=row["miou"],
        miou_change=row["miou_change"],
        agreement=row["agreement"],
        engine_bytes=row["engine_bytes"],
        peak_memory_bytes=row["peak_memory_bytes"],
    )

"""What a benchmark measures: models at sizes, and an engine of each in every precision and runtime."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .. import __version__, bundled
from ..artifact import sha256_of, sidecar_path
from ..engine.backends import read_info, runtime_version
from ..engine.build import Model, build_engine, prepare_model, table_beside
from ..engine.model import lacks_table, naming_model
from ..errors import CalibrationError, OptionError
from ..graph.calibration_table import read_table
from ..graph.onnx_file import read_model
from ..graph.precision import PRECISIONS
from ..graph.quantize import convolution_macs
from ..lazy import require
from .facts import Built
from .store import Store

_MODELS = (".onnx", ".pt", ".pspnet")
Size = tuple[int, int]


@dataclass(frozen=True)
class Subject:
    """One row of the report: an engine, built or to be built."""

    model: str
    precision: str
    size_hw: Size
    runtime: str
    engine: Path
    source: Model | None
    """What it is built from; None when it was built before."""
    family: str = ""
    """The model's name where ``model`` tells apart two of that name; empty where they are the same."""

    @property
    def name(self) -> str:
        """For people and file names."""
        return f"{self.model}-{self.size_hw[0]}x{self.size_hw[1]}-{self.precision}-{self.runtime}"


def models_at_sizes(
    names: Sequence[str], sizes: Sequence[Size], calibration: Path | None, work: Path, store: Store
) -> tuple[list[tuple[Model, Size]], list[Path]]:
    """Find or export every model at every size.

    Args:
        names: bundled names, ``.onnx``, ``.pt``, ``.pspnet`` or engine files; none is the default bundled model.
        sizes: height and width; none is each model's own.
        calibration: a table for the models that it belongs to; the others keep their own. Where it belongs to none,
            all get it, and building fails.
        work: folder for exported models.
        store: remembers what was exported.

    Returns:
        Models with their sizes, and the engine files among ``names``.

    Raises:
        OptionError: a size that an ``.onnx`` without its checkpoint cannot have.
        ModelError: a name that is neither a bundled model nor a file.
        MissingPackage: exporting needs torch.
    """
    models: list[tuple[Model, Size]] = []
    engines: list[Path] = []
    given = [name for name in names if name not in bundled.names() and Path(name).suffix in _MODELS]
    labels = distinct_names({name: (bundled.name_of(Path(name)), Path(name)) for name in given})
    for name in names or [bundled.DEFAULT]:
        path = Path(name)
        if name not in bundled.names() and path.is_file() and path.suffix not in _MODELS:
            engines.append(path)
            continue
        if path.suffix == ".pt" and name not in bundled.names():
            own, checkpoint = None, path  # nothing is exported yet
            found = Model(bundled.name_of(path), path, table_beside(path), path)
        else:
            found = prepare_model(name)
            own = read_model(found.path).shape_nhw[1:]
            checkpoint = found.path.with_suffix(".pt")
        found = replace(found, name=labels.get(name, found.name))
        for size in sizes or [own or _validated_size(checkpoint)]:
            model = found if size == own else _exported(found, checkpoint, size, work, store)
            models.append((model, size))
    return (models if calibration is None else _with_table(models, calibration)), engines


def _with_table(models: list[tuple[Model, Size]], calibration: Path) -> list[tuple[Model, Size]]:
    """The models that a table belongs to with it; all of them where it belongs to none."""
    if not models:
        return models
    with naming_model(models[0][0], calibration):
        table = read_table(calibration)

    def owns(model: Model) -> bool:
        try:
            table.carried_to(read_model(model.path).proto)
        except CalibrationError:
            return False
        return True

    owners = {model.path for model, _ in models if owns(model)}
    return [
        (replace(model, table_path=calibration) if not owners or model.path in owners else model, size)
        for model, size in models
    ]


def subjects_of(
    models: Sequence[tuple[Model, Size]],
    engines: Sequence[Path],
    precisions: Sequence[str],
    runtimes: Sequence[str],
    folder: Path,
    *,
    leave_out_int8: bool = False,
) -> list[Subject]:
    """Every model in every precision and runtime, then the engines that were built before.

    Without ``precisions`` these are FP32, FP16 and, of a model with a calibration table, INT8.

    Args:
        models: with their sizes.
        engines: files.
        precisions: of each model.
        runtimes: of each model.
        folder: for the engines that are built.
        leave_out_int8: of a model without a calibration table, instead of refusing it.

    Raises:
        OptionError: two of them would be the same row.
        CalibrationError: INT8 is asked for of a model without a calibration table.
        EngineError: an engine file that cannot be used.
    """
    subjects = []
    for model, size in models:
        for runtime in runtimes:
            for precision in precisions or (PRECISIONS if model.table_path else PRECISIONS[:2]):
                if precision == "int8" and model.table_path is None:
                    if leave_out_int8:
                        continue
                    raise lacks_table(model, f"INT8 of {model.name} needs a calibration table")
                subject = Subject(model.name, precision, size, runtime, Path(), model)
                subjects.append(Subject(model.name, precision, size, runtime, folder / f"{subject.name}.engine", model))
    for path in engines:
        info = read_info(path)
        name = str(info.facts.get("model", path.stem))
        subjects.append(Subject(name, info.precision, info.shape_nhw[1:], info.runtime, path, None))
    subjects = _told_apart(subjects)
    names = [subject.name for subject in subjects]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise OptionError(f"{repeated[0]} is in the benchmark more than once", "name each model, size and engine once")
    return subjects


def distinct_names(named: dict[str, tuple[str, Path]]) -> dict[str, str]:
    """Names of files, with as many folders before a name as tell it apart from the same name of another file.

    ``runs/a/road.onnx`` and ``runs/b/road.onnx`` are ``a-road`` and ``b-road``.

    Args:
        named: of each key a name and the file.
    """
    found = {key: name for key, (name, _) in named.items()}
    for depth in range(1, 1 + max((len(path.absolute().parts) for _, path in named.values()), default=0)):
        files: dict[str, set[Path]] = {}
        for key, name in found.items():
            files.setdefault(name, set()).add(named[key][1].resolve())
        clashing = {key for key, name in found.items() if len(files[name]) > 1}
        if not clashing:
            break
        for key in clashing:
            found[key] = "-".join((*_folders_before(*named[key])[-depth:], named[key][0]))
    return found


def _folders_before(name: str, path: Path) -> tuple[str, ...]:
    folders = path.absolute().parent.parts[1:]
    return folders[:-1] if folders and name.startswith(folders[-1]) and path.suffix == ".pt" else folders


def _told_apart(subjects: Sequence[Subject]) -> list[Subject]:
    """The subjects, engines that share their row's name with another renamed after their files."""
    names = [subject.name for subject in subjects]
    clashing = [s for s in subjects if s.source is None and names.count(s.name) > 1]
    labels = distinct_names({str(s.engine): (s.engine.stem, s.engine) for s in clashing})
    files = Counter(subject.engine.resolve() for subject in subjects if subject.source is None)
    found = []
    for subject in subjects:
        label = labels.get(str(subject.engine)) if files[subject.engine.resolve()] == 1 else None
        if label is not None and subject.source is None:
            label = subject.engine.name if label == subject.model else label
            subject = replace(subject, model=label, family=subject.model)
        found.append(subject)
    return found


def build(subject: Subject, store: Store) -> Built:
    """Build a subject's engine unless an earlier, interrupted run did; time it.

    Returns:
        ``build_s``, ``engine_bytes``, ``engine_sha256``, ``model_sha256``, ``calibration_sha256``,
        ``int8_mac_fraction``, ``gmac``, ``flavour``, ``runtime_version``. ``build_s`` and ``gmac`` are None for an
        engine that was built before.
    """
    if subject.source is None:
        return _engine_facts(subject.engine, None, None)
    table = subject.source.table_path
    key = {
        "build": subject.name,
        "model": sha256_of(subject.source.path),
        "table": sha256_of(table) if table and table.is_file() else None,
        "runtime": runtime_version(subject.runtime),
        "package": __version__,
    }
    known: Built | None = store.get(key)
    if known is not None and subject.engine.is_file() and sha256_of(subject.engine) == known["engine_sha256"]:
        return known
    start = time.perf_counter()
    build_engine(subject.source, subject.precision, subject.runtime, subject.engine)
    facts = _engine_facts(subject.engine, round(time.perf_counter() - start, 3), subject.source)
    store.put(key, facts)
    return facts


def _engine_facts(path: Path, build_s: float | None, source: Model | None) -> Built:
    info = read_info(path)
    batch = info.shape_nhw[0]
    gmac = None
    if source is not None:
        gmac = round(sum(convolution_macs(read_model(source.path).proto).values()) / batch / 1e9, 4)
    return {
        "build_s": build_s,
        "engine_bytes": path.stat().st_size,
        "engine_sha256": sha256_of(path),
        "batch": batch,
        "gmac": gmac,
        "model_sha256": info.facts.get("model_sha256"),
        "calibration_sha256": info.facts.get("calibration_sha256"),
        "int8_mac_fraction": info.facts.get("int8_mac_fraction"),
        "flavour": info.facts.get("flavour"),
        "runtime_version": info.facts.get("runtime_version"),
    }


def _exported(model: Model, checkpoint: Path, size: Size, work: Path, store: Store) -> Model:
    """The model at another size, exported from its checkpoint into ``work``."""
    text = f"{size[0]}x{size[1]}"
    if not checkpoint.is_file():
        raise OptionError(
            f"{model.path} has a fixed input size and no checkpoint {checkpoint.name} beside it: "
            f"give the .pt to build it at {text}, or leave out --size"
        )
    fingerprint = sha256_of(checkpoint)
    if model.path != checkpoint and _checkpoint_of(model.path) not in (None, fingerprint):
        raise OptionError(
            f"{checkpoint} is not the checkpoint that {model.path.name} was exported from: "
            f"give the .pt instead of the .onnx to build it at {text}"
        )
    path = work / f"{model.name}-{text}.onnx"
    key = {"export": text, "checkpoint": fingerprint, "package": __version__}
    known = store.get(key)
    if known is None or not path.is_file() or sha256_of(path) != known["sha256"]:
        require("torch", f"export {model.name} at {text}")
        from ..graph.export import export_checkpoint

        export_checkpoint(checkpoint, path, size_hw=size)
        store.put(key, {"sha256": sha256_of(path)})
    return replace(model, path=path, table_path=model.table_path or table_beside(path))


def _validated_size(checkpoint: Path) -> Size:
    """The size that ``export`` gives a checkpoint by default."""
    require("torch", f"export {checkpoint}")
    from ..graph.export import DEFAULT_SIZE_HW
    from ..model.checkpoint import load_checkpoint

    return load_checkpoint(checkpoint).size_hw or DEFAULT_SIZE_HW


def _checkpoint_of(model: Path) -> str | None:
    """The fingerprint of the checkpoint that a model was exported from, where its sidecar tells."""
    try:
        facts = json.loads(sidecar_path(model).read_text(encoding="utf-8"))
        return str(facts["checkpoint_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None

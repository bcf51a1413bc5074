"""The model that an engine is built from, and the calibration table that belongs to it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from .. import bundled
from ..artifact import ensure_writable, sha256_of, table_path_of, write_bytes
from ..built import ensure_not_engine
from ..errors import CalibrationError, ModelError, PackError
from ..lazy import require
from ..ownership import remove_leftovers
from ..pack_file import MODEL, TABLE, read_pack


@dataclass(frozen=True)
class Model:
    """A model to build from."""

    name: str
    path: Path
    table_path: Path | None
    """Its calibration table; None where it has none."""
    source: Path | None = None
    """The checkpoint, pack or ONNX file that was named; None of a bundled model."""

    @property
    def table_place(self) -> Path:
        """Where `calibrate` puts its table, and builds look for it; a bundled model's new one has to be named."""
        return Path(f"{self.name}.calib.json") if self.source is None else table_path_of(self.source)

    @property
    def files(self) -> tuple[Path | None, ...]:
        """What an output must not replace."""
        return self.source, self.path, self.table_path


def prepare_model(name: str | os.PathLike[str] | None, size_hw: tuple[int, int] | None = None) -> Model:
    """Take a bundled name or an ``.onnx`` file as it is; export a ``.pt``, unpack a ``.pspnet`` into the user's cache.

    Args:
        name: a bundled name or a path; None is the default bundled model.
        size_hw: height and width in pixels; None keeps the model's own, or what `export` takes by default. Another
            size is exported from the checkpoint, beside an ``.onnx`` under the same name.

    Raises:
        ModelError: neither a bundled name nor a file, a file that cannot be read, or a size that needs a checkpoint.
        MissingPackage: exporting needs torch.
    """
    text = os.fspath(name) if name is not None else bundled.DEFAULT
    if text in bundled.names():
        model = Model(text, bundled.onnx_path(text), bundled.table_path(text))
        return model if size_hw is None else _at_size(model, bundled.checkpoint_path(text), size_hw)
    return replace(_prepared(Path(text), size_hw), source=Path(text))


def _prepared(path: Path, size_hw: tuple[int, int] | None) -> Model:
    if path.suffix == ".pt":
        return _exported(path, bundled.name_of(path), table_beside(path), size_hw)
    if path.suffix.lower() == ".pspnet":
        model = _unpacked(path)
        return model if size_hw is None else _at_size(model, model.path.with_suffix(".pt"), size_hw)
    from ..graph.onnx_file import read_model

    ensure_not_engine(path)
    read_model(path)
    model = Model(path.stem, path, table_beside(path))
    return model if size_hw is None else _at_size(model, path.with_suffix(".pt"), size_hw)


def table_beside(path: Path) -> Path | None:
    """The calibration table beside a model, checkpoint or pack, if there is one."""
    beside = table_path_of(path)
    return beside if beside.is_file() else None


def lacks_table(model: Model, problem: str = "INT8 needs a calibration table") -> CalibrationError:
    """The error for a model without a table, with the command that makes it where builds look for it."""
    return CalibrationError(
        f"{problem}, and there is no {model.table_place}",
        "make it from images like those that the model was trained on",
        calibrate_command(model),
    )


def calibrate_command(model: Model, table: Path | None = None) -> str:
    """The command that makes a model's table: at ``table``, None for where builds look for it."""
    words = ["pspnet-edge", "calibrate", str(model.source or model.name), "--root", "DIR"]
    return shlex.join([*words, *(["-o", str(table)] if table not in (None, model.table_place) else [])])


@contextmanager
def naming_model(model: Model, table: Path) -> Iterator[None]:
    """Errors about a table that does not fit, which know only the graph, name the model and the file."""
    try:
        yield
    except CalibrationError as error:
        if not (error.command or "").startswith("pspnet-edge calibrate"):
            raise
        raise CalibrationError(error.problem, error.fix, calibrate_command(model, table)) from error


def cache_folder() -> Path:
    """The user's cache of engines and timing caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pspnet-edge"


def _at_size(model: Model, checkpoint: Path, size_hw: tuple[int, int]) -> Model:
    from ..graph.onnx_file import read_model

    if read_model(model.path).shape_nhw[1:] == size_hw:
        return model
    if not checkpoint.is_file():
        raise ModelError(
            f"{model.path} has a fixed input size and no checkpoint {checkpoint.name} beside it: "
            f"give the .pt to build it at {size_hw[0]}x{size_hw[1]}"
        )
    return _exported(checkpoint, model.name, model.table_path, size_hw)


def _exported(checkpoint: Path, name: str, table: Path | None, size_hw: tuple[int, int] | None) -> Model:
    if not checkpoint.is_file():
        raise ModelError(f"there is no checkpoint {checkpoint}: `pspnet-edge models` lists the bundled names")
    size = f"{size_hw[0]}x{size_hw[1]}" if size_hw else "own-size"
    path = cache_folder() / f"{checkpoint.stem}-{sha256_of(checkpoint)[:12]}-{size}.onnx"
    if not path.is_file():
        require("torch", f"export {checkpoint}")
        from ..graph.export import export_checkpoint

        ensure_writable(path, sidecar=True)
        export_checkpoint(checkpoint, path, size_hw=size_hw)
    return Model(name, path, table or table_beside(path))


def _unpacked(path: Path) -> Model:
    """The model and table of a pack, written into the user's cache under the pack's SHA-256."""
    from ..graph.onnx_file import read_model

    pack = read_pack(path)
    folder = cache_folder() / "packs" / pack.version
    model, table = folder / f"{pack.name}.onnx", folder / f"{pack.name}.calib.json"
    remove_leftovers(folder)
    for part, place in ((TABLE, table), (MODEL, model)):
        if pack.has(part) and not (place.is_file() and sha256_of(place) == pack.manifest["parts"][part]["sha256"]):
            write_bytes(place, pack.read(part))
    found = read_model(model).label_set
    if found != pack.label_set:
        raise PackError(f"the pack {path} lists classes that differ from its model's", "recreate it")
    return Model(pack.name, model, table if pack.has(TABLE) else table_beside(path))

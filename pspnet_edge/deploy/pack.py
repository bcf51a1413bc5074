"""Making a pack: the model, what the accuracy gate decided, golden frames and what they gave here."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from .. import __version__, bundled
from ..artifact import ensure_writable, scratch_folder
from ..data.datasets import Dataset, ImageSet, SceneSet, is_labelled
from ..data.geometry import frame_at
from ..data.progress import Progress, silent
from ..engine.backends import choose_runtime, open_engine
from ..engine.build import Gate, build_engine
from ..engine.engine import Engine
from ..engine.model import Model, lacks_table
from ..errors import OptionError, PackError
from ..graph.calibration_table import CalibrationTable, read_table
from ..graph.onnx_file import ModelFile, read_model
from ..inputs import as_number, as_whole, read_text
from ..measure.evaluate import evaluate_engine
from ..pack_file import (
    LICENCE,
    MODEL,
    MOST_RELEASE,
    NAME_PATTERN,
    TABLE,
    golden_part,
    manifest_bytes,
    plain_name,
    write_pack,
)
from ..pixels import PixelFormat
from ..records import JsonRecord
from .golden import Picture, compare, encoded, segment
from .signature import sign

_log = logging.getLogger(__name__)

DEFAULT_GOLDEN = 6
DEFAULT_MARGIN = 0.02
DEFAULT_LEAST_AGREEMENT = 0.8
_NO_LICENCE = "No licence was stated where this pack was made.\n"


@dataclass(frozen=True)
class Pictures:
    """Images and where they come from."""

    images: ImageSet
    name: str
    split: str | None = None


@dataclass(frozen=True)
class Contents:
    """What goes into a pack beside the model."""

    name: str | None = None
    """None takes the model's."""
    calibration: Path | None = None
    """None takes the model's own table."""
    precisions: Sequence[str] = ("auto",)
    """To build on a board, the preferred first. ``auto``: int8 with a table, then fp16."""
    licence: Path | None = None
    """A text file; None takes the model card beside the model, or that of a bundled model."""
    pictures: Pictures | None = None
    """Golden frames are taken from them, evenly spaced, and mIoU is measured on them where they are labelled and
    ``miou`` is None. None takes the procedural scenes, for golden frames only."""
    golden: int = DEFAULT_GOLDEN
    miou: float | None = None
    """Measured elsewhere."""
    gate: Gate | None = None
    """Decides which convolutions stay out of INT8."""
    margin: float = DEFAULT_MARGIN
    """How much less a board's masks may agree with FP32's than those made here."""
    least_agreement: float = DEFAULT_LEAST_AGREEMENT
    """With FP32, below which no pack is made."""
    release: int = 0
    """Higher in each later pack for the same boards, which refuse a lower one; 0 where it has none."""
    run: Mapping[str, Any] = field(default_factory=dict)
    """``fit``, ``roi``, ``tiles``, ``flip`` as ``run`` takes them."""

    def __post_init__(self) -> None:
        as_whole(self.golden, "golden", least=1, most=32)
        as_whole(self.release, "release", least=0, most=MOST_RELEASE)
        as_number(self.margin, "margin", least=0, most=1)
        as_number(self.least_agreement, "least_agreement", least=0, most=1)
        if self.miou is not None:
            as_number(self.miou, "miou", least=0, most=1)


@dataclass(frozen=True)
class Packed(JsonRecord):
    """A pack that was made."""

    pack: Path
    sha256: str
    name: str
    precisions: tuple[str, ...]
    agreement_with_fp32: dict[str, float]
    kept_float: tuple[str, ...]
    miou: float | None
    golden: int
    release: int
    signed: bool
    has_licence: bool
    pack_bytes: int
    miou_of: str | None = None
    """The precision that mIoU was measured in; None where it was measured elsewhere or not at all."""


def make_pack(
    model: Model,
    path: Path,
    contents: Contents = Contents(),
    *,
    runtime: str = "auto",
    key: Path | None = None,
    progress: Progress = silent,
) -> Packed:
    """Make a pack. Equal inputs, runtime and versions give equal bytes.

    Args:
        model: what is packed.
        path: the file, ``NAME.pspnet``.
        contents: what goes into it.
        runtime: computes the golden masks here.
        key: an Ed25519 private key to sign with; None leaves the pack unsigned.
        progress: shows how far it is.

    Raises:
        OptionError: values that do not fit together.
        PackError: INT8 that differs too much from FP32.
        ModelError, CalibrationError, BuildError, DataError, OutputError: as the names say.
    """
    if path.suffix.lower() != ".pspnet":
        raise OptionError(f"{path} does not end in .pspnet", "give a name that does", parameter="output")
    ensure_writable(path, inputs=model.files)
    name = _checked_name(contents.name) if contents.name else plain_name(model.name)
    source = read_model(model.path)
    table_path = contents.calibration or model.table_path
    precisions = _checked_precisions(contents.precisions, model, table_path)
    licence = _licence(model, contents.licence)
    pictures = contents.pictures or Pictures(_scenes(source), "scenes", "test")
    names, frames = _golden(pictures, source, contents.golden)
    made = _on_this_machine(model, source, table_path, precisions, contents, pictures, frames, runtime, progress)
    parts = {MODEL: model.path.read_bytes(), LICENCE: (licence or _NO_LICENCE).encode()}
    if made.table is not None:
        parts[TABLE] = made.table
    for index, frame in enumerate(frames):
        parts[golden_part(index, None)] = encoded(frame)
        for precision, masks in made.masks.items():
            parts[golden_part(index, precision)] = encoded(masks[index])
    agreement = {
        precision: compare(masks, made.masks["fp32"], source.label_set.classes)
        for precision, masks in made.masks.items()
    }
    for precision, found in agreement.items():
        if found.share < contents.least_agreement:
            raise PackError(
                f"{precision} agrees with fp32 on {found.share:.1%} of the golden frames' pixels, "
                f"and on {found.worst_share:.1%} of {found.worst_class}",
                "calibrate on images like these, limit the loss with --max-drop, or lower --min-agreement",
            )
    shares = {precision: round(found.share, 6) for precision, found in agreement.items()}
    manifest = {
        "made_by": {"pspnet_edge": __version__},
        "name": name,
        "label_set": source.label_set.facts(),
        "shape_nhw": list(source.shape_nhw),
        "channels": source.channels,
        "precisions": list(precisions),
        "kept_float": list(made.kept_float),
        "measured": made.measured,
        "golden": {
            "names": names,
            "source": pictures.name,
            "agreement_with_fp32": shares,
            "limits": {precision: round(max(share - contents.margin, 0.0), 6) for precision, share in shares.items()},
        },
        "run": dict(contents.run),
    }
    if contents.release:
        manifest["release"] = contents.release
    signature = sign(manifest_bytes(manifest, parts), key) if key is not None else None
    digest = write_pack(path, manifest, parts, signature)
    _log.info("packed %s: SHA-256 %s", path, digest)
    return Packed(
        path,
        digest,
        name,
        precisions,
        shares,
        made.kept_float,
        made.measured["miou"] if made.measured else None,
        len(frames),
        contents.release,
        key is not None,
        licence is not None,
        path.stat().st_size,
        made.measured["precision"] if made.measured else None,
    )


class _Measured(TypedDict):
    """Of the manifest; only ``miou`` where it was measured elsewhere."""

    miou: float
    precision: str | None
    dataset: str | None
    split: str | None
    images: int | None


@dataclass(frozen=True)
class _Made:
    masks: dict[str, list[Picture]]
    table: bytes | None
    kept_float: tuple[str, ...]
    measured: _Measured | None


def _on_this_machine(
    model: Model,
    source: ModelFile,
    table_path: Path | None,
    precisions: Sequence[str],
    contents: Contents,
    pictures: Pictures,
    frames: Sequence[Picture],
    runtime: str,
    progress: Progress,
) -> _Made:
    """Build an engine in each precision, and keep what the golden frames give."""
    chosen = choose_runtime(runtime)
    if contents.gate is not None and "int8" not in precisions:
        raise OptionError("it limits what INT8 loses, and the pack has no int8", "leave it out", parameter="max_drop")
    masks: dict[str, list[Picture]] = {}
    measured: _Measured | None = None
    if contents.miou is not None:
        measured = {"miou": contents.miou, "precision": None, "dataset": None, "split": None, "images": None}
    wanted = ["fp32", *(precision for precision in precisions if precision != "fp32")]
    with scratch_folder() as folder:
        table: Path | None = None
        if table_path is not None:
            # A copy, for the gate writes what it decides into the table, and this one may be the user's.
            read_table(table_path)
            table = folder / "table.calib.json"
            table.write_bytes(table_path.read_bytes())
        with progress("pack", len(wanted)) as advance:
            for done, precision in enumerate(wanted):
                advance(done, f"building {precision}, {chosen}")
                place = folder / f"{precision}.engine"
                gate = contents.gate if precision == "int8" else None
                build_engine(model, precision, chosen, place, calibration=table, gate=gate)
                with open_engine(place) as engine:
                    masks[precision] = segment(engine, frames)
                    labelled = pictures.images if contents.pictures and is_labelled(pictures.images) else None
                    if measured is None and precision == precisions[0] and labelled is not None:
                        measured = _measured(engine, labelled, pictures, precision, progress)
            advance(len(wanted), "")
        decided: CalibrationTable | None = read_table(table).carried_to(source.proto) if table else None
        content = table.read_bytes() if table else None
    return _Made(masks, content, tuple(decided.kept_float) if decided and "int8" in precisions else (), measured)


def _measured(engine: Engine, labelled: Dataset, pictures: Pictures, precision: str, progress: Progress) -> _Measured:
    with progress("evaluate", len(labelled)) as advance:
        facts = evaluate_engine(engine, labelled, on_image=lambda done: advance(done, ""))
    return {
        "miou": round(float(facts["miou"]), 6),
        "precision": precision,
        "dataset": pictures.name,
        "split": pictures.split,
        "images": facts["images"],
    }


def _checked_name(name: str) -> str:
    if not re.fullmatch(NAME_PATTERN, name):
        raise OptionError(
            f"{name[:80]!r} is not a name for a pack",
            "give letters, digits, '-', '_' and '.', at most 80",
            parameter="name",
        )
    return name


def _checked_precisions(wanted: Sequence[str], model: Model, table: Path | None) -> tuple[str, ...]:
    if list(wanted) == ["auto"]:
        return ("int8", "fp16") if table is not None else ("fp16", "fp32")
    for precision in wanted:
        if precision not in ("fp32", "fp16", "int8"):
            raise OptionError(
                f"unknown precision {precision!r}", "choose auto, or some of int8, fp16, fp32", parameter="precision"
            )
    if "int8" in wanted and table is None:
        raise lacks_table(model)
    return tuple(dict.fromkeys(wanted))


def _licence(model: Model, given: Path | None) -> str | None:
    if given is not None:
        return read_text(given, "licence")
    if model.name in bundled.names() and model.path == bundled.onnx_path(model.name):
        return bundled.card_path(model.name).read_text(encoding="utf-8")
    beside = model.path.with_suffix(".md")
    return read_text(beside, "model card") if beside.is_file() else None


def _scenes(source: ModelFile) -> ImageSet:
    if source.channels == 4:
        raise OptionError("the model takes four channels, which the demo scenes lack", "give --images DIR")
    return SceneSet("test", PixelFormat(channels=source.channels))


def _golden(pictures: Pictures, source: ModelFile, count: int) -> tuple[list[str], list[Picture]]:
    """Frames at the model's size, evenly spaced over the images, and what they are called."""
    images = pictures.images
    if len(images) < 1:
        raise OptionError(f"{pictures.name} holds no image", "give another --dataset or --images")
    chosen = [position * len(images) // min(count, len(images)) for position in range(min(count, len(images)))]
    frames = [frame_at(images.image(index), source.shape_nhw[1:]) for index in chosen]
    shaped = [frame.reshape(*frame.shape[:2], -1) for frame in frames]
    for frame in shaped:
        if frame.shape[2] != source.channels:
            raise OptionError(f"{pictures.name} has {frame.shape[2]} channels and the model takes {source.channels}")
    return [images.name(index)[:1000] for index in chosen], shaped

"""A whole benchmark: from models and options to a report."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..camera.sources import open_source
from ..data.held_out import HELD_OUT, about_images, unseen_images
from ..data.progress import Progress, silent
from ..engine.backends import read_info
from ..engine.build import Model, check_precision, choose_runtime
from ..engine.model import calibrate_command
from ..graph.onnx_file import read_model
from ..graph.precision import PRECISIONS
from ..measure.benchmark import Protocol, measure, seconds_of_work, write_demo_video
from ..measure.environment import environment
from ..measure.facts import Place
from ..measure.power import power_meter
from ..measure.store import Store
from ..measure.subjects import Size, models_at_sizes, subjects_of
from ..records import counted
from .document import document, estimates_of, with_miou
from .facts import Report
from .render import PICTURES
from .rows import rows_of
from .tables import BUSY, busy_sentence

_SPLIT = "test"
_WORK = ".unfinished"
"""Engines, exported models and results of a benchmark that is not done."""


@dataclass(frozen=True)
class Wanted:
    """What to measure, and how long."""

    models: Sequence[str] = ()
    """Bundled names, ``.onnx``, ``.pt``, ``.pspnet`` or engine files; none means the default bundled model."""
    precisions: Sequence[str] = ()
    """None means FP32, FP16 and, of models with a calibration table, INT8."""
    sizes_hw: Sequence[tuple[int, int]] = ()
    runtimes: Sequence[str] = ("auto",)
    dataset: str | None = "scenes"
    root: Path | None = None
    split: str | None = None
    """None is test, else val, else what training held out, else every image."""
    video: Path | None = None
    """What the loop decodes; None is the demo drive."""
    calibration: Path | None = None
    rounds: int = 7
    seconds: float = 1.0
    boards: Sequence[str] = field(default_factory=tuple)
    """Boards to estimate for."""


def measured_report(
    wanted: Wanted,
    output: Path,
    *,
    command: str,
    fresh: bool = False,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda sentence: None,
) -> Report:
    """Measure and put the report together. What is finished is kept in ``output`` until ``forget_work``.

    Args:
        wanted: what to measure.
        output: folder of the report and its sample pictures.
        command: what makes the report again, for the report.
        fresh: forget what an interrupted benchmark had finished.
        progress: shows how far it is.
        say: called with what a reader should know.
    """
    for name in wanted.precisions:
        check_precision(name)
    chosen = list(dict.fromkeys(choose_runtime(name) for name in wanted.runtimes))
    work = output / _WORK
    store = Store(work / "done")
    if fresh:
        store.clear()
    sizes = list(dict.fromkeys(wanted.sizes_hw))
    found, engines = models_at_sizes(list(wanted.models), sizes, wanted.calibration, work, store)
    given = wanted.calibration
    precisions = list(dict.fromkeys(wanted.precisions))
    subjects = subjects_of(found, engines, precisions, chosen, work, leave_out_int8=given is not None)
    estimates = estimates_of(found, wanted.precisions or PRECISIONS, wanted.boards)
    for model in {model.name: model for model, _ in found}.values():
        if given is not None and model.table_path != given:
            say(f"{given} belongs to another model than {model.name}")
        if model.table_path is None and (not precisions or "int8" in precisions):
            makes = f"`{calibrate_command(model)}` makes it"
            say(f"{model.name} is measured without INT8, which needs a calibration table: {makes}")
    images = _place_of_images(wanted, found, engines, say)
    video = _ensure_video(wanted.video, work)
    protocol = Protocol(wanted.rounds, wanted.seconds, images, str(video))
    say(f"{counted(len(subjects), 'engine')}, {wanted.rounds} rounds")
    with power_meter() as meter:
        facts = environment(meter.board if meter else {})
        if facts["load_at_start"] > BUSY * facts["cores"]:
            say(busy_sentence(facts))
        showing: AbstractContextManager[Any] = progress("benchmark", seconds_of_work(subjects, protocol))
        with showing as advance:
            measured, samples = measure(subjects, protocol, output / PICTURES, store, meter, advance)
    rows = rows_of(measured)
    return document(
        rows=rows,
        samples=samples,
        estimates=with_miou(estimates, rows),
        engine=subjects[0].engine,
        machine=facts,
        protocol=protocol,
        video="the demo drive" if wanted.video is None else wanted.video.name,
        command=command,
    )


def forget_work(output: Path) -> None:
    """Remove what the report was made from, which would otherwise be taken for part of a newer one."""
    shutil.rmtree(output / _WORK, ignore_errors=True)


def _place_of_images(
    wanted: Wanted, models: Sequence[tuple[Model, Size]], engines: Sequence[Path], say: Callable[[str], None]
) -> Place:
    """Where the images for mIoU are: the same ones for every model, which none is known to have been trained on."""
    name, root = wanted.dataset, wanted.root
    place: Place = {"dataset": name, "root": str(root) if root else None, "split": wanted.split or _SPLIT}
    if name is None:
        return place
    networks: list[Mapping[str, Any]] = [read_model(model.path).facts for model, _ in models]
    networks += [read_info(path).facts for path in engines]
    asked, count = wanted.split or _SPLIT, 0
    if wanted.split is None:
        for facts in networks:
            images, place["split"] = unseen_images(name, root, asked, facts)
            count = len(images)
            if place["split"] == HELD_OUT:
                place["held_out"] = str(facts["held_out"])
                break
    said = (about_images(name, root, asked, place["split"], count, facts) for facts in networks)
    for line in dict.fromkeys(filter(None, said)):
        say(line)
    return place


def _ensure_video(video: Path | None, work: Path) -> Path:
    if video is not None:
        open_source(None, str(video)).close()
        return video
    place = work / "demo.mp4"
    if not place.is_file():
        write_demo_video(place)
    return place

"""Measure engines side by side: latency in rounds that take turns, mIoU, size, memory, watts.

Each unit of work (a build, one engine's turn in one round, one engine's mIoU) is kept as soon as it is done, so an
interrupted benchmark resumes. In a round every engine runs once, in a shuffled order, in a fresh process;
a machine that slows down for a minute slows all of them down alike.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import cv2

from .. import __version__
from ..artifact import atomic_path, sha256_of
from ..data.datasets import is_labelled
from ..data.progress import Advance
from ..data.scenes import FRAMES_PER_SECOND, Drive
from ..engine.backends import read_info
from ..errors import OutputError
from .facts import Built, Place, Sample, SampleFacts, Score, Task, Turn
from .power import PowerMeter
from .store import Key, Store
from .subjects import Subject, build
from .worker import images_of, run_task

_log = logging.getLogger(__name__)

VIDEO_FRAMES = 120
_SAMPLES = 3
Run = Callable[[Task, Callable[[int], None]], Any]
"""Does a task in its own process, like ``run_task``; what comes back depends on its kind."""


_Result = TypeVar("_Result", bound=Mapping[str, Any])


@dataclass(frozen=True)
class Protocol:
    """How things are measured."""

    rounds: int
    seconds: float
    """A slice: each engine runs so long alone, and so long again in the loop, in each round."""
    images: Place
    """The images for mIoU."""
    video: str
    """What the loop decodes: a file that ``camera.sources`` opens."""


@dataclass
class Measured:
    """All that is known of one subject."""

    subject: Subject
    built: Built
    rounds: list[Turn]
    score: Score | None = None
    """What ``evaluate`` gives; None where labels do not fit."""
    agreement: float | None = None
    """Share of mask pixels as in FP32; None without an FP32 engine of the same model and size."""


def measure(
    subjects: Sequence[Subject],
    protocol: Protocol,
    work: Path,
    store: Store,
    meter: PowerMeter | None,
    advance: Advance,
    run: Run = run_task,
) -> tuple[list[Measured], list[Sample]]:
    """Build, time and score every subject.

    Args:
        subjects: what to measure.
        protocol: how.
        work: folder for sample pictures.
        store: what an earlier run finished.
        meter: reads watts while engines run; None where there is none.
        advance: told how many of ``seconds_of_work`` are done.
        run: does a task in its own process.

    Returns:
        What was measured, in the order of the subjects; and the sample overlays of one pair of engines.

    Raises:
        PspnetEdgeError: an engine that cannot be built or run, or images that cannot be used; what was done is kept.
    """
    steps = _Steps(subjects, protocol, advance)
    measured = []
    for subject in subjects:
        steps.now(f"build {subject.name}")
        measured.append(Measured(subject, build(subject, store), []))
        steps.did(steps.BUILD)
    video = {"name": Path(protocol.video).name, "sha256": _hash_of_input(Path(protocol.video))}
    for turn in range(protocol.rounds):
        order = list(measured)
        random.Random(turn).shuffle(order)
        for entry in order:
            steps.now(f"round {turn + 1} of {protocol.rounds}  {entry.subject.name}")
            key = {
                "time": _identity(entry),
                "video": video,
                "seconds": protocol.seconds,
                "round": turn,
            }
            entry.rounds.append(_kept(store, key, partial(_timed, entry.subject, protocol, meter, run)))
            steps.did(steps.turn)
    for entry in measured:
        steps.now(f"mIoU  {entry.subject.name}")
        _score(entry, measured, protocol, store, run, steps)
    steps.now("samples")
    return measured, _samples(measured, protocol, work, store, run)


def seconds_of_work(subjects: Sequence[Subject], protocol: Protocol) -> int:
    """Roughly how long ``measure`` takes, in seconds: the unit of its progress."""
    steps = _Steps(subjects, protocol, lambda done, note: None)
    return len(subjects) * (steps.BUILD + protocol.rounds * steps.turn + steps.score)


def write_demo_video(path: Path, frames: int = VIDEO_FRAMES) -> None:
    """Write the procedural drive as MPEG-4, 640×480: what the loop decodes when no video is named.

    Raises:
        OutputError: this OpenCV cannot encode it.
    """
    drive = Drive()
    with atomic_path(path) as temporary:
        size_wh = drive.size_hw[::-1]
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), FRAMES_PER_SECOND, size_wh)
        if not writer.isOpened():
            raise OutputError("this OpenCV cannot encode MPEG-4: give a video with --input FILE")
        for index in range(frames):
            writer.write(drive.frame(index).image)
        writer.release()


class _Steps:
    """Progress in seconds of expected work."""

    BUILD = 2

    def __init__(self, subjects: Sequence[Subject], protocol: Protocol, advance: Advance) -> None:
        self._advance = advance
        self._done = 0
        self._note = ""
        self.turn = round(2 * protocol.seconds + 3)
        self.images = len(images_of(protocol.images)) if subjects else 0
        self.score = 2 + self.images // 25

    def now(self, note: str) -> None:
        self._note = note
        self._advance(self._done, note)

    def part(self, images: int) -> None:
        """So many images of a score are done."""
        self._advance(self._done + self.score * images // max(self.images, 1), self._note)

    def did(self, seconds: int) -> None:
        self._done += seconds
        self._advance(self._done, self._note)


def _identity(entry: Measured) -> dict[str, object]:
    """What a result of an engine depends on; two runtimes may have the very same file."""
    built = entry.built
    return {
        "engine": built["engine_sha256"],
        "runtime": [entry.subject.runtime, built["runtime_version"]],
        "package": __version__,
    }


def _kept(store: Store, key: Key, work: Callable[[], _Result]) -> _Result:
    known: _Result | None = store.get(key)
    if known is None:
        known = work()
        store.put(key, known)
    return known


def _untold(done: int) -> None:
    """A task that is not made of images tells no progress."""


def _timed(subject: Subject, protocol: Protocol, meter: PowerMeter | None, run: Run) -> Turn:
    task: Task = {"kind": "time", "engine": str(subject.engine), "input": protocol.video, "seconds": protocol.seconds}
    facts: Turn = run(task, _untold)
    window = facts["engine"]["window"]
    facts["power"] = meter.between([(window[0], window[1])]) if meter else None
    return facts


def _score(
    entry: Measured,
    measured: Sequence[Measured],
    protocol: Protocol,
    store: Store,
    run: Run,
    steps: _Steps,
) -> None:
    images = images_of(protocol.images)
    key = {**_identity(entry), "images": protocol.images}
    task: Task = {"engine": str(entry.subject.engine), "images": protocol.images}
    classes = read_info(entry.subject.engine).label_set.classes
    if is_labelled(images) and images.label_set.classes == classes:
        entry.score = _kept(store, {"score": key}, lambda: run({"kind": "score", **task}, steps.part))
    else:
        if is_labelled(images):
            _log.warning(
                "%s has other classes than %s, so its mIoU is not measured", entry.subject.name, images.label_set.name
            )
        exact = exact_of(entry.subject, [other.subject for other in measured])
        if exact is not None:
            against = next(_identity(other) for other in measured if other.subject is exact)
            found = _kept(
                store,
                {"agree": key, "exact": against},
                lambda: run({"kind": "agree", "exact": str(exact.engine), **task}, steps.part),
            )
            entry.agreement = found["agreement"]
    steps.did(steps.score)


def exact_of(subject: Subject, subjects: Sequence[Subject]) -> Subject | None:
    """The FP32 engine that a subject is compared with: of its model and size, and of its runtime if there is one."""
    exact = [
        other
        for other in subjects
        if other.precision == "fp32" and (_family(other), other.size_hw) == (_family(subject), subject.size_hw)
    ]
    return next((other for other in exact if other.runtime == subject.runtime), exact[0] if exact else None)


def _family(subject: Subject) -> str:
    return subject.family or subject.model


def _samples(
    measured: Sequence[Measured],
    protocol: Protocol,
    work: Path,
    store: Store,
    run: Run,
) -> list[Sample]:
    """Overlays of the first engine in INT8 beside FP32, or of the first other precision where there is no INT8."""
    subjects = [entry.subject for entry in measured]
    others = sorted((s for s in subjects if s.precision != "fp32"), key=lambda s: s.precision != "int8")
    other = next((s for s in others if exact_of(s, subjects)), None)
    if other is None:
        return []
    exact = exact_of(other, subjects)
    assert exact is not None
    pair = [_identity(entry) for entry in measured if entry.subject in (exact, other)]
    task: Task = {
        "kind": "samples",
        "engine": str(other.engine),
        "exact": str(exact.engine),
        "images": protocol.images,
        "folder": str(work),
        "count": _SAMPLES,
    }
    found = _kept(store, {"samples": pair, "images": protocol.images, "count": _SAMPLES}, lambda: run(task, _untold))
    samples: list[SampleFacts] = found["samples"]
    return [{**sample, "exact": exact.name, "other": other.name, "precision": other.precision} for sample in samples]


def _hash_of_input(path: Path) -> str | None:
    """A folder of images is known by its name alone."""
    return sha256_of(path) if path.is_file() else None

"""The loop: capture, inference and output overlap, each on separate threads.

    source 0 ──► feed ──► lane ─┐
    source 1 ──► feed ──► lane ─┴─► inference thread ──► lane ──► main thread: sinks

A live source overwrites a frame that inference has not taken yet, so what is segmented is always the newest one and
the age of the picture cannot grow. A file waits, so every frame comes through, once and in order. Several sources
share the engine: in one batch when it has one, in turn otherwise. Feeds make the engine's input, so decoding,
preparing, inference and drawing overlap for every kind of source; an engine with the head's kernel makes it by itself.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from ..data.geometry import STRETCHED, Geometry
from ..engine.engine import Engine
from ..errors import OptionError
from .feed import WARM_UP, Captured, Feed, SourceSummary
from .inference import Inference
from .lanes import Lanes
from .overlay import Overlay
from .shot import Shot
from .sinks import Sink
from .sources import ScaledSource, Source
from .timing import Durations, Rate, median_of

STAGES = ("capture", "prepare", "infer", "overlay", "output")
_DEPTH = 2
"""Frames that may wait between two stages: one being made while one is taken."""
_TICK_S = 0.1
_REDRAW_S = 0.5
"""How often the last picture of a lost source is shown again, with its age."""
_STUCK_S = 30.0
"""A thread that did nothing for this long hangs: longer than any open or read may take before it fails."""


class WarmUp(TypedDict):
    """The first frames, for which a runtime is slow."""

    frames: int
    latency_ms: list[float]
    """Compute time of each."""


@dataclass(frozen=True)
class RunSummary:
    """What came of a run, or of one that is under way. Percentiles leave the warm-up out."""

    frames: int
    """Frames that were segmented and shown."""
    dropped: int
    """Frames captured and not segmented."""
    lost: int
    """Frames of damaged files that could not be decoded, and images that could not be read."""
    fps: float
    """Since the start."""
    fps_recent: float
    """Over the last 5 s."""
    latency_ms: dict[str, float]
    """Compute: from the moment inference takes a frame to its mask; p50, p95, p99 of the last 10 000 frames."""
    age_ms: dict[str, float]
    """End to end: from the end of capture to the end of output, likewise."""
    stages_ms: dict[str, float]
    """Medians of ``STAGES``, over all sources."""
    warm_up: WarmUp
    """The first frames."""
    elapsed_s: float
    sources: tuple[SourceSummary, ...]

    def to_dict(self) -> dict[str, object]:
        """As JSON values."""
        return asdict(self) | {"sources": [source.to_dict() for source in self.sources]}


class Loop:
    """One run from sources through an engine into sinks.

    Args:
        sources: where frames come from, at least one.
        engine: an opened engine; its batch is filled from the sources in turn.
        frames: stop after so many, of all sources together; None runs until every source ends.
        geometry: how frames go into the engine.
        overlay: draws the pictures; left out, one with the usual opacity and legend.

    Raises:
        OptionError: there is no source.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        engine: Engine,
        frames: int | None = None,
        *,
        geometry: Geometry = STRETCHED,
        overlay: Overlay | None = None,
    ) -> None:
        if not sources:
            raise OptionError("the loop has no source", "give a camera or an input", parameter="sources")
        self._engine = engine
        self._limit = frames
        self._geometry = geometry
        self._any_live = any(source.live for source in sources)
        self._all_live = all(source.live for source in sources)
        batch = engine.info.shape_nhw[0]
        self._inbox: Lanes[Captured] = Lanes([source.live for source in sources], max(_DEPTH, batch))
        # A live picture that waits grows old, so only one does.
        self._outbox: Lanes[Shot] = Lanes([False], 1 if self._any_live else _DEPTH)
        prepare = None if geometry.tiles or engine.fits else self._engine_input
        self._feeds = [Feed(camera, source, self._inbox, prepare) for camera, source in enumerate(sources)]
        self._drawer = overlay or Overlay(engine.info.label_set)
        self._inference = Inference(engine, self._inbox, self._outbox, geometry, frames, overlaps=not self._any_live)
        self._overlay, self._output = Durations(WARM_UP), Durations(WARM_UP)
        self._age, self._rate = Durations(WARM_UP), Rate()
        self._last: list[Shot | None] = [None] * len(self._feeds)
        self._stopped = False
        self._done = 0
        self._started = self._ended = 0.0
        self._ticked = 0.0

    def stop(self) -> None:
        """End the run after the frame in hand; safe from a signal handler or another thread."""
        # A flag and no lock: a signal handler interrupts the main thread, which may hold any lock there is.
        self._stopped = True

    def run(self, sinks: Sequence[Sink] = (), on_frame: Callable[[int], None] = lambda done: None) -> RunSummary:
        """Run to the end and give the summary.

        Args:
            sinks: where shots go; a picture is drawn when one of them asks for it. Where none of them wants whole
                frames (``whole_frames = False``), board cameras give frames of the engine's size only.
            on_frame: called with the number of frames done, after each.

        Raises:
            SourceError, EngineError, OutputError: what a stage raised.
        """
        whole = any(getattr(sink, "whole_frames", True) for sink in sinks)
        with contextlib.closing(self.shots(whole)) as shots:
            for shot in shots:
                answers = [sink.show(shot) for sink in sinks]
                if not all(answers):
                    self.stop()
                on_frame(self._done)
        return self.summary()

    def shots(self, whole: bool = True) -> Generator[Shot, None, None]:
        """Every shot, as it is made; between two of them the sinks, or whoever iterates, have the time.

        A shot with a ``banner`` is an old one shown again. A loop runs once.

        Args:
            whole: whether frames are wanted at their own size.
        """
        engine_hw = self._engine.size_hw if self._geometry.is_plain else None
        for feed in self._feeds:
            if isinstance(feed.source, ScaledSource):
                feed.source.ask(engine_hw, whole or engine_hw is None)
        self._started = self._ticked = time.perf_counter()
        try:
            self._inference.start()
            for feed in self._feeds:
                feed.start()
            yield from self._taken()
        finally:
            self._ended = time.perf_counter()
            self._inbox.close()
            self._outbox.close()
            for feed in self._feeds:
                feed.stop()
            self._inference.join()
        for failure in (self._inference.failure, *(feed.failure for feed in self._feeds)):
            if failure is not None:
                raise failure

    def summary(self) -> RunSummary:
        """Frames, drops, FPS and times so far; any thread may ask."""
        elapsed = (self._ended or time.perf_counter()) - self._started
        feeds, inference = self._feeds, self._inference
        stages = (
            median_of([feed.capture for feed in feeds]),
            median_of([feed.prepare for feed in feeds]),
            inference.infer.median(),
            self._overlay.median(),
            self._output.median(),
        )
        return RunSummary(
            frames=self._done,
            dropped=sum(feed.dropped for feed in feeds),
            lost=sum(getattr(feed.source, "lost", 0) for feed in feeds),
            fps=round(self._done / elapsed, 3) if elapsed > 0 else 0.0,
            fps_recent=round(self._rate.per_second(), 3),
            latency_ms=inference.latency.percentiles(),
            age_ms=self._age.percentiles(),
            stages_ms=dict(zip(STAGES, stages, strict=True)),
            warm_up={"frames": len(inference.latency.first), "latency_ms": list(inference.latency.first)},
            elapsed_s=round(elapsed, 3),
            sources=tuple(feed.summary() for feed in feeds),
        )

    def stuck(self) -> str:
        """What hangs, in a few words; empty while the loop does its work or tries to get a source back."""
        now = time.perf_counter()
        if now - self._ticked > _STUCK_S:
            return "output"
        since = self._inference.busy_since
        if since is not None and now - since > _STUCK_S:
            return "inference"
        hung = [feed.source.name for feed in self._feeds if not feed.ended and now - feed.progressed > _STUCK_S]
        # A file that waits for its turn does nothing, and rightly.
        return ", ".join(hung) if hung and self._all_live else ""

    def _engine_input(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        layout = self._geometry.layout((frame.shape[0], frame.shape[1]), self._engine.size_hw)
        return next(layout.inputs(self._engine.with_channels(frame)))

    def _taken(self) -> Iterator[Shot]:
        redrawn = self._started
        while not self._stopped and (self._limit is None or self._done < self._limit):
            taken = self._outbox.take(1, _TICK_S)
            self._ticked = start = time.perf_counter()
            if taken is None:
                return
            for shot in taken:
                self._last[shot.camera] = shot
                shot.caption = self._caption(shot)
                shot.overlay = self._drawer
                yield shot
                self._count(shot, start)
            if start - redrawn > _REDRAW_S:
                redrawn = start
                yield from self._shown_again()

    def _count(self, shot: Shot, start: float) -> None:
        end = time.perf_counter()
        feed = self._feeds[shot.camera]
        for drawing, output, age, rate in (
            (self._overlay, self._output, self._age, self._rate),
            (feed.drawing, feed.output, feed.age, feed.rate),
        ):
            drawing.add(shot.drawing_s)
            output.add(end - start - shot.drawing_s)
            age.add(end - shot.captured)
            rate.add(end)
        self._done += 1

    def _shown_again(self) -> Iterator[Shot]:
        """The last shot of every source that is lost, to be shown again."""
        for feed, last in zip(self._feeds, self._last):
            if last is not None and feed.is_lost:
                age_s = time.perf_counter() - last.captured
                reason = feed.trouble or f"{feed.source.name} gives no frames"
                yield last.again(self._caption(last), f"STALE {age_s:.0f} s: {reason}")

    def _caption(self, shot: Shot) -> str:
        info, source = self._engine.info, self._feeds[shot.camera].source
        name = f"{source.name}   " if len(self._feeds) > 1 else ""
        # A file's frames are as old as they are: their age says nothing.
        age = f"   age {1000 * (time.perf_counter() - shot.captured):4.0f} ms" if source.live else ""
        return f"{name}{self._rate.per_second():5.1f} FPS{age}   {info.precision} {info.runtime}"

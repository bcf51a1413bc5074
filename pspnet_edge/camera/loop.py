"""The loop: capture, inference and output overlap, each on threads of their own.

    source 0 ──► feed ──► lane ─┐
    source 1 ──► feed ──► lane ─┴─► inference thread ──► lane ──► main thread: sinks

A live source overwrites a frame that inference has not taken yet, so what is segmented is always the newest one and
the age of the picture cannot grow. A file waits, so every frame comes through, once and in order. Several sources
share the engine: in one batch when it has one, in turn otherwise.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from ..engine.engine import Engine
from ..errors import OptionError
from .feed import Captured, Feed
from .inference import Inference
from .lanes import Lanes
from .overlay import Overlay
from .shot import Shot
from .sinks import Sink
from .sources import Source
from .timing import Durations, Rate

STAGES = ("capture", "prepare", "infer", "overlay", "output")
_DEPTH = 2
"""Frames that may wait between two stages: one being made while one is taken."""
_TICK_S = 0.1
_REDRAW_S = 0.5
"""How often the last picture of a lost source is shown again, with its age."""
_STUCK_S = 30.0
"""A thread that did nothing for so long hangs: longer than any open or read may take before it fails."""


class Loop:
    """One run from sources through an engine into sinks.

    Args:
        sources: where frames come from, at least one.
        engine: an opened engine; its batch is filled from the sources in turn.
        sinks: where shots go; a picture is drawn when one of them asks for it.
        frames: stop after so many, of all sources together; None runs until every source ends.
        overlay: draws the pictures; left out, one with the usual opacity and legend.

    Raises:
        OptionError: there is no source.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        engine: Engine,
        sinks: Sequence[Sink],
        frames: int | None = None,
        overlay: Overlay | None = None,
    ) -> None:
        if not sources:
            raise OptionError("the loop has no source: give a camera or an input")
        self._engine = engine
        self._sinks = sinks
        self._limit = frames
        any_live = any(source.live for source in sources)
        batch = engine.info.shape_nhw[0]
        self._inbox: Lanes[Captured] = Lanes([source.live for source in sources], max(_DEPTH, batch))
        # A live picture that waits grows old, so only one does.
        self._outbox: Lanes[Shot] = Lanes([False], 1 if any_live else _DEPTH)
        self._feeds = [Feed(camera, source, self._inbox, engine.size_hw) for camera, source in enumerate(sources)]
        overlays = [overlay or Overlay(engine.info.label_set)] * len(sources)
        self._inference = Inference(engine, self._inbox, self._outbox, overlays, frames, overlaps=not any_live)
        self._overlay, self._output = Durations(), Durations()
        self._age, self._rate = Durations(), Rate()
        self._last: list[Shot | None] = [None] * len(self._feeds)
        self._stopped = False
        self._done = 0
        self._started = self._ended = 0.0
        self._ticked = 0.0

    def stop(self) -> None:
        """End the run after the frame in hand; safe from a signal handler or another thread."""
        # A flag and no lock: a signal handler interrupts the main thread, which may hold any lock there is.
        self._stopped = True

    def run(self, on_frame: Callable[[int], None] = lambda done: None) -> dict[str, Any]:
        """Run to the end and give the summary.

        Args:
            on_frame: called with the number of frames done, after each.

        Raises:
            SourceError, EngineError, OutputError: what a stage raised.
        """
        with contextlib.closing(self.shots()) as shots:
            for shot in shots:
                answers = [sink.show(shot) for sink in self._sinks]
                if not all(answers):
                    self.stop()
                on_frame(self._done)
        return self.summary()

    def shots(self) -> Generator[Shot, None, None]:
        """Every shot, as it is made; between two of them the sinks, or whoever iterates, have the time.

        A shot with a ``banner`` is an old one shown again. A loop runs once.
        """
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

    def summary(self) -> dict[str, Any]:
        """Frames, drops, FPS and times so far; any thread may ask.

        ``latency_ms`` is compute: from the moment inference takes a frame to its mask. ``age_ms`` is end to end: from
        the end of capture to the end of output. Percentiles are of the last 10 000 frames, ``fps_recent`` of 5 s.
        """
        elapsed = (self._ended or time.perf_counter()) - self._started
        feeds = self._feeds
        # Frames of a file are prepared beside inference, by the feed.
        prepare = self._inference.prepare if feeds[0].source.live else feeds[0].prepare
        stages = (feeds[0].capture, prepare, self._inference.infer, self._overlay, self._output)
        return {
            "frames": self._done,
            "dropped": sum(feed.dropped for feed in feeds),
            "fps": round(self._done / elapsed, 3) if elapsed > 0 else 0.0,
            "fps_recent": round(self._rate.per_second(), 3),
            "latency_ms": self._inference.latency.percentiles(),
            "age_ms": self._age.percentiles(),
            "stages_ms": {name: durations.median() for name, durations in zip(STAGES, stages)},
            "elapsed_s": round(elapsed, 3),
            "sources": [feed.facts() for feed in feeds],
        }

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
        return ", ".join(hung) if hung and all(feed.source.live for feed in self._feeds) else ""

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
                yield shot
                self._count(shot, start)
            if start - redrawn > _REDRAW_S:
                redrawn = start
                yield from self._stale()

    def _count(self, shot: Shot, start: float) -> None:
        end = time.perf_counter()
        self._overlay.add(shot.drawing_s)
        self._output.add(end - start - shot.drawing_s)
        self._age.add(end - shot.captured)
        self._rate.add(end)
        self._done += 1

    def _stale(self) -> Iterator[Shot]:
        """The last shot of every source that is lost, to be shown again."""
        for feed, last in zip(self._feeds, self._last):
            if last is not None and feed.is_stale:
                age_s = time.perf_counter() - last.captured
                reason = feed.trouble or f"{feed.source.name} gives no frames"
                yield last.again(self._caption(last), f"STALE {age_s:.0f} s: {reason}")

    def _caption(self, shot: Shot) -> str:
        info, source = self._engine.info, self._feeds[shot.camera].source
        name = f"{source.name}   " if len(self._feeds) > 1 else ""
        # A file's frames are as old as they are: their age says nothing.
        age = f"   age {1000 * (time.perf_counter() - shot.captured):4.0f} ms" if source.live else ""
        return f"{name}{self._rate.per_second():5.1f} FPS{age}   {info.precision} {info.runtime}"

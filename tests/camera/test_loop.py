from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pspnet_edge.camera.feed import WARM_UP, Feed
from pspnet_edge.camera.lanes import Lanes
from pspnet_edge.camera.loop import STAGES, Loop, RunSummary
from pspnet_edge.camera.shot import Shot
from pspnet_edge.data.geometry import Geometry, mask_at
from pspnet_edge.engine.engine import Engine, EngineInfo
from pspnet_edge.errors import EngineError, SourceError
from pspnet_edge.labels import CAMVID

INFO = EngineInfo(Path("counting.engine"), "test", "fp32", (1, 8, 8), CAMVID, {})


class Numbers:
    """A source whose frame n is filled with n."""

    name = "numbers"
    fps = 30.0

    def __init__(self, count: int | None, live: bool = False, every_s: float = 0.0) -> None:
        self.live = live
        self._count = count
        self._every_s = every_s
        self.given = 0

    def read(self) -> np.ndarray | None:
        if self._count is not None and self.given == self._count:
            return None
        time.sleep(self._every_s)
        self.given += 1
        return np.full((8, 8, 3), self.given % 250, np.uint8)

    def close(self) -> None:
        pass


class Echo:
    """A session whose mask is the frame's own number, in one array that it uses again."""

    output_is_reused = True

    def __init__(self, takes_s: float = 0.0, fails_at: int | None = None) -> None:
        self._out = np.zeros((1, 8, 8), np.uint8)
        self._takes_s = takes_s
        self._fails_at = fails_at
        self.calls = 0

    def infer(self, frames: np.ndarray) -> np.ndarray:
        self.calls += 1
        if self.calls == self._fails_at:
            raise EngineError("the device is gone: start again")
        time.sleep(self._takes_s)
        self._out[:] = frames[..., 0]
        return self._out

    def close(self) -> None:
        pass


class Overlapping(Echo):
    """An Echo with two batches in flight; each take gives the oldest. A submit lasts until ``may_go_on``."""

    def __init__(self, may_go_on: Callable[[], bool] = lambda: True) -> None:
        super().__init__()
        self._may_go_on = may_go_on
        self.flying: list[np.ndarray] = []
        self.most = 0

    def submit(self, frames: np.ndarray) -> None:
        assert len(self.flying) < 2
        self.flying.append(frames.copy())
        self.most = max(self.most, len(self.flying))
        while not self._may_go_on():
            time.sleep(0.001)

    def take(self) -> np.ndarray:
        return self.infer(self.flying.pop(0))


class Kept:
    """A sink that remembers what the loop shows."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.seen: list[Shot] = []
        self._stop_after = stop_after

    def show(self, shot: Shot) -> bool:
        self.seen.append(shot)
        return len(self.seen) != self._stop_after

    def numbers(self) -> list[tuple[int, int, int]]:
        """Index, and the number in the frame and in the mask, of every shot."""
        return [(shot.index, int(shot.frame[0, 0, 0]), int(shot.mask[0, 0])) for shot in self.seen]


def run(source: Numbers, session: Echo, *sinks: Kept, frames: int | None = None) -> RunSummary:
    return Loop([source], Engine(INFO, session), frames).run(sinks)


@pytest.mark.parametrize("session", [Echo(), Overlapping()])
def test_a_file_gives_every_frame_once_and_in_order(session: Echo) -> None:
    kept = Kept()
    summary = run(Numbers(200), session, kept)
    assert kept.numbers() == [(number, number + 1, number + 1) for number in range(200)]
    assert summary.frames == 200
    assert summary.dropped == 0
    assert session.calls == 200


def test_two_batches_are_in_flight_for_a_file_and_one_for_a_camera() -> None:
    source = Numbers(50)
    # Once a third frame is read the second one waits, however slow the thread that reads.
    session = Overlapping(lambda: source.given >= 3)
    run(source, session)
    assert session.most == 2
    session = Overlapping()
    run(Numbers(None, live=True, every_s=0.001), session, frames=20)
    assert session.most == 0


def test_a_shot_keeps_its_mask_when_the_engine_writes_the_next() -> None:
    kept = Kept()
    run(Numbers(3), Echo(), kept)
    assert not any(shot.mask.base is not None for shot in kept.seen)


def test_nothing_is_drawn_unless_a_sink_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr("pspnet_edge.camera.overlay.Overlay.draw", lambda *arguments: drawn.append(1))
    run(Numbers(5), Echo(), Kept())
    assert not drawn


def test_a_picture_is_drawn_once_with_figures() -> None:
    kept = Kept()
    run(Numbers(1), Echo(), kept)
    (shot,) = kept.seen
    assert shot.picture() is shot.picture()
    assert "FPS" in shot.caption
    assert "fp32 test" in shot.caption
    assert shot.drawing_s > 0


def test_a_live_source_loses_old_frames_and_not_its_place() -> None:
    source = Numbers(None, live=True, every_s=0.002)
    summary = run(source, Echo(takes_s=0.02), Kept(), frames=20)
    assert summary.frames == 20
    assert summary.dropped > 60
    assert summary.age_ms["p50"] < 100, "with old frames kept the age would grow without end"


def test_the_summary_has_what_the_interface_promises() -> None:
    summary = run(Numbers(5), Echo(), Kept())
    facts = summary.to_dict()
    assert {"frames", "dropped", "fps", "latency_ms", "age_ms", "stages_ms", "sources"} <= facts.keys()
    assert json.loads(json.dumps(facts)) == facts
    assert set(summary.stages_ms) == set(STAGES)
    assert set(summary.latency_ms) == set(summary.age_ms) == {"p50", "p95", "p99"}


def test_it_stops_after_the_frames_asked_for() -> None:
    session = Echo()
    assert run(Numbers(None), session, frames=7).frames == 7
    assert session.calls == 7


def test_a_sink_may_end_it() -> None:
    assert run(Numbers(None), Echo(), Kept(stop_after=3)).frames == 3


def test_stop_ends_it_from_another_thread() -> None:
    running = Loop([Numbers(None, every_s=0.001)], Engine(INFO, Echo()))
    threading.Timer(0.2, running.stop).start()
    assert running.run().frames > 0


class Unplugged(Numbers):
    def read(self) -> np.ndarray | None:
        if self.given == 3:
            raise SourceError("the camera is gone: plug it in")
        return super().read()


@pytest.mark.parametrize(
    ("source", "session", "kind"),
    [
        (Unplugged(None), Echo(), SourceError),
        (Numbers(None), Echo(fails_at=4), EngineError),
        (Numbers(None, live=True, every_s=0.001), Echo(fails_at=4), EngineError),
    ],
)
def test_a_failure_in_a_thread_ends_the_run_and_no_thread_stays(source: Numbers, session: Echo, kind: type) -> None:
    before = threading.active_count()
    with pytest.raises(kind):
        run(source, session, Kept())
    assert threading.active_count() == before


def test_several_sources_fill_one_batch() -> None:
    class Counted(Echo):
        def __init__(self) -> None:
            super().__init__()
            self._out = np.zeros((2, 8, 8), np.uint8)
            self.batches: list[tuple[int, ...]] = []

        def infer(self, frames: np.ndarray) -> np.ndarray:
            self.batches.append(tuple(frames[:, 0, 0, 0].tolist()))
            return super().infer(frames)

    session, kept = Counted(), Kept()
    info = EngineInfo(Path("two.engine"), "test", "fp32", (2, 8, 8), CAMVID, {})
    summary = Loop([Numbers(30), Numbers(30)], Engine(info, session)).run([kept])
    for camera in (0, 1):
        shots = [shot for shot in kept.seen if shot.camera == camera]
        assert [shot.index for shot in shots] == list(range(30))
        assert all(int(shot.mask[0, 0]) == int(shot.frame[0, 0, 0]) for shot in shots)
    assert len(session.batches) <= 31, "two frames a call, but for the last"
    assert [source.frames for source in summary.sources] == [30, 30]
    assert {source.state for source in summary.sources} == {"ended"}


def test_several_sources_take_turns_with_an_engine_of_batch_1() -> None:
    kept = Kept()
    Loop([Numbers(40), Numbers(20)], Engine(INFO, Echo())).run([kept])
    cameras = [shot.camera for shot in kept.seen]
    assert cameras.count(0) == 40
    assert cameras.count(1) == 20
    assert max(cameras[:30].count(0), cameras[:30].count(1)) <= 25, "neither waits for the other's end"


def test_a_live_source_beside_a_file_is_not_held_up_by_it() -> None:
    kept = Kept()
    slow = Numbers(3, every_s=0.2)
    Loop([Numbers(None, live=True, every_s=0.005), slow], Engine(INFO, Echo()), frames=40).run([kept])
    assert sum(shot.camera == 0 for shot in kept.seen) >= 30


class Fragile:
    """A live source that fails after every few frames, refuses to open some times, and then comes back."""

    name, live, fps, format, dropped, longest_pause_s = "fragile", True, 100.0, "8x8", 0, 0.5

    def __init__(self, refusals: int = 2, silent: bool = False) -> None:
        self.captured = 0.0
        self.opened = 1
        self._refusals = refusals
        self._silent = silent
        self._left, self._refused = 5, 0
        self._interrupted = threading.Event()

    def read(self) -> np.ndarray | None:
        if self._left == 0:
            if self._silent:
                self._interrupted.wait()
            raise SourceError("fragile is gone: plug it in")
        self._left -= 1
        time.sleep(0.005)
        self.captured = time.perf_counter()
        return np.zeros((8, 8, 3), np.uint8)

    def reopen(self) -> None:
        if self._refused < self._refusals:
            self._refused += 1
            raise SourceError("fragile is still gone: plug it in")
        self.opened += 1
        self._left, self._refused = 5, 0

    def interrupt(self) -> None:
        self._interrupted.set()

    def close(self) -> None:
        pass


def test_a_lost_live_source_is_opened_again() -> None:
    source = Fragile()
    summary = Loop([source], Engine(INFO, Echo()), frames=12).run()
    assert source.opened >= 3
    assert summary.sources[0].reopened == source.opened - 1


def test_while_a_source_is_lost_its_last_frame_is_shown_with_a_banner() -> None:
    kept = Kept()
    running = Loop([Fragile(refusals=10**6)], Engine(INFO, Echo()))
    threading.Timer(1.5, running.stop).start()
    summary = running.run([kept])
    fresh = [shot for shot in kept.seen if not shot.banner]
    stale = [shot for shot in kept.seen if shot.banner]
    assert len(stale) >= 2
    assert stale[0].frame is fresh[-1].frame
    assert "plug it in" in stale[0].banner
    assert "STALE" in stale[0].banner
    assert (stale[0].picture() != fresh[-1].picture()).any()
    assert summary.frames == len(fresh)
    assert summary.sources[0].trouble == "fragile is still gone: plug it in"


def test_a_silent_source_is_lost_and_ends_when_asked() -> None:
    before = threading.active_count()
    kept = Kept()
    running = Loop([Fragile(silent=True)], Engine(INFO, Echo()))
    threading.Timer(2.0, running.stop).start()
    running.run([kept])
    assert "gives no frames" in kept.seen[-1].banner
    assert threading.active_count() == before


def test_one_lost_source_does_not_hold_up_another() -> None:
    kept = Kept()
    sources = [Fragile(refusals=10**6), Numbers(None, live=True, every_s=0.005)]
    summary = Loop(sources, Engine(INFO, Echo()), frames=200).run([kept])
    assert [source.state for source in summary.sources].count("ended") == 2
    assert sum(shot.camera == 1 for shot in kept.seen) > 150
    assert any(shot.banner for shot in kept.seen if shot.camera == 0)


def test_what_hangs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pspnet_edge.camera.loop._STUCK_S", 0.3)
    found: list[str] = []

    class Hanging(Echo):
        def infer(self, frames: np.ndarray) -> np.ndarray:
            time.sleep(1.0 if self.calls == 3 else 0)
            return super().infer(frames)

    running = Loop([Numbers(8)], Engine(INFO, Hanging()))
    watch = threading.Timer(0.7, lambda: found.append(running.stuck()))
    watch.start()
    running.run()
    watch.join()
    assert found == ["inference"]


def test_a_source_that_is_waited_for_is_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pspnet_edge.camera.loop._STUCK_S", 1.5)
    running = Loop([Fragile(refusals=10**6)], Engine(INFO, Echo()))
    found: list[str] = []
    threading.Timer(3.0, lambda: (found.append(running.stuck()), running.stop())).start()
    running.run()
    assert found == [""]


@pytest.mark.slow
def test_5000_frames_of_a_fast_live_source_stay_young_and_leave_no_memory() -> None:
    engine_s = 0.005
    resident: dict[int, int] = {}

    class Large(Numbers):
        def read(self) -> np.ndarray:
            super().read()
            return np.full((540, 960, 3), self.given % 250, np.uint8)

    def remember(done: int) -> None:
        if done % 500 == 0:
            resident[done] = int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    source = Large(None, live=True, every_s=engine_s / 2)
    summary = Loop([source], Engine(INFO, Echo(takes_s=engine_s)), 5000).run(on_frame=remember)
    assert summary.dropped > 100, "frames come faster than they are taken"
    assert max(resident.values()) - resident[500] < 10e6
    # What the machine does beside this slows both: the limit on a quiet one is measured by benchmarks/camera.py.
    assert summary.age_ms["p50"] < 2 * summary.latency_ms["p50"] + 1000 * engine_s / 2


class Scaled(Fragile):
    """A board camera whose video engines scale; it remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__(refusals=0)
        self.prepared: np.ndarray | None = None
        self.asked: tuple[tuple[int, int] | None, bool] | None = None
        self._left = 10**6

    def ask(self, engine_hw: tuple[int, int] | None, whole: bool) -> None:
        self.asked = (engine_hw, whole)

    def read(self) -> np.ndarray | None:
        super().read()
        small, large = np.full((8, 8, 3), 7, np.uint8), np.full((40, 60, 3), 9, np.uint8)
        assert self.asked is not None
        engine_hw, whole = self.asked
        self.prepared = small if whole and engine_hw else None
        return large if whole else small


class Figures(Kept):
    """A sink that looks at no frame, such as one that serves figures only."""

    whole_frames = False


@pytest.mark.parametrize(
    ("sinks", "geometry", "asked", "shape"),
    [
        ([], Geometry(), ((8, 8), False), (8, 8, 3)),
        ([Figures()], Geometry(), ((8, 8), False), (8, 8, 3)),
        ([Kept()], Geometry(), ((8, 8), True), (40, 60, 3)),
        ([Kept(), Figures()], Geometry(), ((8, 8), True), (40, 60, 3)),
        ([], Geometry("letterbox"), (None, True), (40, 60, 3)),
        ([], Geometry(roi=(0, 0, 20, 20)), (None, True), (40, 60, 3)),
    ],
)
def test_whole_frames_are_asked_for_only_when_a_sink_looks_at_them(
    sinks: list[Kept], geometry: Geometry, asked: tuple[tuple[int, int] | None, bool], shape: tuple[int, ...]
) -> None:
    source, seen = Scaled(), Figures()
    Loop([source], Engine(INFO, Echo()), 5, geometry=geometry).run([*sinks, seen])
    assert source.asked == asked
    assert seen.seen[-1].frame.shape == shape


def test_the_frame_that_the_video_engines_scaled_is_the_one_inferred() -> None:
    kept = Kept()
    Loop([Scaled()], Engine(INFO, Echo()), 5).run([kept])
    assert {int(shot.mask[0, 0]) for shot in kept.seen} == {7}, "not scaled again from the whole frame of nines"


def test_the_warm_up_is_reported_apart() -> None:
    class Slow(Echo):
        def infer(self, frames: np.ndarray) -> np.ndarray:
            time.sleep(0.2 if self.calls < WARM_UP else 0)
            return super().infer(frames)

    summary = run(Numbers(20), Slow())
    assert summary.warm_up["frames"] == WARM_UP
    assert min(summary.warm_up["latency_ms"]) > 190
    assert summary.latency_ms["p99"] < 190


def test_a_run_that_ends_in_the_warm_up_has_figures_all_the_same() -> None:
    assert run(Numbers(1), Echo()).latency_ms["p50"] >= 0


def test_every_source_has_its_own_figures() -> None:
    slow, fast = Numbers(10, every_s=0.05), Numbers(10)
    summary = Loop([slow, fast], Engine(INFO, Echo())).run()
    one, other = summary.sources
    assert one.stages_ms["capture"] > 45
    assert other.stages_ms["capture"] < 20
    assert set(one.stages_ms) == {"capture", "prepare", "overlay", "output"}
    assert set(one.shown_age_ms) == {"p50", "p95", "p99"}


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_source_is_lost_after_a_second_of_silence_by_the_loops_clock() -> None:
    clock = Clock()
    feed = Feed(0, Fragile(), Lanes([True], 1), None, clock)
    assert not feed.is_lost
    clock.now += 1.1
    assert feed.is_lost
    assert feed.summary().state == "stale"
    assert feed.summary().age_ms == 1100


def test_a_damaged_file_is_counted() -> None:
    source = Numbers(5)
    source.lost, source.damage = 3, "three frames are damaged"  # type: ignore[attr-defined]
    summary = run(source, Echo())
    assert summary.lost == 3
    assert summary.sources[0].trouble == "three frames are damaged"


@pytest.mark.parametrize(
    "geometry",
    [Geometry("letterbox"), Geometry("crop"), Geometry(roi=(1, 1, 3, 2)), Geometry(tiles=True)],
)
@pytest.mark.parametrize("session", [Echo(), Overlapping()])
def test_masks_of_every_geometry_lie_on_their_frame(geometry: Geometry, session: Echo) -> None:
    kept = Kept()
    Loop([Numbers(10)], Engine(INFO, session), geometry=geometry).run([kept])
    for shot in kept.seen:
        mask = mask_at(shot.mask, (8, 8))
        inside = mask[1:3, 1:4] if geometry.roi else mask
        assert (inside == shot.frame[0, 0, 0]).all()

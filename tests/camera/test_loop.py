from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from pspnet_edge.camera.loop import STAGES, Loop
from pspnet_edge.engine.base import Engine, EngineInfo
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


class Kept:
    """A sink that keeps what the loop shows, with the frame beside its mask."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.count = 0
        self._stop_after = stop_after

    def show(self, picture: np.ndarray) -> bool:
        self.count += 1
        return self.count != self._stop_after


def loop(source: Numbers, session: Echo, *sinks: Kept, frames: int | None = None) -> Loop:
    return Loop(source, Engine(INFO, session), sinks, frames)


def test_a_file_gives_every_frame_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    def drawn(self: object, frame: np.ndarray, mask: np.ndarray, caption: str) -> np.ndarray:
        seen.append((int(frame[0, 0, 0]), int(mask[0, 0])))
        return frame

    monkeypatch.setattr("pspnet_edge.camera.overlay.Overlay.draw", drawn)
    summary = loop(Numbers(200), Echo(), Kept()).run()
    assert seen == [(number, number) for number in range(1, 201)]
    assert summary["frames"] == 200
    assert summary["dropped"] == 0


def test_a_live_source_loses_old_frames_and_not_its_place() -> None:
    source = Numbers(None, live=True, every_s=0.002)
    summary = loop(source, Echo(takes_s=0.02), Kept(), frames=20).run()
    assert summary["frames"] == 20
    assert summary["dropped"] > 60
    assert summary["age_ms"]["p50"] < 100, "with old frames kept the age would grow without end"


def test_the_summary_has_what_the_interface_promises() -> None:
    summary = loop(Numbers(5), Echo(), Kept()).run()
    assert {"frames", "dropped", "fps", "latency_ms", "age_ms", "stages_ms"} <= set(summary)
    assert set(summary["stages_ms"]) == set(STAGES)
    assert set(summary["latency_ms"]) == set(summary["age_ms"]) == {"p50", "p95", "p99"}


def test_it_stops_after_the_frames_asked_for() -> None:
    session = Echo()
    assert loop(Numbers(None), session, frames=7).run()["frames"] == 7
    assert session.calls == 7


def test_a_sink_may_end_it() -> None:
    assert loop(Numbers(None), Echo(), Kept(stop_after=3)).run()["frames"] == 3


def test_stop_ends_it_from_another_thread() -> None:
    running = loop(Numbers(None, every_s=0.001), Echo())
    threading.Timer(0.2, running.stop).start()
    assert running.run()["frames"] > 0


class Unplugged(Numbers):
    def read(self) -> np.ndarray | None:
        if self.given == 3:
            raise SourceError("the camera is gone: plug it in")
        return super().read()


@pytest.mark.parametrize(
    ("source", "session", "kind"),
    [(Unplugged(None), Echo(), SourceError), (Numbers(None), Echo(fails_at=4), EngineError)],
)
def test_a_failure_in_a_thread_ends_the_run_and_no_thread_stays(source: Numbers, session: Echo, kind: type) -> None:
    before = threading.active_count()
    with pytest.raises(kind):
        loop(source, session, Kept()).run()
    assert threading.active_count() == before

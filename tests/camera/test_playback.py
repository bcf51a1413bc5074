from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from pspnet_edge.camera import playback
from pspnet_edge.camera.picture_folder import stems_of
from pspnet_edge.camera.playback import Playback
from pspnet_edge.camera.sources import Settings, open_source


class Numbered:
    """A file of three frames."""

    name, live, fps, length = "numbered", False, 50.0, 3

    def __init__(self) -> None:
        self.given = 0
        self.is_closed = False

    def read(self) -> np.ndarray | None:
        if self.given == 3:
            return None
        self.given += 1
        return np.full((2, 2, 3), self.given, np.uint8)

    def close(self) -> None:
        self.is_closed = True


def values(source: Playback, count: int) -> list[int]:
    return [int(frame[0, 0, 0]) for frame in (source.read() for _ in range(count)) if frame is not None]


def test_a_loop_begins_again_and_closes_what_it_leaves() -> None:
    opened: list[Numbered] = [Numbered()]

    def reopen() -> Numbered:
        opened.append(Numbered())
        return opened[-1]

    source = Playback(opened[0], reopen, loop=True, realtime=False)
    assert values(source, 8) == [1, 2, 3, 1, 2, 3, 1, 2]
    assert [one.is_closed for one in opened] == [True, True, False]
    assert not hasattr(source, "length"), "it never ends"
    source.close()
    assert opened[-1].is_closed


def test_without_a_loop_it_ends_and_says_how_long_it_is() -> None:
    source = Playback(Numbered(), Numbered, loop=False, realtime=True)
    assert source.length == 3
    assert values(source, 5) == [1, 2, 3]
    assert source.read() is None


def test_in_real_time_each_frame_comes_when_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    now = SimpleNamespace(s=10.0)
    given: list[float] = []
    monkeypatch.setattr(playback, "time", SimpleNamespace(perf_counter=lambda: now.s))
    source = Playback(Numbered(), Numbered, loop=True, realtime=True)
    assert source.live, "what the loop is too slow for is dropped"

    def wait(seconds: float) -> None:
        now.s += seconds

    monkeypatch.setattr(source._closed, "wait", wait)
    for late in (0.0, 0.0, 0.015, 0.0, 3.0, 0.0):
        now.s += late
        source.read()
        given.append(round(now.s - 10, 3))
    # 50 frames per second; a little late is made up for, a long pause is not.
    assert given == [0.0, 0.02, 0.04, 0.06, 3.06, 3.08]


def test_closing_ends_the_wait() -> None:
    slow = Numbered()
    slow.fps = 0.05
    source = Playback(slow, Numbered, loop=False, realtime=True)
    source.read()
    threading.Timer(0.2, source.close).start()
    began = time.monotonic()
    source.read()
    assert time.monotonic() - began < 10


def test_images_that_are_played_keep_their_names(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((4, 4, 3), np.uint8))
    source = open_source(None, str(tmp_path), Settings(loop=True))
    assert isinstance(source, Playback)
    assert stems_of(source) == ["a", "b"]
    source.close()

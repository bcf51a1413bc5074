from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np
import pytest

from pspnet_edge.engine.engine import Engine, EngineInfo
from pspnet_edge.errors import EngineError
from pspnet_edge.labels import CAMVID

INFO = EngineInfo(Path("echo.engine"), "test", "fp32", (1, 2, 2), CAMVID, {})


class Echo:
    """A session whose mask is the frame's number, in one array that it uses again, with two batches in flight."""

    output_is_reused = True

    def __init__(self) -> None:
        self.flying: deque[int] = deque()
        self.is_closed = False
        self._out = np.zeros((1, 2, 2), np.uint8)

    def infer(self, frames: np.ndarray) -> np.ndarray:
        assert not self.flying, "as TensorRT, it does not infer while batches are in flight"
        self._out[:] = frames[0, 0, 0, 0]
        return self._out

    def submit(self, frames: np.ndarray) -> None:
        assert len(self.flying) < 2
        self.flying.append(int(frames[0, 0, 0, 0]))

    def take(self) -> np.ndarray:
        self._out[:] = self.flying.popleft()
        return self._out

    def close(self) -> None:
        assert not self.is_closed, "closed once"
        self.is_closed = True


def frames(number: int) -> np.ndarray:
    return np.full((1, 2, 2, 3), number, np.uint8)


def test_each_user_gets_its_own_masks_in_its_own_order() -> None:
    engine = Engine(INFO, Echo())
    first, second = engine.share(), engine.share()
    first.submit(frames(1))
    second.submit(frames(2))
    second.submit(frames(3))  # puts aside the mask of 1
    third = engine.infer(frames(9))  # and those of 2 and 3
    first.submit(frames(4))
    assert [int(second.take()[0, 0, 0]) for _ in range(2)] == [2, 3]
    assert [int(first.take()[0, 0, 0]) for _ in range(2)] == [1, 4]
    assert (third == 9).all(), "the arrays are the callers' own"
    with pytest.raises(EngineError, match="no frame is in flight"):
        first.take()


def test_closing_any_closes_all_once_and_use_says_so() -> None:
    session = Echo()
    engine = Engine(INFO, session)
    first, second = engine.share(), engine.share()
    first.submit(frames(1))
    second.close()
    second.close()
    engine.close()
    assert session.is_closed
    for use in (lambda: first.infer(frames(1)), lambda: engine.infer(frames(1)), first.take):
        with pytest.raises(EngineError, match=r"echo\.engine was closed: open it again"):
            use()


def test_a_session_that_does_not_overlap_is_shared_without_overlapping() -> None:
    class Plain:
        output_is_reused = False

        def infer(self, given: np.ndarray) -> np.ndarray:
            return given[..., 0]

        def close(self) -> None:
            pass

    engine = Engine(INFO, Plain()).share()
    assert not engine.overlaps
    assert Engine(INFO, Echo()).share().overlaps
    assert (engine.infer(frames(5)) == 5).all()
    with pytest.raises(EngineError, match="one batch at a time"):
        engine.submit(frames(1))

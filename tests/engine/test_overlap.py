"""Several batches and several threads on one engine of each runtime of the processor."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pspnet_edge.engine.backends import open_engine
from pspnet_edge.engine.build import build_engine, prepare_model
from pspnet_edge.engine.engine import Engine
from pspnet_edge.errors import EngineError


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    path: Path = tmp_path_factory.mktemp("engine") / "fp32.engine"
    build_engine(prepare_model(None), "fp32", request.param, path)
    with open_engine(path) as opened:
        yield opened


def test_masks_come_in_order_and_are_those_of_infer(engine: Engine) -> None:
    if engine.info.runtime == "onnxruntime":
        assert not engine.overlaps
        with pytest.raises(EngineError, match="one batch at a time"):
            engine.take()
        return
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 255, (*engine.info.shape_nhw, 3)).astype(np.uint8) for _ in range(4)]
    alone = [engine.infer(batch) for batch in batches]
    frames = np.empty_like(batches[0])
    masks = []
    for number, batch in enumerate(batches):
        frames[:] = batch  # overwritten while earlier ones are in flight
        engine.submit(frames)
        if number:
            masks.append(engine.take())
    masks.append(engine.take())
    for mask, expected in zip(masks, alone):
        assert (mask == expected).mean() > 0.999, "the same kernels on fewer threads"


def test_masks_are_the_callers_own_whoever_calls_next(engine: Engine) -> None:
    rng = np.random.default_rng(1)
    batches = [rng.integers(0, 255, (*engine.info.shape_nhw, 3)).astype(np.uint8) for _ in range(4)]
    kept = [engine.infer(batch) for batch in batches]
    expected = [mask.copy() for mask in kept]
    assert len({mask.tobytes() for mask in expected}) == len(batches)

    def ask_and_compare_later(first: int) -> bool:
        order = [(first + turn) % len(batches) for turn in range(6)]
        found = [engine.infer(batches[index]) for index in order]
        return all(np.array_equal(mask, expected[index]) for mask, index in zip(found, order, strict=True))

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(ask_and_compare_later, range(4)))
    assert all(map(np.array_equal, kept, expected))


def test_there_is_room_for_two(engine: Engine) -> None:
    frames = np.zeros((*engine.info.shape_nhw, 3), np.uint8)
    if not engine.overlaps:
        with pytest.raises(EngineError, match="one batch at a time"):
            engine.submit(frames)
        return
    engine.submit(frames)
    engine.submit(frames)
    with pytest.raises(EngineError, match="2 batches are in flight"):
        engine.submit(frames)
    engine.take()
    engine.take()
    with pytest.raises(EngineError, match="no frame is in flight"):
        engine.take()
    with pytest.raises(EngineError, match="takes uint8 frames of shape"):
        Engine(engine.info, engine._session).submit(frames[:, :8])

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import pspnet_edge
from pspnet_edge.camera.segmenter import Segmenter
from pspnet_edge.engine.backends import open_engine
from pspnet_edge.engine.build import build_engine, find_model
from pspnet_edge.errors import EngineError, SourceError


@pytest.fixture(scope="module")
def engine_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engine") / "fp32.engine"
    build_engine(find_model(None), "fp32", "openvino", path)
    return path


def test_the_package_gives_it() -> None:
    assert pspnet_edge.Segmenter is Segmenter
    with pytest.raises(AttributeError, match="no attribute 'Segmentor'"):
        _ = pspnet_edge.Segmentor


def test_one_frame(engine_path: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 255, (240, 320, 3)).astype(np.uint8)
    with Segmenter(engine_path) as segmenter:
        mask = segmenter(frame)
        again = segmenter(np.zeros_like(frame))
    assert mask.shape == (240, 320)
    assert mask.dtype == np.uint8
    assert (mask != again).any(), "a mask is the caller's own"


def test_a_mask_of_the_engines_size_is_the_callers_own(engine_path: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 255, (384, 480, 3)).astype(np.uint8)
    with Segmenter(engine_path) as segmenter:
        mask = segmenter(frame)
        kept = mask.copy()
        segmenter(255 - frame)
    np.testing.assert_array_equal(mask, kept)


@pytest.mark.parametrize("frame", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)])
def test_what_is_no_frame_is_refused(engine_path: Path, frame: np.ndarray) -> None:
    with Segmenter(engine_path) as segmenter, pytest.raises(EngineError, match="a frame is BGR uint8"):
        segmenter(frame)


def test_a_stream_gives_every_frame_with_its_mask(engine_path: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(4):
        cv2.imwrite(str(tmp_path / f"{number}.png"), rng.integers(0, 255, (96, 120, 3)).astype(np.uint8))
    with open_engine(engine_path) as engine:
        segmenter = Segmenter(engine)
        pairs = list(segmenter.stream(tmp_path))
        for number, (frame, mask) in enumerate(pairs):
            np.testing.assert_array_equal(frame, cv2.imread(str(tmp_path / f"{number}.png")))
            # In flight two at a time the same kernels run on fewer threads; a pixel on an edge may differ.
            assert (mask == segmenter(frame)).mean() > 0.999
        assert len(pairs) == 4
        given = [frame for frame, _ in segmenter.stream(frame for frame, _ in pairs)]
        assert len(given) == 4


def test_a_stream_may_be_left_early(engine_path: Path) -> None:
    with Segmenter(engine_path) as segmenter:
        for number, (frame, mask) in enumerate(segmenter.stream("demo")):
            assert mask.shape == frame.shape[:2]
            if number == 2:
                break
        assert segmenter(frame).shape == mask.shape


def test_what_cannot_be_opened_is_said(engine_path: Path) -> None:
    with Segmenter(engine_path) as segmenter, pytest.raises(SourceError, match="there is no camera"):
        next(iter(segmenter.stream(63)))

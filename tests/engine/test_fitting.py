"""Engines that take pictures of any size: loop, segmenter and tiles give them whole, and the masks are the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pspnet_edge.camera.frames import FrameSource
from pspnet_edge.camera.loop import Loop
from pspnet_edge.camera.segmenter import Segmenter
from pspnet_edge.data.geometry import Geometry, Layout, mask_at
from pspnet_edge.engine.engine import Engine, EngineInfo
from pspnet_edge.engine.segment import segment_frame
from pspnet_edge.engine.session import View
from pspnet_edge.labels import CAMVID

SIZE_HW = (24, 32)
SIZES = [(24, 32), (61, 83), (40, 17), (61, 83), (200, 90)]


class Plain:
    """A mask that depends on every pixel of a frame of the engine's size; two batches overlap."""

    output_is_reused = False

    def __init__(self) -> None:
        self.flying: list[NDArray[np.uint8]] = []

    def infer(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return (frames[..., 0] ^ frames[..., 1] ^ (frames[..., 2] >> 3)) % 11

    def submit(self, frames: NDArray[np.uint8]) -> None:
        assert len(self.flying) < 2
        self.flying.append(self.infer(frames))

    def take(self) -> NDArray[np.uint8]:
        return self.flying.pop(0)

    def close(self) -> None:
        pass


class Fitting(Plain):
    """The same for pictures of any size; nothing else is given to it."""

    def __init__(self, fits: bool = True) -> None:
        super().__init__()
        self.fits = fits
        self.seen: list[tuple[int, ...]] = []

    def submit_views(self, views: Sequence[View]) -> None:
        self.seen += [view.frame.shape for view in views]
        inputs = [next(Layout(view.frame.shape[:2], SIZE_HW, (view.window,)).inputs(view.frame)) for view in views]
        super().submit(np.stack(inputs))

    def submit(self, frames: NDArray[np.uint8]) -> None:
        raise AssertionError("a frame was prepared on the processor")

    def infer(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        assert len(self.seen) > 0, "a frame was prepared on the processor"
        return super().infer(frames)


def engine(session: Plain, batch: int = 1) -> Engine:
    return Engine(EngineInfo(Path("small.engine"), "test", "fp32", (batch, *SIZE_HW), CAMVID, {}), session)


def pictures() -> list[NDArray[np.uint8]]:
    drawn = np.random.default_rng(0)
    return [drawn.integers(0, 256, (*size_hw, 3), np.uint8) for size_hw in SIZES]


def masks_of_loop(opened: Engine, geometry: Geometry, frames: Iterable[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    loop = Loop([FrameSource(frames, 3)], opened, geometry=geometry)
    return [mask_at(shot.mask, shot.frame.shape[:2]) for shot in loop.shots()]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(
    "geometry",
    [Geometry(), Geometry("letterbox"), Geometry("crop"), Geometry(roi=(1, 2, 13, 11)), Geometry(tiles=True)],
    ids=["stretch", "letterbox", "crop", "roi", "tiles"],
)
def test_masks_are_those_of_an_engine_that_takes_one_size(batch: int, geometry: Geometry) -> None:
    expected = masks_of_loop(engine(Plain(), batch), geometry, pictures())
    assert len({mask.tobytes() for mask in expected}) == len(SIZES)
    session = Fitting()
    for found, mask in zip(masks_of_loop(engine(session, batch), geometry, pictures()), expected, strict=True):
        assert (found == mask).all()
    assert set(session.seen) == {(*size_hw, 3) for size_hw in SIZES}
    with Segmenter(engine(Fitting(), batch), geometry=geometry) as segmenter:
        for found, mask in zip(segmenter(pictures()), expected, strict=True):
            assert (found == mask).all()
    alone = engine(Fitting(), batch)
    for frame, mask in zip(pictures(), expected, strict=True):
        assert (segment_frame(alone, frame, geometry) == mask).all()


def test_an_engine_built_without_the_heads_kernel_gets_frames_of_its_size() -> None:
    session = Plain()
    opened = engine(session)
    assert not opened.fits
    assert not engine(Fitting(fits=False)).fits
    assert engine(Fitting()).fits
    assert engine(Fitting()).share().fits


def test_a_source_that_has_brought_a_frame_to_the_engines_size_is_taken_at_its_word() -> None:
    from pspnet_edge.camera.feed import Captured
    from pspnet_edge.camera.inference import Inference
    from pspnet_edge.camera.lanes import Lanes

    whole, small = pictures()[1], pictures()[0]
    opened = engine(Fitting())
    inference = Inference(opened, Lanes([False], 1), Lanes([False], 1), Geometry("letterbox"), None, False)
    (view,) = inference._views([Captured(0, 0, whole, 0.0, small)])
    assert view.frame is small
    assert view.window.inner.size_hw == view.window.source.size_hw == SIZE_HW

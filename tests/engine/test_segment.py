from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from pspnet_edge.data.datasets import open_dataset
from pspnet_edge.data.geometry import Geometry
from pspnet_edge.engine.backends import open_engine
from pspnet_edge.engine.build import build_engine, prepare_model
from pspnet_edge.engine.engine import Engine, EngineInfo
from pspnet_edge.engine.segment import segment_frame
from pspnet_edge.labels import CAMVID
from pspnet_edge.metrics import ConfusionMatrix

SIZE_HW = (384, 480)


class Bright:
    """A perfect network for small things: class 1 where a pixel is bright."""

    output_is_reused = True

    def __init__(self, batch: int = 1) -> None:
        self._out = np.zeros((batch, *SIZE_HW), np.uint8)
        self.calls = 0

    def infer(self, frames: np.ndarray) -> np.ndarray:
        self.calls += 1
        np.greater(frames[..., 0], 200, out=self._out.view(bool))
        return self._out

    def close(self) -> None:
        pass


def engine(session: Bright, batch: int = 1) -> Engine:
    return Engine(EngineInfo(Path("bright.engine"), "test", "fp32", (batch, *SIZE_HW), CAMVID, {}), session)


@pytest.mark.parametrize("batch", [1, 3])
def test_ten_pixels_of_a_picture_of_6000x4000_are_found_in_bounded_memory(batch: int) -> None:
    frame = np.zeros((4000, 6000, 3), np.uint8)
    wanted = np.zeros(frame.shape[:2], np.uint8)
    for top, left in np.random.default_rng(0).integers(0, 3990, (200, 2)):
        wanted[top : top + 10, left : left + 10] = 1
    frame[wanted == 1] = 255
    session = Bright(batch)
    opened = engine(session, batch)
    tracemalloc.start()
    mask = segment_frame(opened, frame, Geometry(tiles=True))
    peak = tracemalloc.get_traced_memory()[1] - mask.nbytes
    tracemalloc.stop()
    assert (mask == wanted).all(), "no object is lost or moved, across seams too"
    assert peak < 12e6, "beside the frame and its mask: a batch, and one tile on its way"
    # Stretched, three in four such objects are less than a pixel.
    assert (segment_frame(engine(Bright()), frame) == 1).mean() < 0.5 * (wanted == 1).mean()


def test_tiles_fill_the_engines_batch() -> None:
    session = Bright(4)
    segment_frame(engine(session, 4), np.zeros((1000, 1200, 3), np.uint8), Geometry(tiles=True))
    assert session.calls == 3, "nine tiles in batches of four"


@pytest.mark.slow
def test_tiles_of_a_mosaic_are_as_good_as_single_images(tmp_path: Path, camvid_root: Path) -> None:
    """Four images of CamVid in one picture, at their own scale."""
    dataset = open_dataset("camvid", camvid_root, "test")
    path = tmp_path / "fp32.engine"
    build_engine(prepare_model(None), "fp32", "openvino", path)
    single, tiled = ConfusionMatrix(len(dataset.label_set)), ConfusionMatrix(len(dataset.label_set))
    with open_engine(path) as opened:
        for start in range(0, 80, 4):
            four = [dataset[2 * number] for number in range(start, start + 4)]
            for image, label in four:
                single.add(label, segment_frame(opened, image))
            picture, labels = (
                np.vstack([np.hstack([four[0][part], four[1][part]]), np.hstack([four[2][part], four[3][part]])])
                for part in (0, 1)
            )
            tiled.add(labels, segment_frame(opened, picture, Geometry(tiles=True)))
    assert tiled.miou() >= single.miou() - 0.005

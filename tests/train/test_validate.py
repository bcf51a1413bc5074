from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from pspnet_edge import bundled  # noqa: E402
from pspnet_edge.data.datasets import open_dataset  # noqa: E402
from pspnet_edge.labels import CAMVID  # noqa: E402
from pspnet_edge.model.checkpoint import load_checkpoint  # noqa: E402
from pspnet_edge.train.distributed import ALONE, World  # noqa: E402
from pspnet_edge.train.validate import CAPTION_HEIGHT, side_by_side, validate, write_samples  # noqa: E402


@pytest.fixture(scope="module")
def model():
    return load_checkpoint(bundled.checkpoint_path(bundled.DEFAULT)).model


def test_processes_share_the_images(model, small_scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes see what one sees; here they keep their own matrix, and the test adds them."""
    scenes = open_dataset("folder", small_scenes, "val")
    monkeypatch.setattr(World, "total", lambda self, values: values)
    halves = [validate(model, scenes, World(ALONE.device, rank, 2)).counts for rank in range(2)]
    assert all(half.any() for half in halves)
    np.testing.assert_array_equal(halves[0] + halves[1], validate(model, scenes).counts)


def test_pictures_show_image_label_and_prediction() -> None:
    image = np.full((4, 5, 3), 7, np.uint8)
    label = np.full((4, 5), 255, np.uint8)
    picture = side_by_side(image, label, np.full((4, 5), 3, np.uint8), CAMVID, ("a", "b", "c"))
    assert picture.shape == (CAPTION_HEIGHT + 4, 3 * 5 + 8, 3)
    picture = picture[CAPTION_HEIGHT:]
    assert (picture[:, :5] == 7).all()
    assert (picture[:, 9:14] == 0).all()
    assert (picture[:, 18:] == CAMVID.palette[3][::-1]).all()


def test_samples_are_written_as_jpegs(model, small_scenes: Path, tmp_path: Path) -> None:
    scenes = open_dataset("folder", small_scenes, "val")
    write_samples(model, scenes, 9, 5, tmp_path / "samples", ALONE.device)
    files = sorted((tmp_path / "samples").iterdir())
    assert [path.name for path in files] == ["epoch005_00.jpg", "epoch005_01.jpg"]
    assert cv2.imread(str(files[0])).shape == (CAPTION_HEIGHT + 120, 3 * 160 + 8, 3)


def test_captions_are_written_above_the_pictures() -> None:
    image, mask = np.zeros((40, 200, 3), np.uint8), np.zeros((40, 200), np.uint8)
    plain = side_by_side(image, mask, mask, CAMVID, ("", "", ""))
    captioned = side_by_side(image, mask, mask, CAMVID, ("Straße.png", "labels", "prediction"))
    assert (plain[:CAPTION_HEIGHT] == 255).all()
    for left in (0, 204, 408):
        assert (captioned[:CAPTION_HEIGHT, left : left + 200] < 100).any()
    assert (plain[CAPTION_HEIGHT:] == captioned[CAPTION_HEIGHT:]).all()


def test_validation_reports_every_image(model, small_scenes: Path) -> None:
    seen: list[int] = []
    validate(model, open_dataset("folder", small_scenes, "val"), on_image=seen.append)
    assert seen == [1, 2]

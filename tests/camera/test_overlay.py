from __future__ import annotations

import numpy as np

from pspnet_edge.camera.overlay import Overlay
from pspnet_edge.labels import CAMVID, CITYSCAPES, IGNORE


def test_a_pixel_is_blended_with_the_colour_of_its_class() -> None:
    frame = np.full((480, 640, 3), 100, np.uint8)
    mask = np.full((480, 640), 3, np.uint8)
    before = frame.copy()
    picture = Overlay(CAMVID, opacity=0.5).draw(frame, mask, "")
    red, green, blue = CAMVID.palette[3]
    expected = (np.array([blue, green, red]) + 100) / 2
    np.testing.assert_allclose(picture[100, 600], expected, atol=1)
    np.testing.assert_array_equal(frame, before)


def test_a_small_mask_covers_a_large_frame() -> None:
    mask = np.zeros((10, 10), np.uint8)
    mask[:, 5:] = 3
    picture = Overlay(CAMVID, opacity=1.0).draw(np.zeros((100, 400, 3), np.uint8), mask, "")
    assert (picture[30, 190] != picture[30, 210]).any()


def test_legend_and_caption_are_there() -> None:
    frame, mask = np.zeros((480, 640, 3), np.uint8), np.full((480, 640), IGNORE, np.uint8)
    overlay = Overlay(CAMVID)
    bare, named = (overlay.draw(frame, mask, caption) for caption in ("", "30.0 FPS   age 31 ms"))
    assert (bare[:30] != named[:30]).any()
    corner = named[240:, :200].reshape(-1, 3).astype(int)
    for red, green, blue in CAMVID.palette:
        swatch = 0.65 * np.array([blue, green, red])
        assert (np.abs(corner - swatch).max(axis=1) <= 2).any()


def test_it_fits_frames_of_any_size() -> None:
    for size_hw in ((60, 80), (1080, 1920), (99, 33)):
        for label_set in (CAMVID, CITYSCAPES):
            picture = Overlay(label_set).draw(np.zeros((*size_hw, 3), np.uint8), np.zeros((8, 8), np.uint8), "x")
            assert picture.shape == (*size_hw, 3)


def test_a_banner_crosses_the_picture_and_a_long_one_breaks() -> None:
    frame, mask = np.zeros((480, 640, 3), np.uint8), np.full((480, 640), IGNORE, np.uint8)
    overlay = Overlay(CAMVID)
    bare, short, long = (
        overlay.draw(frame, mask, "", banner) for banner in ("", "STALE 3 s", "STALE 3 s: " + 30 * "why ")
    )
    rows = [np.flatnonzero((bare != picture).any(axis=(1, 2))) for picture in (short, long)]
    assert rows[0].min() >= 160
    assert np.ptp(rows[1]) > 2 * np.ptp(rows[0])
    assert (long[200] == (32, 32, 192)).all(axis=-1).any()

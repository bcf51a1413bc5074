from __future__ import annotations

import numpy as np
import pytest

from pspnet_edge.camera.overlay import Overlay, class_ids
from pspnet_edge.errors import OptionError
from pspnet_edge.labels import CAMVID, CITYSCAPES, IGNORE, LabelSet, bright_palette


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
    strip = named[:120].reshape(-1, 3).astype(int)
    for red, green, blue in CAMVID.palette:
        swatch = 0.65 * np.array([blue, green, red])
        assert (np.abs(strip - swatch).max(axis=1) <= 2).any()


def test_the_legend_covers_at_most_the_upper_third_and_can_be_left_out() -> None:
    many = LabelSet("many", tuple(f"class number {i}" for i in range(150)), tuple((i, 9, 9) for i in range(150)))
    for label_set in (CAMVID, CITYSCAPES, many):
        for size_hw in ((480, 640), (96, 120), (1080, 1920)):
            frame, mask = np.full((*size_hw, 3), 200, np.uint8), np.full(size_hw, IGNORE, np.uint8)
            drawn = Overlay(label_set).draw(frame, mask, "")
            changed = np.flatnonzero((drawn != frame).any(axis=(1, 2)))
            assert changed.size
            assert changed.max() < size_hw[0] / 3
            np.testing.assert_array_equal(Overlay(label_set, legend=False).draw(frame, mask, ""), frame)


def test_background_hidden_classes_and_unlabelled_pixels_stay_as_they_are() -> None:
    label_set = LabelSet("own", ("background", "road", "car"), bright_palette(("background", "road", "car")))
    frame = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    mask = np.zeros((40, 60), np.uint8)
    mask[:10], mask[10:20], mask[20:30] = 1, 2, IGNORE
    drawn = Overlay(label_set, legend=False, hide=class_ids(label_set, ["Car"])).draw(frame, mask, "")
    np.testing.assert_array_equal(drawn[10:], frame[10:])
    assert (drawn[:10] != frame[:10]).any()
    only = Overlay(label_set, legend=False, show="mask").draw(frame, mask, "")
    assert not only[20:].any()
    assert (only[:10] == only[0, 0]).all()
    assert tuple(only[0, 0, ::-1]) == label_set.palette[1]


def test_side_by_side_is_the_frame_and_the_overlay() -> None:
    frame = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    mask = np.full((40, 60), 3, np.uint8)
    both = Overlay(CAMVID, legend=False, show="side-by-side").draw(frame, mask, "")
    np.testing.assert_array_equal(both[:, :60], frame)
    np.testing.assert_array_equal(both[:, 60:], Overlay(CAMVID, legend=False).draw(frame, mask, ""))


def test_a_class_is_hidden_by_name_or_number_and_no_other() -> None:
    assert class_ids(CAMVID, ["sky", "10"]) == {0, 10}
    assert class_ids(CAMVID, ["sky, Building", "car"]) == {0, 1, 8}
    assert class_ids(CAMVID, "sky") == {0}
    both = LabelSet("l", ("a,b", "a", "b"), bright_palette("xyz"))
    assert class_ids(both, ["a,b"]) == {0}
    assert class_ids(both, ["b,a"]) == {1, 2}
    for unknown in ("skye", "11", "-1"):
        with pytest.raises(OptionError, match="unknown class"):
            class_ids(CAMVID, [unknown])


def test_colours_for_classes_without_any_are_bright_and_all_different() -> None:
    palette = bright_palette(["Background", *(f"c{index}" for index in range(60))])
    assert palette[0] == (0, 0, 0)
    assert len(set(palette)) == 61
    assert min(max(colour) for colour in palette[1:]) >= 130


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


@pytest.mark.parametrize("opacity", [-0.1, 3.0, float("nan")])
def test_an_opacity_outside_0_to_1_is_refused(opacity: float) -> None:
    with pytest.raises(OptionError, match=r"opacity: .*: give a number from 0 to 1"):
        Overlay(CAMVID, opacity)

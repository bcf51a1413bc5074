from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pspnet_edge.data.scenes import Drive
from pspnet_edge.data.transforms import Window, random_window, recoloured
from pspnet_edge.labels import IGNORE


def view_of(
    image: np.ndarray, mask: np.ndarray, crop_hw: tuple[int, int], rng: np.random.Generator, **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """An image and its mask as a training sample shows them."""
    window = random_window(mask, crop_hw, rng, **options)
    return recoloured(window.of_image(image), rng), window.of_mask(mask)


@pytest.mark.parametrize("seed", range(12))
def test_a_view_is_the_size_asked_for_and_follows_its_generator(seed: int) -> None:
    frame = Drive(seed, (120, 160)).frame(seed)
    views = [view_of(frame.image, frame.mask, (96, 128), np.random.default_rng(seed)) for _ in range(2)]
    image, mask = views[0]
    assert image.shape == (96, 128, 3)
    assert mask.shape == (96, 128)
    np.testing.assert_array_equal(image, views[1][0])
    np.testing.assert_array_equal(mask, views[1][1])
    assert set(np.unique(mask)) <= {*range(11), IGNORE}


def test_image_and_mask_stay_together() -> None:
    """Paint the class id into the image: through every cut, scale and flip the two must keep telling the same."""
    rows, columns = np.mgrid[:120, :160]
    mask = ((rows // 30 + columns // 40) % 2).astype(np.uint8)
    image = np.repeat((mask * 255)[..., None], 3, axis=2)
    for seed in range(20):
        view, label = view_of(image, mask, (90, 120), np.random.default_rng(seed), scales=(0.8, 1.6))
        bright = view[..., 1].astype(float)
        known = label != IGNORE
        ones, zeros = bright[known & (label == 1)], bright[known & (label == 0)]
        assert np.median(ones) > np.median(zeros) + 60


def test_focus_finds_a_rare_class() -> None:
    mask = np.zeros((120, 160), np.uint8)
    mask[60, 80] = 5
    image = np.zeros((120, 160, 3), np.uint8)
    found = {
        focus: sum(
            (
                view_of(image, mask, (30, 40), np.random.default_rng(seed), scales=(1, 1), aspect=0, focus=focus)[1]
                == 5
            ).any()
            for seed in range(60)
        )
        for focus in (0.0, 1.0)
    }
    assert found[1.0] > 2 * found[0.0]


def test_what_lies_outside_is_ignored() -> None:
    frame = Drive(0, (60, 80)).frame(0)
    _, mask = view_of(frame.image, frame.mask, (96, 128), np.random.default_rng(0), scales=(0.5, 0.6))
    assert (mask == IGNORE).any()


def test_a_teachers_probabilities_are_cut_like_the_mask() -> None:
    """Blocks of 16 pixels and a grid four times coarser: what the teacher is sure of is what the mask says there."""
    rows, columns = np.mgrid[:120, :160]
    mask = ((rows // 16 + 2 * (columns // 16)) % 5).astype(np.uint8)
    certain = (np.eye(5, dtype=np.uint8) * 255)[mask[2::4, 2::4]]
    for seed in range(40):
        window = random_window(mask, (96, 128), np.random.default_rng(seed), scales=(0.6, 2.0))
        soft = window.of_probabilities(certain, mask.shape, 4)
        label = window.of_mask(mask)[2::4, 2::4]
        assert soft.shape == (24, 32, 5)
        sure = soft.max(-1) > 240
        assert sure.mean() > 0.1
        assert (soft.argmax(-1) == label)[sure & (label != IGNORE)].mean() > 0.995
        assert (soft[label == IGNORE].max(-1) < 130).mean() > 0.9 if (label == IGNORE).any() else True


def test_half_a_grid_step_would_be_noticed() -> None:
    """The probabilities of a column one pixel wide land on that column, mirrored or not."""
    mask = np.zeros((96, 96), np.uint8)
    column = np.zeros((96, 96, 2), np.uint8)
    column[:, 40, 1] = 255
    for mirrored in (False, True):
        window = Window(0, 0, (96, 96), (96, 96), mirrored)
        soft = window.of_probabilities(column, mask.shape, 1)
        assert soft[:, 55 if mirrored else 40, 1].min() == 255
        assert soft[..., 1].astype(int).sum() == 96 * 255


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turned", [-40.0, 7.0, 90.0])
def test_a_turned_window_keeps_image_mask_and_probabilities_together(turned: float, mirrored: bool) -> None:
    """Blocks of 16 pixels with the class id painted into the image and, four times coarser, told by a teacher."""
    rows, columns = np.mgrid[:120, :160]
    mask = ((rows // 16 + 2 * (columns // 16)) % 5).astype(np.uint8)
    image = np.repeat((mask * 50)[..., None], 3, axis=2)
    certain = (np.eye(5, dtype=np.uint8) * 255)[mask[2::4, 2::4]]
    window = Window(10, 20, (100, 110), (96, 128), mirrored, turned)
    label, view = window.of_mask(mask), window.of_image(image)
    assert label.shape == (96, 128)
    assert view.shape == (96, 128, 3)
    inside = label != IGNORE
    assert inside.mean() > 0.5
    assert (np.abs(view[..., 0].astype(int) - label * 50.0) < 5)[inside].mean() > 0.75  # all but the edges of blocks
    assert (view[~inside] < 200).all()
    soft = window.of_probabilities(certain, mask.shape, 4)
    coarse = label[2::4, 2::4]
    sure = (soft.max(-1) > 240) & (coarse != IGNORE)
    assert sure.mean() > 0.1
    assert (soft.argmax(-1) == coarse)[sure].mean() > 0.99


def test_a_window_turns_clockwise_about_its_centre() -> None:
    """By 90 degrees, what is to the right of the centre comes to the top of the crop."""
    mask = np.zeros((101, 101), np.uint8)
    mask[50, 80] = 1
    mask[50, 50] = 2
    label = Window(0, 0, (101, 101), (101, 101), False, -90.0).of_mask(mask)
    assert np.argwhere(label == 2).tolist() == [[50, 50]]
    assert np.argwhere(label == 1).tolist() == [[80, 50]]
    label = Window(0, 0, (101, 101), (101, 101), False, 90.0).of_mask(mask)
    assert np.argwhere(label == 1).tolist() == [[20, 50]]


def test_without_rotation_nothing_more_is_drawn() -> None:
    """A recipe that does not rotate sees what it saw before there was rotation; one that does sees the same windows."""
    mask = np.zeros((120, 160), np.uint8)
    plain, turning = np.random.default_rng(3), np.random.default_rng(3)
    first = random_window(mask, (96, 128), plain)
    second = random_window(mask, (96, 128), turning, rotate=30)
    assert first.turned == 0
    assert 0 < abs(second.turned) <= 30
    assert (first.top, first.left, first.mirrored) == (second.top, second.left, second.mirrored)
    assert plain.random() != turning.random()

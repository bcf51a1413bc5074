from __future__ import annotations

import numpy as np
import pytest

from pspnet_edge.data.scenes import Drive
from pspnet_edge.data.transforms import random_view
from pspnet_edge.labels import IGNORE


@pytest.mark.parametrize("seed", range(12))
def test_a_view_is_the_size_asked_for_and_follows_its_generator(seed: int) -> None:
    frame = Drive(seed, (120, 160)).frame(seed)
    views = [random_view(frame.image, frame.mask, (96, 128), np.random.default_rng(seed)) for _ in range(2)]
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
        view, label = random_view(image, mask, (90, 120), np.random.default_rng(seed), scales=(0.8, 1.6))
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
                random_view(image, mask, (30, 40), np.random.default_rng(seed), scales=(1, 1), aspect=0, focus=focus)[1]
                == 5
            ).any()
            for seed in range(60)
        )
        for focus in (0.0, 1.0)
    }
    assert found[1.0] > 2 * found[0.0]


def test_what_lies_outside_is_ignored() -> None:
    frame = Drive(0, (60, 80)).frame(0)
    _, mask = random_view(frame.image, frame.mask, (96, 128), np.random.default_rng(0), scales=(0.5, 0.6))
    assert (mask == IGNORE).any()

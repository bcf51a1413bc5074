from __future__ import annotations

import numpy as np
import pytest

from pspnet_edge.data.datasets import SceneSet
from pspnet_edge.data.scenes import Drive


def test_a_frame_depends_on_seed_and_index_alone() -> None:
    forwards = [frame for frame, _ in zip(Drive(3, (120, 160)).frames(), range(4))]
    again = Drive(3, (120, 160)).frame(3)
    np.testing.assert_array_equal(forwards[3].image, again.image)
    np.testing.assert_array_equal(forwards[3].mask, again.mask)
    other = Drive(4, (120, 160)).frame(3)
    assert (other.mask != again.mask).mean() > 0.05


def test_the_drive_moves() -> None:
    drive = Drive(0, (120, 160))
    assert (drive.frame(10).mask != drive.frame(14).mask).mean() > 0.01


@pytest.mark.parametrize("size_hw", [(120, 160), (97, 211), (480, 640)])
def test_frames_keep_the_contract(size_hw: tuple[int, int]) -> None:
    frame = Drive(1, size_hw).frame(7)
    assert frame.image.shape == (*size_hw, 3)
    assert frame.mask.shape == size_hw
    assert frame.image.dtype == frame.mask.dtype == np.uint8


def test_every_class_is_there_and_nothing_else() -> None:
    counts = np.zeros(256, np.int64)
    for seed in range(6):
        for index in (0, 80, 160):
            counts += np.bincount(Drive(seed, (180, 240)).frame(index).mask.ravel(), minlength=256)
    assert (counts[:11] > 0).all()
    assert counts[11:].sum() == 0


def test_splits_share_no_street() -> None:
    streets = [
        {SceneSet(split).name(index)[:10] for index in range(len(SceneSet(split)))}
        for split in ("train", "val", "test")
    ]
    assert not streets[0] & streets[1]
    assert not streets[0] & streets[2]
    assert not streets[1] & streets[2]
    assert "street0000" not in streets[0] | streets[1] | streets[2], "the demo drives its own street"

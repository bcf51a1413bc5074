from __future__ import annotations

import numpy as np
import pytest

from pspnet_edge.data.geometry import frame_at


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_every_pixel_counts_when_a_frame_shrinks(factor: int) -> None:
    """One bright column anywhere is seen in the small frame: no column is left out."""
    for column in range(6 * factor):
        frame = np.zeros((4 * factor, 6 * factor, 3), np.uint8)
        frame[:, column] = 255
        small = frame_at(frame, (4, 6))
        assert small[0, column // factor, 0] >= 255 // factor - 1


def test_a_frame_of_the_right_size_is_not_touched() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    assert frame_at(frame, (4, 6)) is frame

from __future__ import annotations

import numpy as np

from pspnet_edge.data.datasets import SceneSet
from pspnet_edge.data.subset import evenly_spaced


def test_evenly_spaced_reaches_over_the_whole_set() -> None:
    assert evenly_spaced(SceneSet("test"), 4).indices == (0, 25, 50, 75)
    assert len(evenly_spaced(SceneSet("test"), 1000)) == 100


def test_a_subset_reads_images_without_their_masks() -> None:
    chosen = evenly_spaced(SceneSet("test"), 2)
    np.testing.assert_array_equal(chosen.image(1), SceneSet("test")[50][0])

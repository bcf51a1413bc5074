from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from pspnet_edge.model.pyramid import GlobalContext, PyramidPooling, bin_pool, resize

SIZES = [(60, 60), (59, 61), (48, 96), (7, 13), (6, 6), (5, 4), (1, 1)]


@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize("bins", [1, 2, 3, 6, 8])
def test_bin_pool_is_adaptive_pooling(size_hw: tuple[int, int], bins: int) -> None:
    x = torch.randn(2, 3, *size_hw)
    torch.testing.assert_close(bin_pool(x, bins), F.adaptive_avg_pool2d(x, bins))


@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize("align_corners", [False, True])
def test_the_pyramid_is_the_features_beside_resized_bins(size_hw: tuple[int, int], align_corners: bool) -> None:
    pyramid = PyramidPooling(4, 2, (1, 2, 3, 6), align_corners).eval()
    x = torch.randn(1, 4, *size_hw)
    parts = [x]
    for bins, stage in zip((1, 2, 3, 6), pyramid.stages):
        pooled = stage(F.adaptive_avg_pool2d(x, bins))
        parts.append(F.interpolate(pooled, size_hw, mode="bilinear", align_corners=align_corners))
    torch.testing.assert_close(pyramid(x), torch.cat(parts, 1))
    assert pyramid.channels == 12


def test_resize_to_the_same_size_is_nothing() -> None:
    x = torch.randn(1, 1, 3, 5)
    assert resize(x, (3, 5), align_corners=True) is x


def test_global_context_sees_everything() -> None:
    head = GlobalContext(4, 6).eval()
    x = torch.randn(1, 4, 9, 9)
    moved = x.clone()
    moved[..., 0, 0] += 100
    before, after = head(x), head(moved)
    assert before.shape == (1, 10, 9, 9)
    assert not torch.equal(before[:, 4:, 8, 8], after[:, 4:, 8, 8])

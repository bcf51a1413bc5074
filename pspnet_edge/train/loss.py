"""The training loss."""

from __future__ import annotations

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..labels import IGNORE

AUX_WEIGHT = 0.4


def class_weights(frequencies: NDArray, spread: float = 1.10) -> Tensor:  # type: ignore[type-arg]
    """``1 / ln(spread + frequency)``, scaled to a mean of 1.

    Source: A. Paszke et al., ENet, 2016.
    """
    weights = 1 / torch.log(spread + torch.as_tensor(frequencies, dtype=torch.float32))
    return weights / weights.mean()


def segmentation_loss(
    logits: Tensor, aux_logits: Tensor, masks: Tensor, weights: Tensor, align_corners: bool = False
) -> Tensor:
    """Weighted cross-entropy of the logits at the mask's size, plus ``AUX_WEIGHT`` times that of the aux head.

    Args:
        logits: ``float [N, classes, H/4, W/4]``.
        aux_logits: ``float [N, classes, H/16, W/16]``.
        masks: ``int64 [N, H, W]``, IGNORE where there is no label.
        weights: ``float [classes]``.
        align_corners: how the network means its logits to be resized.
    """
    main = _cross_entropy(logits, masks, weights, align_corners)
    return main + AUX_WEIGHT * _cross_entropy(aux_logits, masks[:, 1::2, 1::2], weights, align_corners)


def _cross_entropy(logits: Tensor, masks: Tensor, weights: Tensor, align_corners: bool) -> Tensor:
    size_hw = (masks.shape[-2], masks.shape[-1])
    full = F.interpolate(logits.float(), size=size_hw, mode="bilinear", align_corners=align_corners)
    total = F.cross_entropy(full, masks, weights, ignore_index=IGNORE, reduction="sum")
    # A batch may hold no labelled pixel at all; its loss is then zero rather than 0/0.
    labelled = weights[masks[masks != IGNORE]].sum()
    return total / labelled.clamp(min=1)

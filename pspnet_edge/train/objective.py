"""The training loss: its terms together, over a batch that may be computed in micro-batches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ..model.pspnet import PSPNet
from .batches import MicroBatch
from .loss import (
    AUX_WEIGHT,
    aux_masks,
    cross_entropy,
    distillation_loss,
    hard_cross_entropy,
    labelled_images,
    labelled_weight,
    lovasz_loss,
    taught_pixels,
)
from .recipe import Recipe


class Objective:
    """The loss of a recipe for one network.

    Args:
        recipe: which terms, and how much of each.
        model: whose logits' size and resizing are meant.
        weights: ``float [classes]`` of the cross-entropy, on the device that computes.
    """

    def __init__(self, recipe: Recipe, model: PSPNet, weights: Tensor) -> None:
        self._recipe = recipe
        self._align_corners = model.align_corners
        self._stride = model.logits_stride
        self._weights = weights
        self._entropy = cross_entropy
        if recipe.ohem:
            self._entropy = partial(hard_cross_entropy, threshold=recipe.ohem_threshold, kept=recipe.ohem_kept)

    def totals(self, micro_batches: Sequence[MicroBatch]) -> Tensor:
        """``float64 [3]``: the divisors of the main, the aux and the teacher's term of these micro-batches.

        They add up over micro-batches and processes, because they depend only on the samples.
        """
        rows = []
        for _, masks, soft in micro_batches:
            of_teacher = masks.new_zeros(())
            if soft.numel():
                size_hw = (-(-masks.shape[-2] // self._stride), -(-masks.shape[-1] // self._stride))
                of_teacher = taught_pixels(_probabilities(soft), size_hw)
            rows.append(torch.stack([self._count(masks), self._count(aux_masks(masks)), of_teacher.double()]))
        return torch.stack(rows).sum(0)

    def loss(self, logits: Tensor, aux_logits: Tensor, sample: MicroBatch, totals: Tensor, fraction: float) -> Tensor:
        """What one micro-batch adds to the loss of its batch.

        Args:
            logits: ``float [N, classes, h, w]`` of the micro-batch.
            aux_logits: those of the aux head.
            sample: the micro-batch.
            totals: ``totals`` of the whole batch.
            fraction: of the batch's crops, how many are in this micro-batch, 0–1.
        """
        _, masks, soft = sample
        main, aux, of_teacher = totals.float()
        arguments = (self._weights, self._align_corners)
        loss = self._entropy(logits, masks, *arguments, main)
        loss = loss + AUX_WEIGHT * self._entropy(aux_logits, aux_masks(masks), *arguments, aux)
        if self._recipe.lovasz_weight:
            loss = loss + self._recipe.lovasz_weight * fraction * lovasz_loss(logits, masks, self._align_corners)
        if soft.numel():
            divergence = distillation_loss(logits, _probabilities(soft), of_teacher)
            loss = loss + self._recipe.distil_weight * divergence
        return loss

    def _count(self, masks: Tensor) -> Tensor:
        counted = labelled_images(masks) if self._recipe.ohem else labelled_weight(masks, self._weights)
        return counted.double()


def _probabilities(soft: Tensor) -> Tensor:
    """``uint8 [N, h, w, classes]`` → ``float [N, classes, h, w]``, 0–1."""
    return soft.permute(0, 3, 1, 2).float() / 255

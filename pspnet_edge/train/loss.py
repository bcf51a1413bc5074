"""The terms of the training loss.

Those that are ratios of sums take their denominator as an argument, so that the micro-batches of a batch, one after
another or in several processes, add up to the loss of the whole.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..labels import IGNORE

AUX_WEIGHT = 0.4


def class_weights(frequencies: NDArray[np.float64], spread: float = 1.10) -> Tensor:
    """``1 / ln(spread + frequency)``, scaled to a mean of 1.

    Source: A. Paszke et al., ENet, 2016.
    """
    weights = 1 / torch.log(spread + torch.as_tensor(frequencies, dtype=torch.float32))
    return weights / weights.mean()


def distillation_loss(logits: Tensor, teacher: Tensor, taught: Tensor | None = None) -> Tensor:
    """Kullback-Leibler divergence of the network's classes from a teacher's, in nats, averaged over known pixels.

    Args:
        logits: ``float [N, classes, h, w]``.
        teacher: probabilities ``float [N, classes, h', w']``, taken to the size of the logits; all zero where the
            teacher has no answer.
        taught: what the sum is divided by; left out, ``taught_pixels`` of this teacher.

    Source: G. Hinton et al., Distilling the Knowledge in a Neural Network, 2015, at temperature 1.
    """
    teacher = _teacher_at(teacher, (logits.shape[-2], logits.shape[-1]))
    total = teacher.sum(1, keepdim=True)
    known = total > 0.5
    target = teacher / total.clamp(min=0.5)
    divergence = F.kl_div(F.log_softmax(logits.float(), 1), target, reduction="none").sum(1, keepdim=True)
    count = known.sum() if taught is None else taught
    return (divergence * known).sum() / count.clamp(min=1)


def taught_pixels(teacher: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """How many pixels of logits of ``size_hw`` have a teacher's answer."""
    return (_teacher_at(teacher, size_hw).sum(1) > 0.5).sum()


def _teacher_at(teacher: Tensor, size_hw: tuple[int, int]) -> Tensor:
    if (teacher.shape[-2], teacher.shape[-1]) == size_hw:
        return teacher
    return F.interpolate(teacher, size=size_hw, mode="area")


def lovasz_loss(logits: Tensor, masks: Tensor, align_corners: bool = False, sample: int = 65_536) -> Tensor:
    """A surrogate of 1 − mIoU over the classes in the batch, on a random sample of pixels so that sorting stays cheap.

    Args:
        logits: ``float [N, classes, h, w]``.
        masks: ``int64 [N, H, W]``, IGNORE where there is no label.
        align_corners: how the network's logits are resized.
        sample: about how many pixels are taken, drawn with torch's generator.

    Source: M. Berman et al., The Lovász-Softmax loss, CVPR 2018.
    """
    full = _at_masks(logits, masks, align_corners)
    labels = masks.flatten()
    pixels = torch.arange(labels.numel(), device=labels.device)
    if labels.numel() > sample:
        pixels = torch.randint(labels.numel(), (sample,), device=labels.device)
    labels = labels[pixels]
    probabilities = full.permute(0, 2, 3, 1).flatten(0, 2)[pixels].softmax(1)
    # No size depends on the data: a GPU need not wait for the processor. An error of zero counts for nothing.
    known = labels != IGNORE
    losses, present = [], []
    for index in range(logits.shape[1]):
        positive = labels == index
        losses.append(_lovasz_of_class(probabilities[:, index], positive, known))
        present.append(positive.any())
    occurs = torch.stack(present).float()
    return (torch.stack(losses) * occurs).sum() / occurs.sum().clamp(min=1)


def _lovasz_of_class(probabilities: Tensor, positive: Tensor, known: Tensor) -> Tensor:
    errors, order = ((positive.float() - probabilities).abs() * known).sort(descending=True)
    ordered = positive[order].float()
    # The Jaccard loss of the n worst pixels, whose growth is the weight of each.
    union = ordered.sum() + (1 - ordered).cumsum(0)
    jaccard = 1 - (ordered.sum() - ordered.cumsum(0)) / union
    weights = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    return errors @ weights


def aux_masks(masks: Tensor) -> Tensor:
    """The labels that the aux head is compared with: every second pixel of ``int64 [N, H, W]``."""
    return masks[:, 1::2, 1::2]


def cross_entropy(
    logits: Tensor, masks: Tensor, weights: Tensor, align_corners: bool = False, labelled: Tensor | None = None
) -> Tensor:
    """Weighted cross-entropy of the logits at the mask's size.

    Args:
        logits: ``float [N, classes, h, w]``.
        masks: ``int64 [N, H, W]``, IGNORE where there is no label.
        weights: ``float [classes]``.
        align_corners: how the network's logits are resized.
        labelled: what the sum is divided by; left out, ``labelled_weight`` of these masks.
    """
    total = F.cross_entropy(
        _at_masks(logits, masks, align_corners), masks, weights, ignore_index=IGNORE, reduction="sum"
    )
    # A batch may hold no labelled pixel at all; its loss is then zero rather than 0/0.
    return total / (labelled_weight(masks, weights) if labelled is None else labelled).clamp(min=1)


def labelled_weight(masks: Tensor, weights: Tensor) -> Tensor:
    """The sum of the class weights of all labelled pixels."""
    labelled = masks != IGNORE
    return (weights[masks * labelled] * labelled).sum()


def hard_cross_entropy(
    logits: Tensor,
    masks: Tensor,
    weights: Tensor,
    align_corners: bool = False,
    labelled: Tensor | None = None,
    *,
    threshold: float = 0.7,
    kept: float = 0.1,
) -> Tensor:
    """Weighted cross-entropy of each image's hard pixels, averaged over the images that have labels.

    A pixel is hard when its true class gets less than ``threshold``; at least the fraction ``kept`` of the labelled
    pixels counts as hard. They are chosen per image, so that the result does not depend on the rest of the batch.

    Args:
        logits, masks, weights, align_corners: as in ``cross_entropy``.
        labelled: what the sum over images is divided by; left out, ``labelled_images`` of these masks.
        threshold: a probability.
        kept: a fraction, 0–1.

    Source: A. Shrivastava et al., Online Hard Example Mining, CVPR 2016; Z. Wu et al. for pixels.
    """
    full = _at_masks(logits, masks, align_corners)
    plain = F.cross_entropy(full, masks, ignore_index=IGNORE, reduction="none")
    total = logits.sum() * 0
    for losses, mask in zip(plain, masks):
        known = mask != IGNORE
        count = int(known.sum())
        if count == 0:
            continue
        losses, pixel_weights = losses[known], weights[mask[known]]
        at_least = losses.detach().topk(max(1, round(kept * count))).values[-1]
        hard = losses.detach() >= at_least.clamp(max=-math.log(threshold))
        total = total + (losses * pixel_weights)[hard].sum() / pixel_weights[hard].sum()
    return total / (labelled_images(masks) if labelled is None else labelled).clamp(min=1)


def labelled_images(masks: Tensor) -> Tensor:
    """How many images have a label at all."""
    return (masks != IGNORE).flatten(1).any(1).sum()


def _at_masks(logits: Tensor, masks: Tensor, align_corners: bool) -> Tensor:
    size_hw = (masks.shape[-2], masks.shape[-1])
    return F.interpolate(logits.float(), size=size_hw, mode="bilinear", align_corners=align_corners)

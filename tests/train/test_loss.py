from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from pspnet_edge.labels import IGNORE  # noqa: E402
from pspnet_edge.train.loss import (  # noqa: E402
    class_weights,
    cross_entropy,
    distillation_loss,
    hard_cross_entropy,
    labelled_images,
    lovasz_loss,
)
from pspnet_edge.train.schedule import warmup_poly  # noqa: E402

WEIGHTS = torch.tensor([0.5, 1.0, 1.5])


def logits_and_masks(images: int = 1):
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(0, 3, (images, 8, 8), generator=generator)
    masks[:, :2] = IGNORE
    return torch.randn(images, 3, 8, 8, generator=generator), masks


def test_cross_entropy_is_weighted_and_over_labelled_pixels() -> None:
    logits, masks = logits_and_masks()
    expected = torch.nn.functional.cross_entropy(logits, masks, WEIGHTS, ignore_index=IGNORE)
    assert float(cross_entropy(logits, masks, WEIGHTS)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("loss", [cross_entropy, hard_cross_entropy])
def test_a_batch_without_labels_costs_nothing(loss) -> None:
    assert float(loss(torch.randn(1, 3, 8, 8), torch.full((1, 8, 8), IGNORE), torch.ones(3))) == 0


def straightforward_ohem(logits, masks, threshold: float, kept: float) -> float:
    """Pixel by pixel, with lists."""
    means = []
    for image, mask in zip(logits.softmax(1), masks):
        pixels = [
            (float(image[mask[row, column], row, column]), float(WEIGHTS[mask[row, column]]))
            for row in range(8)
            for column in range(8)
            if mask[row, column] != IGNORE
        ]
        pixels.sort()
        count = max(round(kept * len(pixels)), sum(probability < threshold for probability, _ in pixels))
        means.append(
            sum(-weight * math.log(probability) for probability, weight in pixels[:count])
            / sum(weight for _, weight in pixels[:count])
        )
    return sum(means) / len(means)


@pytest.mark.parametrize(("threshold", "kept"), [(0.7, 0.1), (0.2, 0.1), (0.01, 0.3), (1.0, 0.1), (0.01, 0.001)])
def test_ohem_keeps_the_hard_pixels_of_each_image(threshold: float, kept: float) -> None:
    logits, masks = logits_and_masks(3)
    loss = hard_cross_entropy(logits, masks, WEIGHTS, threshold=threshold, kept=max(kept, 1 / 48))
    assert float(loss) == pytest.approx(straightforward_ohem(logits, masks, threshold, max(kept, 1 / 48)), rel=1e-5)


def test_ohem_gives_easy_pixels_no_gradient() -> None:
    logits = torch.zeros(1, 3, 8, 8)
    logits[:, 0, :, :4] = 9  # sure, and right
    logits.requires_grad_()
    hard_cross_entropy(logits, torch.zeros(1, 8, 8, dtype=torch.int64), WEIGHTS).backward()
    assert logits.grad is not None
    assert not logits.grad[..., :4].any()
    assert logits.grad[..., 4:].all()


def test_images_without_labels_do_not_count() -> None:
    _, masks = logits_and_masks(3)
    masks[1] = IGNORE
    assert int(labelled_images(masks)) == 2


def test_distillation_is_the_divergence_where_the_teacher_knows() -> None:
    logits, _ = logits_and_masks(2)
    teacher = torch.rand(2, 3, 8, 8)
    teacher[:, :, 5:] = 0
    target = teacher[:, :, :5] / teacher[:, :, :5].sum(1, keepdim=True)
    known = teacher[:, :, :5].sum(1) > 0.5
    divergence = (target * (target.log() - logits[:, :, :5].log_softmax(1))).sum(1)
    assert float(distillation_loss(logits, teacher)) == pytest.approx(float(divergence[known].mean()), rel=1e-4)


def test_a_student_that_says_what_the_teacher_says_loses_nothing() -> None:
    logits, _ = logits_and_masks()
    assert float(distillation_loss(logits, logits.softmax(1))) == pytest.approx(0, abs=1e-6)
    assert float(distillation_loss(logits, torch.zeros(1, 3, 8, 8))) == 0


def test_lovasz_of_hard_predictions_is_one_minus_iou() -> None:
    _, masks = logits_and_masks(2)
    predicted = torch.randint(0, 3, masks.shape, generator=torch.Generator().manual_seed(5))
    logits = torch.nn.functional.one_hot(predicted, 3).permute(0, 3, 1, 2) * 1000.0
    known = masks != IGNORE
    ious = []
    for index in range(3):
        label, guess = masks[known] == index, predicted[known] == index
        ious.append(float((label & guess).sum() / (label | guess).sum()))
    assert float(lovasz_loss(logits, masks)) == pytest.approx(1 - np.mean(ious), abs=1e-5)


def test_lovasz_of_a_sample_is_near_that_of_all() -> None:
    generator = torch.Generator().manual_seed(1)
    masks = torch.randint(0, 3, (2, 64, 64), generator=generator)
    logits = torch.randn(2, 3, 64, 64, generator=generator)
    torch.manual_seed(0)
    assert float(lovasz_loss(logits, masks, sample=2000)) == pytest.approx(float(lovasz_loss(logits, masks)), rel=0.05)


def test_rare_classes_weigh_more() -> None:
    weights = class_weights(np.array([0.5, 0.3, 0.01]))
    assert weights[2] > weights[1] > weights[0]
    assert float(weights.mean()) == pytest.approx(1)


def test_the_rate_rises_then_falls_to_nothing() -> None:
    factors = [warmup_poly(step, 100, 10) for step in range(100)]
    assert factors[0] == 0.1
    assert factors[9] == 1
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] < 0.05

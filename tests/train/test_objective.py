from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from pspnet_edge.labels import IGNORE  # noqa: E402
from pspnet_edge.model.pspnet import PSPNet  # noqa: E402
from pspnet_edge.train.loss import AUX_WEIGHT, distillation_loss, lovasz_loss  # noqa: E402
from pspnet_edge.train.objective import Objective  # noqa: E402
from pspnet_edge.train.recipe import Recipe  # noqa: E402

WEIGHTS = torch.tensor([0.5, 1.0, 1.5])


@pytest.fixture(scope="module")
def model() -> PSPNet:
    return PSPNet("pspnet_lite0", 3)


def batch(images: int = 4):
    """Logits, aux logits and a sample; the images differ much in how many of their pixels have labels."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(0, 3, (images, 32, 32), generator=generator)
    soft = torch.randint(20, 255, (images, 8, 8, 3), generator=generator, dtype=torch.uint8)
    for index in range(images):
        masks[index, : 8 * index] = IGNORE
        soft[index, : 2 * index] = 0
    frames = torch.zeros(images, 32, 32, 3, dtype=torch.uint8)
    logits = torch.randn(images, 3, 8, 8, generator=generator)
    return logits, torch.randn(images, 3, 2, 2, generator=generator), (frames, masks, soft)


def test_the_loss_is_the_sum_of_its_terms(model: PSPNet) -> None:
    logits, aux, sample = batch()
    _, masks, soft = sample
    objective = Objective(Recipe(lovasz_weight=0.5, distil_weight=2.0), model, WEIGHTS)

    def entropy(scores, labels):
        full = torch.nn.functional.interpolate(scores, labels.shape[-2:], mode="bilinear", align_corners=False)
        return torch.nn.functional.cross_entropy(full, labels, WEIGHTS, ignore_index=IGNORE)

    expected = (
        entropy(logits, masks)
        + AUX_WEIGHT * entropy(aux, masks[:, 1::2, 1::2])
        + 0.5 * lovasz_loss(logits, masks)
        + 2 * distillation_loss(logits, soft.permute(0, 3, 1, 2) / 255)
    )
    loss = objective.loss(logits, aux, sample, objective.totals([sample]), 1.0)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("ohem", [False, True])
def test_parts_add_up_to_the_whole(model: PSPNet, ohem: bool) -> None:
    logits, aux, sample = batch()
    objective = Objective(Recipe(ohem=ohem), model, WEIGHTS)
    whole = objective.loss(logits, aux, sample, objective.totals([sample]), 1.0)
    parts = [tuple(tensor[start : start + 2] for tensor in sample) for start in (0, 2)]
    totals = objective.totals(parts)
    summed = sum(
        objective.loss(logits[start : start + 2], aux[start : start + 2], part, totals, 0.5)
        for start, part in zip((0, 2), parts)
    )
    assert float(summed) == pytest.approx(float(whole), rel=1e-6)


def test_without_a_teacher_nothing_is_distilled(model: PSPNet) -> None:
    logits, aux, (frames, masks, _) = batch()
    sample = (frames, masks, torch.empty(4, 0, dtype=torch.uint8))
    losses = {
        weight: float(objective.loss(logits, aux, sample, objective.totals([sample]), 1.0))
        for weight in (0.0, 5.0)
        for objective in [Objective(Recipe(distil_weight=weight), model, WEIGHTS)]
    }
    assert losses[0.0] == losses[5.0]

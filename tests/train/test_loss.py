from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from pspnet_edge.labels import IGNORE  # noqa: E402
from pspnet_edge.train.loss import AUX_WEIGHT, class_weights, segmentation_loss  # noqa: E402
from pspnet_edge.train.schedule import warmup_poly  # noqa: E402


def test_the_loss_is_weighted_cross_entropy_over_labelled_pixels() -> None:
    torch.manual_seed(0)
    logits, aux = torch.randn(1, 3, 8, 8), torch.randn(1, 3, 4, 4)
    masks = torch.randint(0, 3, (1, 8, 8))
    masks[0, :2] = IGNORE
    weights = torch.tensor([0.5, 1.0, 1.5])
    expected = torch.nn.functional.cross_entropy(logits, masks, weights, ignore_index=IGNORE)
    expected_aux = torch.nn.functional.cross_entropy(aux, masks[:, 1::2, 1::2], weights, ignore_index=IGNORE)
    assert float(segmentation_loss(logits, aux, masks, weights)) == pytest.approx(
        float(expected + AUX_WEIGHT * expected_aux), rel=1e-5
    )


def test_a_batch_without_labels_costs_nothing() -> None:
    masks = torch.full((1, 8, 8), IGNORE)
    loss = segmentation_loss(torch.randn(1, 3, 8, 8), torch.randn(1, 3, 4, 4), masks, torch.ones(3))
    assert float(loss) == 0


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

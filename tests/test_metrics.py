from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, jaccard_score

from pspnet_edge.labels import IGNORE
from pspnet_edge.metrics import ConfusionMatrix


def masks(seed: int, classes: int, absent: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    present = [index for index in range(classes) if index not in absent]
    label = rng.choice(present, (5, 40, 60)).astype(np.uint8)
    predicted = np.where(rng.random(label.shape) < 0.6, label, rng.choice(present, label.shape)).astype(np.uint8)
    label[rng.random(label.shape) < 0.1] = IGNORE
    return label, predicted


@pytest.mark.parametrize("absent", [(), (3,), (0, 10)])
def test_equals_scikit_learn(absent: tuple[int, ...]) -> None:
    label, predicted = masks(1, 11, absent)
    matrix = ConfusionMatrix(11)
    for one_label, one_predicted in zip(label, predicted):
        matrix.add(one_label, one_predicted)
    known = label != IGNORE
    expected = jaccard_score(label[known], predicted[known], average=None)
    present = [index for index in range(11) if index not in absent]
    np.testing.assert_allclose(matrix.iou()[present], expected, atol=1e-12)
    assert np.isnan(matrix.iou()[list(absent)]).all()
    assert matrix.miou() == pytest.approx(expected.mean(), abs=1e-12)
    assert matrix.pixel_accuracy() == pytest.approx(accuracy_score(label[known], predicted[known]), abs=1e-12)


@pytest.mark.parametrize("run", [1, 2, 7, 1000])
def test_counts_every_pixel_whatever_the_runs(run: int) -> None:
    rng = np.random.default_rng(run)
    label, predicted = (np.repeat(rng.integers(0, 4, 2100 // run + 1), run)[:2100].astype(np.uint8) for _ in range(2))
    label[::9] = IGNORE
    matrix = ConfusionMatrix(4)
    matrix.add(label.reshape(42, 50), predicted.reshape(42, 50))
    expected = [[int(((label == row) & (predicted == column)).sum()) for column in range(4)] for row in range(4)]
    assert matrix.counts.tolist() == expected


def test_a_class_only_in_the_prediction_counts_as_zero() -> None:
    matrix = ConfusionMatrix(3)
    matrix.add(np.zeros((2, 2), np.uint8), np.array([[0, 0], [0, 1]], np.uint8))
    assert matrix.iou()[:2].tolist() == [0.75, 0.0]
    assert matrix.miou() == 0.375


def test_nothing_labelled_is_not_a_number() -> None:
    matrix = ConfusionMatrix(2)
    matrix.add(np.full((2, 2), IGNORE, np.uint8), np.zeros((2, 2), np.uint8))
    assert np.isnan(matrix.miou())
    assert np.isnan(matrix.pixel_accuracy())


def test_masks_that_do_not_fit_are_refused() -> None:
    matrix = ConfusionMatrix(2)
    with pytest.raises(ValueError, match="differ in shape"):
        matrix.add(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8))
    with pytest.raises(ValueError, match="label holds ids"):
        matrix.add(np.full((2, 2), 7, np.uint8), np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match="prediction holds ids"):
        matrix.add(np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8))


def test_more_pixels_than_a_float32_counts_are_all_counted() -> None:
    masks = np.zeros((4099, 4096), np.uint8)
    matrix = ConfusionMatrix(2)
    matrix.add(masks, masks)
    assert matrix.counts.tolist() == [[4099 * 4096, 0], [0, 0]]

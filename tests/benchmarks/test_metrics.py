from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pspnet_edge.data.datasets import SceneSet, open_dataset
from pspnet_edge.labels import IGNORE
from pspnet_edge.metrics import ConfusionMatrix

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("metrics")


@pytest.mark.parametrize(("classes", "absent"), [(2, ()), (11, ()), (11, (0, 3, 10)), (150, tuple(range(50, 150)))])
def test_equals_torchmetrics_on_random_masks(metrics: ModuleType, classes: int, absent: tuple[int, ...]) -> None:
    for seed, ignored in enumerate((0.0, 0.1, 0.999)):
        row = metrics.compared("", metrics.random_masks(seed, classes, absent=absent, ignored=ignored), classes, 1)
        assert row.absent >= len(absent)
        assert row.difference <= 1e-9


def moved(label: np.ndarray) -> np.ndarray:
    """A prediction that is wrong along every edge and knows nothing of what is ignored."""
    guess = np.roll(label, (3, 5), (0, 1))
    return np.where(guess == IGNORE, 0, guess).astype(np.uint8)


def test_equals_torchmetrics_on_scenes(metrics: ModuleType) -> None:
    masks = [(label, moved(label)) for _, label in (SceneSet("test")[index] for index in range(3))]
    assert metrics.compared("", masks, 11, 1).difference <= 1e-9


def test_equals_torchmetrics_on_photographs(metrics: ModuleType, camvid_root: Path) -> None:
    dataset = open_dataset("camvid", camvid_root, "test")
    masks = [(label, moved(label)) for _, label in (dataset[index] for index in range(0, 233, 40))]
    assert any((label == IGNORE).any() for label, _ in masks)
    assert metrics.compared("", masks, 11, 1).difference <= 1e-9


def test_a_difference_is_found(metrics: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    masks = metrics.random_masks(0, 5)
    count = ConfusionMatrix.add

    def wrong(self: ConfusionMatrix, label: np.ndarray, predicted: np.ndarray) -> None:
        count(self, label, predicted)
        self.counts[0, 0] += 1

    monkeypatch.setattr(ConfusionMatrix, "add", wrong)
    with pytest.raises(AssertionError):
        metrics.compared("", masks, 5, 1)

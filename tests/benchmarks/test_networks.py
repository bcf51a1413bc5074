"""The laboratory trains our candidates and other projects' networks with the trainer of the package."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
from torch import nn

from pspnet_edge.data.datasets import open_dataset

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("networks")


@pytest.mark.parametrize("name", ["lite0-narrow", "another project's"])
def test_a_network_is_trained_and_scored(name: str, networks: ModuleType, small_scenes: Path) -> None:
    if name in networks.CANDIDATES:
        network = networks.make_network(name, scratch=True)
    else:
        layers = nn.Sequential(nn.Conv2d(3, 8, 3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 11, 1))
        network = networks.Foreign(layers, (0.0,) * 3, (255.0,) * 3, 8)
    training, validation = (open_dataset("folder", small_scenes, split) for split in ("train", "val"))
    facts = networks.short_run(network, 1, training, validation, scratch=True, workers=0)
    assert 0 < facts["val_miou"] < 1
    assert facts["loss"] > 0
    assert len(facts["per_class"]) == 11

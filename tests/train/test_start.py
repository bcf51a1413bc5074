from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the train extra is not installed")

from pspnet_edge.labels import CAMVID
from pspnet_edge.train.recipe import Recipe
from pspnet_edge.train.start import starting_network


@pytest.mark.parametrize(("factor", "advice"), [(0.3, True), (1.0, False)])
def test_a_preset_without_imagenet_weights_starts_from_random_ones(factor: float, advice: bool) -> None:
    start = starting_network(Recipe(model="pspnet_plain", backbone_factor=factor), CAMVID, None)
    assert start.model.preset == "pspnet_plain"
    note = start.notes[0]
    assert note.startswith("starting from random weights: pspnet_plain is made for that")
    assert ("--backbone-factor 1" in note) == advice

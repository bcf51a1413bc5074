from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pspnet_edge.model.foreign import mmseg
from pspnet_edge.model.foreign.settings import Settings
from pspnet_edge.model.foreign.weights import ForeignWeights
from pspnet_edge.model.pspnet import PSPNet


@pytest.fixture(scope="session")
def mmseg_r18() -> dict[str, Tensor]:
    """The state dict of mmseg's PSPNet-R18b of 19 classes, to be copied before it is changed."""
    torch.manual_seed(0)
    state = PSPNet("pspnet_r18", 19).state_dict()
    keys = ("backbone.conv1.weight", "backbone.layer1.0.conv1.weight")
    layout = mmseg.layout(ForeignWeights(dict.fromkeys(keys, torch.zeros(1)), Path("x")), {}, Settings())
    return {f"{layout.theirs(module)}.{kind}": state[f"{module}.{kind}"] for module, kind in map(split, state)}


def split(key: str) -> tuple[str, str]:
    module, _, kind = key.rpartition(".")
    return module, kind

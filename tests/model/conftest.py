from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn


@pytest.fixture(scope="session")
def randomise_norms() -> Callable[[nn.Module], None]:
    """Give every BatchNorm random statistics and weights, so that one that is lost or misplaced shows."""

    def randomise(model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
                nn.init.uniform_(module.weight, 0.2, 0.6)  # residual blocks would blow larger ones up
                nn.init.normal_(module.bias, std=0.1)

    return randomise

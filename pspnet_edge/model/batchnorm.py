"""BatchNorm while training: over all processes, or with its statistics as they are."""

from __future__ import annotations

from timm.layers import convert_sync_batchnorm
from torch import nn

from .pspnet import PSPNet


def synchronised(model: PSPNet) -> PSPNet:
    """The model with every BatchNorm made a SyncBatchNorm that shares its weights; it trains on GPUs alone.

    timm's conversion rather than PyTorch's, which would lose the activation that timm's BatchNorm layers hold.
    """
    converted = convert_sync_batchnorm(model)
    assert isinstance(converted, PSPNet)
    return converted


def freeze_statistics(model: PSPNet) -> None:
    """Let every BatchNorm normalise by its stored statistics; ``model.train()`` undoes it."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()

"""BatchNorm while training: over all processes, or with its statistics as they are."""

from __future__ import annotations

from weakref import WeakSet

from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn

from .pspnet import PSPNet


def synchronised(model: PSPNet) -> PSPNet:
    """The model with every BatchNorm made a SyncBatchNorm that shares its weights; it trains only on GPUs.

    timm's conversion rather than PyTorch's, which would lose the activation that timm's BatchNorm layers hold.
    """
    converted = convert_sync_batchnorm(model)
    assert isinstance(converted, PSPNet)
    return converted


def freeze_statistics(model: PSPNet) -> None:
    """Let every BatchNorm normalize by its stored statistics; ``model.train()`` undoes it."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def tolerate_single_values(model: nn.Module) -> None:
    """Let a training BatchNorm that sees one value per channel normalize by its stored statistics, unchanged.

    A variance needs two values. The 1×1 bin of the pyramid has one per image, so PyTorch refuses to train it with a
    single crop per process.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.register_forward_pre_hook(_before_single_value)
            module.register_forward_hook(_after_single_value)


def _before_single_value(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    if module.training and inputs[0].numel() == inputs[0].shape[1]:
        module.training = False
        _SUSPENDED.add(module)


def _after_single_value(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    if module in _SUSPENDED:
        _SUSPENDED.discard(module)
        module.training = True


_SUSPENDED: WeakSet[nn.Module] = WeakSet()

"""Parts of a network that training leaves as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from ..model.batchnorm import freeze_statistics
from ..model.pspnet import PSPNet
from .recipe import Frozen


def freeze_weights(model: PSPNet, parts: Sequence[Frozen]) -> None:
    """Let the weights of these parts need no gradient: ``backbone``, or ``features``, all but the classifiers."""
    for module in _frozen_modules(model, parts):
        module.requires_grad_(False)


def set_training_mode(model: PSPNet, parts: Sequence[Frozen]) -> None:
    """Put the network into training mode, with the frozen parts as in inference: no dropout, stored statistics."""
    model.train()
    if "batchnorm" in parts:
        freeze_statistics(model)
    for module in _frozen_modules(model, parts):
        module.eval()


def _frozen_modules(model: PSPNet, parts: Sequence[Frozen]) -> Iterator[nn.Module]:
    if "features" in parts:
        for name, child in model.named_children():
            if name == "aux_head":
                assert isinstance(child, nn.Sequential)
                yield from list(child)[:-1]
            elif name not in ("classifier", "dropout", "quantiser"):
                yield child
    elif "backbone" in parts:
        assert isinstance(model.backbone, nn.Module)
        yield model.backbone

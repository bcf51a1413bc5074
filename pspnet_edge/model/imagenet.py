"""ImageNet weights for the backbones."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from urllib.parse import urlparse
from urllib.request import getproxies

import timm
import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..lazy import require
from ..records import first_line

_HUB = "https://huggingface.co"
_REACHABLE_S = 5.0
_COUNTER = "num_batches_tracked"

MEAN: tuple[float, ...] = (123.675, 116.28, 103.53)
STD: tuple[float, ...] = (58.395, 57.12, 57.375)
"""RGB in 0–255, as torchvision's and timm's ResNet and VGG weights expect it."""


def timm_weights(name: str) -> dict[str, Tensor]:
    """The state dict of timm's pretrained model, downloaded at first use.

    Raises:
        ModelError: timm has no weights for ``name``, or they could not be downloaded.
    """
    if not timm.is_model_pretrained(name):
        raise ModelError(
            f"timm has no ImageNet weights for {name}: choose another preset or start from a checkpoint with --init"
        )
    cached = _cached_file(name)
    if cached is None:
        _ensure_reachable(name)
    try:
        overlay = None if cached is None else {"file": cached}
        model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
        weights: dict[str, Tensor] = model.state_dict()
    except Exception as error:  # timm and its hub client raise many kinds without a network
        raise _not_downloaded(name, first_line(error)) from error
    return weights


def _cached_file(name: str) -> str | None:
    """The file that an earlier download left, so that a machine that is offline now does not wait for the network."""
    hub_id = timm.get_pretrained_cfg(name).hf_hub_id
    if not hub_id:
        return None
    hub = require("huggingface_hub", f"download the ImageNet weights of {name}")
    found = hub.try_to_load_from_cache(hub_id, "model.safetensors")
    return found if isinstance(found, str) else None


def _ensure_reachable(name: str) -> None:
    """Fail within seconds without a network; the download itself would retry for most of a minute."""
    if getproxies():
        return
    weights = timm.get_pretrained_cfg(name)
    address = urlparse(os.environ.get("HF_ENDPOINT", _HUB) if weights.hf_hub_id else weights.url or _HUB)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=_REACHABLE_S).close()
    except OSError as error:
        raise _not_downloaded(name, f"{address.hostname}: {error.strerror or error}") from error


def _not_downloaded(name: str, reason: str) -> ModelError:
    return ModelError(
        f"the ImageNet weights of {name} could not be downloaded ({reason})",
        "connect to the network once, or give --backbone-weights FILE or none, or start from a checkpoint with --init",
    )


def load_in_order(target: nn.Module, source: Mapping[str, Tensor], name: str) -> None:
    """Load tensors that another project keeps under other names in the same order; a head at the end is left.

    Args:
        target: the module to load into.
        source: the other project's state dict, at least as long as the target's.
        name: what errors call the source.

    Raises:
        ModelError: a tensor has another shape or role, so the order is not the same.
    """
    # Older files do not count the batches that BatchNorm has seen.
    own = {key: value for key, value in target.state_dict().items() if not key.endswith(_COUNTER)}
    theirs = {key: value for key, value in source.items() if not key.endswith(_COUNTER)}
    renamed = dict(zip(own, theirs.values()))
    first = next(iter(own))
    if first in renamed and renamed[first].ndim == 4:
        renamed[first] = for_channels(renamed[first], own[first].shape[1])
    unlike = next((key for key in own if key not in renamed or renamed[key].shape != own[key].shape), None)
    if unlike is not None:
        raise ModelError(
            f"the weights in {name} are of another network: its {unlike} does not fit",
            "give weights of this model's backbone",
        )
    # The four tensors of a BatchNorm have one shape, and safetensors files are sorted by name.
    swapped = next(
        (pair for pair in zip(own, theirs) if pair[0].rpartition(".")[2] != pair[1].rpartition(".")[2]), None
    )
    if swapped is not None:
        raise ModelError(
            f"the weights in {name} have names that are not known and another order: {swapped[1]} is where "
            f"{swapped[0]} is expected",
            "give a file of torchvision or timm",
        )
    target.load_state_dict(target.state_dict() | renamed)


def for_channels(stem: Tensor, channels: int) -> Tensor:
    """The weights of a stem for frames of other channels.

    One channel sees the sum of the three, which is what three equal channels would give. A fourth starts as the mean
    of the three, and all are scaled by 3/4.
    """
    if stem.shape[1] != 3 or channels == 3:
        return stem
    if channels == 1:
        return stem.sum(1, keepdim=True)
    return torch.cat([stem, stem.mean(1, keepdim=True)], dim=1) * 0.75


def values_for(channels: int, rgb: Sequence[float]) -> tuple[float, ...]:
    """Means or deviations of RGB for frames of other channels: their mean for a grey one and for a fourth."""
    if len(rgb) == channels:
        return tuple(rgb)
    grey = round(sum(rgb) / len(rgb), 4)
    return (grey,) if channels == 1 else (*rgb[:3], *[grey] * (channels - 3))

"""Pre-trained backbone weights from a local file of torchvision or timm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from ..errors import ModelError
from .backbone import Backbone, EfficientNetLite, MobileNetV3
from .foreign.files import read_content
from .foreign.state import tensors_in
from .imagenet import load_in_order
from .resnet import ResNet
from .vgg import Vgg16

_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model")


def load_backbone_file(backbone: Backbone, path: Path) -> None:
    """Load the weights of a classifier with this backbone; its classification head is left out.

    Args:
        backbone: the module to load into.
        path: a ``.pth`` or ``.safetensors`` file of torchvision or timm, or of a network around such a backbone, read
            without running code in it.

    Raises:
        ModelError: missing, damaged, or weights of another network.
    """
    if not path.is_file():
        raise ModelError(f"there is no backbone file {path}", "give --backbone-weights FILE, imagenet or none")
    weights = _tensors(path)
    module, name = _module_and_timm_name(backbone)
    load_in_order(module, _in_module_order(weights, name), str(path))


def _tensors(path: Path) -> dict[str, Tensor]:
    content = read_content(path)
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise ModelError(f"{path} holds no state dict", "give a file of torchvision or timm")
    tensors = tensors_in(content)
    if not tensors:
        raise ModelError(f"{path} holds no tensors", "give a file of torchvision or timm")
    return tensors


def _module_and_timm_name(backbone: Backbone) -> tuple[nn.Module, str]:
    """What the weights go into, and the timm model whose names the file may use."""
    if isinstance(backbone, EfficientNetLite):
        return backbone.features, f"tf_efficientnet_{backbone.variant}"
    if isinstance(backbone, MobileNetV3):
        return backbone.features, backbone.timm_name
    if isinstance(backbone, (ResNet, Vgg16)):
        return backbone, backbone.timm_name
    raise ModelError("this network's backbone takes no separate file", "give --init CHECKPOINT")


def _in_module_order(weights: Mapping[str, Tensor], timm_name: str) -> Mapping[str, Tensor]:
    """``weights`` in the order of timm's module, without what a wrapper puts before its names or beside them.

    Safetensors files are sorted by name.
    """
    if not timm.is_model(timm_name):
        return weights
    with torch.device("meta"):
        names = list(timm.create_model(timm_name).state_dict())
    prefixes = (key.removesuffix(names[0]) for key in weights if f".{key}".endswith(f".{names[0]}"))
    prefix = max(prefixes, key=lambda start: sum(start + name in weights for name in names), default="")
    ordered = {name: weights[prefix + name] for name in names if prefix + name in weights}
    # A larger network has all of these names too, and more in the same parts.
    own = {f"{prefix}{name}" for name in names}
    parts = tuple({f"{prefix}{name.partition('.')[0]}." for name in names})
    larger = any(key.startswith(parts) and key not in own for key in weights)
    return ordered if len(ordered) > len(names) // 2 and not larger else weights

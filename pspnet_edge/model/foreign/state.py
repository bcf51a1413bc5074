"""Which of the tensors in a file are the network: the state dict among what is saved with it, without its prefix."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ...errors import ModelError, OptionError
from ..backbone import MOST_WEIGHTS

WeightsChoice = Literal["model", "ema"]

_MODEL_KEYS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params", "module",
    "segmentation_module", "generator", "student",
)  # fmt: skip
_EMA_KEYS = (
    "ema", "model_ema", "ema_model", "ema_state_dict", "state_dict_ema", "model_ema_state_dict", "ema_model_state_dict",
    "model_state_dict_ema", "params_ema", "weights_ema", "averaged_model", "swa_model", "shadow", "shadow_params",
)  # fmt: skip
_EMA_PREFIX = re.compile(r"(^|[._])(ema|averaged|average|shadow|swa|teacher)([._]|$)|_ema$", re.IGNORECASE)
# Segments that wrappers put before the network's own keys; the last that fits is the network.
_MARKERS = (
    "decoder.psp.blocks.", "decode_head.psp_modules.", "head.psp_module.stages.", "ppm.features.", "psp.stages.",
    "master_branch.0.stages.", "ppm.stages.", "decoder.ppm.",
)  # fmt: skip
# Tensors beside a network that its forward pass does not read.
_HARMLESS = re.compile(
    r"^(n_averaged|steps|epoch|mean|std|pixel_mean|pixel_std|image_mean|image_std|class_weights?|weights?|"
    r"(.*[._])?(criterion|crit|loss\w*|\w*loss(es|_fn|_func|_function)?|metrics?|\w*_metrics?|iou|miou|jaccard\w*|"
    r"confmat|accuracy|train_iou|val_iou|lpips|vgg_loss)([._].*)?)$",
    re.IGNORECASE,
)
# Segments that wrappers put anywhere into a key.
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module")
_MEASURED = re.compile(r"(^|\.)(total_ops|total_params)$")
"""Counts that thop leaves in every layer."""
_PRUNED = "weight_orig"
_FACTORS = {_PRUNED: "weight_mask", "weight_g": "weight_v", "weight.original0": "weight.original1"}
"""What the two factors of a weight end with."""
_FAKE_QUANTIZED = re.compile(r"\.(weight_fake_quant|activation_post_process)\.")
# Counts that synchronized BatchNorms of CSAIL's code keep beside the statistics.
_COUNTS = ("._tmp_running_mean", "._tmp_running_var", "._running_iter")
_SMALL = 16


@dataclass(frozen=True)
class Taken:
    """The network's tensors, and an account of the rest."""

    tensors: dict[str, Tensor]
    beside: dict[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    buffers: dict[str, Tensor] = field(default_factory=dict)


def choose_state(path: Path, content: Mapping[Any, Any], weights: WeightsChoice | None) -> Taken:
    """The state dict in the content of a file.

    Raises:
        ModelError: there is none.
        OptionError: ``weights`` asks for an average that is not there.
    """
    models, averages = _states(content, _MODEL_KEYS), _states(content, _EMA_KEYS)
    remarks: list[str] = []
    if not models and not averages and not tensors_in(content):
        models = _of_a_pspnet(content)
        remarks += [f"the weights under {key!r}" for key in models]
    if not models and not averages and tensors_in(content):
        models = {"": content}
    held = [content, *(value for value in content.values() if isinstance(value, Mapping))]
    if not models and not averages and any("param_groups" in state and "state" in state for state in held):
        raise ModelError(f"{path} holds the state of an optimizer and no weights: give the file of model.state_dict()")
    key, chosen = _pick(path, models, averages, weights, remarks)
    beside = {str(name): "training state" for name in content if name != key} if key else {}
    for other in (*models, *averages):
        if other != key and other in beside:
            beside[other] = "another copy of the weights"
    if "averaging_state" in content:
        remarks.append(f"the weights under {key!r}, which Lightning averaged")
    unnamed = next((name for name in _EMA_KEYS if _is_unnamed(content.get(name))), None)
    if unnamed:
        remarks.append(f"those under {unnamed!r} are averages without names, and are left out")
    tensors = _unwrapped(tensors_in(chosen))
    if quantized := [str(name) for name, value in chosen.items() if isinstance(value, Tensor) and value.is_quantized]:
        raise ModelError(f"{path} holds quantized weights ({quantized[0]}): give the checkpoint from before quantizing")
    if not tensors:
        raise ModelError(f"{path} holds no tensors: give a checkpoint of a trained network")
    if fake := next((name for name in tensors if _FAKE_QUANTIZED.search(name)), None):
        raise ModelError(
            f"{path} holds a network that PyTorch prepared for quantization ({fake}), which computes something else "
            "than its weights: give the checkpoint from before, and use `pspnet-edge train --qat`"
        )
    tensors = _multiplied_out(tensors, remarks)
    return _within(path, tensors, beside, remarks, None if key in averages else weights)


def _pick(
    path: Path,
    models: Mapping[str, Mapping[Any, Any]],
    averages: Mapping[str, Mapping[Any, Any]],
    weights: WeightsChoice | None,
    remarks: list[str],
) -> tuple[str, Mapping[Any, Any]]:
    model, average = next(iter(models), None), next(iter(averages), None)
    if model is not None and average is not None:
        key = average if weights == "ema" else model
        other = "model" if weights == "ema" else "ema"
        remarks.append(
            f"the weights under {key!r}; --weights {other} takes those under {({model, average} - {key}).pop()!r}"
        )
        return key, (averages if weights == "ema" else models)[key]
    if model is not None:
        return model, models[model]
    if average is not None:
        if weights == "model":
            raise OptionError(f"{path} holds averaged weights alone (under {average!r}): leave out --weights model")
        remarks.append(f"the averaged weights under {average!r}, as there are no others")
        return average, averages[average]
    raise ModelError(f"{path} holds no tensors: give a checkpoint of a trained network")


def _states(content: Mapping[Any, Any], keys: tuple[str, ...]) -> dict[str, Mapping[Any, Any]]:
    """By key, the state dicts under the usual names; the one in a wrapper such as ``{"ema": {"module": …}}`` too."""
    found: dict[str, Mapping[Any, Any]] = {}
    for key in keys:
        value = content.get(key)
        if not isinstance(value, Mapping):
            continue
        if not tensors_in(value):
            inner = _states(value, (*_MODEL_KEYS, *_EMA_KEYS))
            value = next(iter(inner.values()), value)
        if tensors_in(value):
            found[key] = value
    return found


def _of_a_pspnet(content: Mapping[Any, Any], depth: int = 0) -> dict[str, Mapping[Any, Any]]:
    """The only state dict with a pyramid pooling module, whatever its name."""
    found: dict[str, Mapping[Any, Any]] = {}
    for key, value in content.items():
        if not isinstance(value, Mapping):
            continue
        if any(marker in str(name) for name in value for marker in _MARKERS) and tensors_in(value):
            found[str(key)] = value
        elif depth < 2:
            found |= {str(key): inner for inner in _of_a_pspnet(value, depth + 1).values()}
    return found if len(found) == 1 else {}


def _is_unnamed(value: object) -> bool:
    """Whether averages are a list, as torch-ema stores them."""
    shadows = value.get("shadow_params") if isinstance(value, Mapping) else None
    return isinstance(shadows, (list, tuple)) and bool(shadows)


def _unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys without the segments that wrappers of inner modules put into them."""
    kept = {key: value for key, value in tensors.items() if not _MEASURED.search(key)}
    found = {".".join(part for part in key.split(".") if part not in _WRAPPERS): value for key, value in kept.items()}
    return found if len(found) == len(kept) else dict(tensors)


def _multiplied_out(tensors: dict[str, Tensor], remarks: list[str]) -> dict[str, Tensor]:
    """Weights that PyTorch keeps as two factors: those of pruning and of weight normalization."""
    made: dict[str, Tensor] = {}
    taken: set[str] = set()
    for key, value in tensors.items():
        first = next((first for first in _FACTORS if key.endswith(first)), None)
        factor = tensors.get(key.removesuffix(first) + _FACTORS[first]) if first else None
        if first is None or factor is None:
            continue
        product = _masked(value, factor) if first == _PRUNED else _scaled(value, factor)
        if product is not None:
            prefix = key.removesuffix(first)
            made[prefix.removesuffix("parametrizations.") + "weight"] = product
            taken |= {key, prefix + _FACTORS[first]}
    if not made:
        return tensors
    remarks.append(f"{len(made)} weights are multiplied out of the two tensors that pruning or weight norm keeps")
    return {key: value for key, value in tensors.items() if key not in taken} | made


def _masked(weight: Tensor, mask: Tensor) -> Tensor | None:
    return weight * mask if weight.shape == mask.shape else None


def _scaled(length: Tensor, direction: Tensor) -> Tensor | None:
    """Weight normalization: directions of the lengths given; None where the lengths' shape does not fit them."""
    fits = all(own in (1, theirs) for own, theirs in zip(length.shape, direction.shape))
    if length.ndim != direction.ndim or not fits:
        return None
    axes = [axis for axis in range(direction.ndim) if length.shape[axis] == 1]
    return length * direction / direction.square().sum(axes, keepdim=True).sqrt()


def tensors_in(state: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Tensors and arrays as float32 or integers; Paddle also writes (name, array).

    Raises:
        ModelError: they claim more weights than a network has.
    """
    found = {
        str(key): tensor
        for key, value in state.items()
        if not str(key).endswith(_COUNTS) and (tensor := _tensor(value)) is not None
    }
    # A file of a kilobyte can hold a tensor of any shape, as one number with strides of 0.
    if (weights := sum(tensor.numel() for tensor in found.values())) > MOST_WEIGHTS:
        raise ModelError(f"its tensors have {weights:.2g} elements, more than any PSPNet: give the trained network")
    return {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in found.items()}


def _tensor(value: object) -> Tensor | None:
    if isinstance(value, tuple) and len(value) == 2:
        value = value[1]
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        value = torch.from_numpy(np.array(value))
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
        return None
    return value.detach()


def _within(
    path: Path, tensors: dict[str, Tensor], beside: dict[str, str], remarks: list[str], weights: WeightsChoice | None
) -> Taken:
    """The tensors under the prefix of the network, and what else the state dict holds."""
    prefixes = _prefixes(tensors)
    averages = [prefix for prefix in prefixes if _EMA_PREFIX.search(prefix.rstrip("."))]
    models = [prefix for prefix in prefixes if prefix not in averages]
    if weights == "ema" and not averages and not _underscored(tensors) and "n_averaged" not in tensors:
        raise OptionError(f"{path} holds no averaged weights: leave out --weights ema")
    if averages and models:
        chosen = averages[0] if weights == "ema" else models[0]
        other = "model" if weights == "ema" else "ema"
        remarks.append(f"the weights under {chosen!r}; --weights {other} takes the others")
    else:
        chosen = (models or averages or [_common_prefix(tensors)])[0]
        if averages and not models:
            remarks.append(f"the averaged weights under {chosen!r}, as there are no others")
    if "n_averaged" in tensors:
        remarks.append(f"the weights of an averaged model (mean of {int(tensors['n_averaged'])})")
    inside = {key[len(chosen) :]: value for key, value in tensors.items() if key.startswith(chosen)}
    buffers: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if key.startswith(chosen) and not _HARMLESS.match(key[len(chosen) :]):
            continue
        inside.pop(key[len(chosen) :], None) if key.startswith(chosen) else None
        beside[key] = "not part of the network"
        if value.numel() <= _SMALL:
            buffers[key.rpartition(".")[2]] = value
    inside = _averaged_buffers(inside, beside, remarks, weights)
    return Taken(inside, beside, tuple(remarks), buffers)


def _prefixes(tensors: Mapping[str, Tensor]) -> list[str]:
    """What comes before the markers of pyramid pooling modules, in the order of the file."""
    found: dict[str, None] = {}
    for key in tensors:
        for marker in _MARKERS:
            place = key.find(marker)
            if place == 0 or (place > 0 and key[place - 1] == "."):
                found[key[:place]] = None
                break
    return list(found)


def _common_prefix(tensors: Mapping[str, Tensor]) -> str:
    prefix = ""
    while True:
        heads = {key[len(prefix) :].partition(".")[0] for key in tensors}
        head = next(iter(heads))
        if len(heads) > 1 or head not in ("module", "model", "net", "_orig_mod", "network"):
            return prefix
        prefix += f"{head}."


def _underscored(tensors: Mapping[str, Tensor]) -> bool:
    """Whether there are buffers of mmcv's averaging, named like ``ema_backbone_conv1_weight``."""
    return any(key.startswith("ema_") for key in tensors)


def _averaged_buffers(
    inside: dict[str, Tensor], beside: dict[str, str], remarks: list[str], weights: WeightsChoice | None
) -> dict[str, Tensor]:
    names = {f"ema_{key.replace('.', '_')}": key for key in inside}
    averages = {names[key]: inside[key] for key in inside if key in names}
    if not averages:
        return inside
    rest = {key: value for key, value in inside.items() if key not in names}
    beside |= {f"ema_{key.replace('.', '_')}": "another copy of the weights" for key in averages}
    if weights == "ema":
        remarks.append("the averaged weights of mmcv; --weights model takes the others")
        return rest | averages
    remarks.append("the weights as they are; --weights ema takes mmcv's averaged ones")
    return rest

"""What a format says about itself, and the network that its tensors describe."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...errors import ModelError
from ..pspnet import PSPNet
from ..resnet import DEPTHS
from .weights import ForeignWeights

USUAL_BINS = (1, 2, 3, 6)

_PRESETS = {
    "resnet18": "pspnet_r18",
    "resnet34": "pspnet_r34",
    "resnet50": "pspnet_r50",
    "resnet101": "pspnet_r101",
}
_STATISTICS = {"running_mean": "_mean", "running_var": "_variance"}


@dataclass(frozen=True)
class Layout:
    """Where a format keeps what, and what its weights cannot say."""

    names: tuple[tuple[str, str], ...]
    """(pattern of our modules, their name in the other project); the first that fits counts."""
    fixed: Mapping[str, Any]
    """Fields of ``pspnet.Preset`` that the format decides: ``align_corners``, dilation and the like."""
    assumed: tuple[str, ...]
    """What was taken as the format's default because weights do not show it, a phrase each."""
    left_out: tuple[tuple[str, str], ...] = ()
    """(prefix of keys, why they are not used)."""
    bins: tuple[int, ...] | None = None
    """The bins, where the file states them."""
    bins_reversed: bool = False
    """The fusion reads the bins from the last to the first."""
    features_last: bool = False
    """The fusion reads the features after the bins rather than before them."""
    paddle_statistics: bool = False
    """BatchNorm statistics are called ``_mean`` and ``_variance``."""
    class_names: tuple[str, ...] | None = None
    """In the order of the logits, where the file states them."""
    orders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By name of a label set: its classes in the order that the project trains them in, where that is another."""

    def theirs(self, module: str) -> str:
        """What the other project calls one of our modules; unchanged where it has the same name."""
        for pattern, name in self.names:
            if re.fullmatch(pattern, module):
                return re.sub(pattern, name, module)
        return module


def build(weights: ForeignWeights, layout: Layout, bins: Sequence[int] | None) -> PSPNet:
    """The network that the tensors describe, holding them.

    Args:
        weights: the foreign checkpoint.
        layout: of its format.
        bins: of the pyramid in the order of its branches, where they are not the usual ones.

    Raises:
        ModelError: a missing, misshapen or unknown tensor, or bins that are not known.
    """
    variant, changes = _backbone(weights, layout)
    changes |= _heads(weights, layout, bins)
    changes |= layout.fixed
    classes = changes.pop("classes")
    model = PSPNet(_PRESETS[variant], classes, changes)
    _fill(model, weights, layout)
    for prefix, reason in layout.left_out:
        weights.leave_out(prefix, reason)
    weights.finish()
    return model.eval()


def _backbone(weights: ForeignWeights, layout: Layout) -> tuple[str, dict[str, Any]]:
    """The variant of the ResNet, and its stem and first shortcut."""

    def has(module: str) -> bool:
        return layout.theirs(module) + ".weight" in weights

    stem = weights.shape(layout.theirs("backbone.stem.0") + ".weight")
    widths: tuple[int, ...] = ()
    if stem[-1] == 3:
        widths = tuple(weights.shape(layout.theirs(f"backbone.stem.{place}") + ".weight")[0] for place in (0, 3, 6))
    counts = []
    for stage in range(1, 5):
        count = 0
        while has(f"backbone.layer{stage}.{count}.conv1"):
            count += 1
        counts.append(count)
    stages = layout.fixed.get("stages", 4)
    bottleneck = has("backbone.layer1.0.conv3")
    variant = next((name for name, depth in DEPTHS.items() if _fits(depth, bottleneck, counts, stages)), None)
    if variant is None:
        raise ModelError(
            f"{weights.path} has a backbone of {counts} {'bottleneck' if bottleneck else 'basic'} blocks, which is "
            f"none of {', '.join(DEPTHS)}: only those can be imported"
        )
    project_first = not bottleneck and has("backbone.layer1.0.downsample.0")
    return variant, {"stem_widths": widths, "project_first": project_first}


def _fits(depth: tuple[bool, tuple[int, ...]], bottleneck: bool, counts: Sequence[int], stages: int) -> bool:
    """Whether a variant has these blocks; a stage that is not read may be missing."""
    has_bottlenecks, usual = depth
    return has_bottlenecks == bottleneck and all(
        count == expected or (count == 0 and stage >= stages)
        for stage, (count, expected) in enumerate(zip(counts, usual))
    )


def _heads(weights: ForeignWeights, layout: Layout, bins: Sequence[int] | None) -> dict[str, Any]:
    """Widths, kernels, bins and classes."""
    count = 0
    while layout.theirs(f"pyramid.stages.{count}.0") + ".weight" in weights:
        count += 1
    pyramid_width = weights.shape(layout.theirs("pyramid.stages.0.0") + ".weight")[0]
    fuse = weights.shape(layout.theirs("fuse.0") + ".weight")
    classifier = weights.shape(layout.theirs("classifier") + ".weight")
    aux = layout.theirs("aux_head.0.0") + ".weight"
    return {
        "bins": _bins(weights, layout, bins, count),
        "pyramid_width": pyramid_width,
        "fuse_width": fuse[0],
        "fuse_kernel": fuse[-1],
        "classifier_kernel": classifier[-1],
        "aux_width": weights.shape(aux)[0] if aux in weights else 0,
        "classes": classifier[0],
    }


def _bins(weights: ForeignWeights, layout: Layout, wanted: Sequence[int] | None, count: int) -> tuple[int, ...]:
    bins = tuple(wanted) if wanted else layout.bins or USUAL_BINS
    if len(bins) != count:
        raise ModelError(
            f"{weights.path} has a pyramid of {count} bins and {','.join(map(str, bins))} are {len(bins)}: "
            "weights do not show their sizes, so give them in the order of the branches, e.g. --bins 1,2,4,8"
        )
    return bins


def _fill(model: PSPNet, weights: ForeignWeights, layout: Layout) -> None:
    """Take over every tensor; a bias before a BatchNorm moves into it."""
    state = model.state_dict()
    for key, own in state.items():
        module, kind = key.rsplit(".", 1)
        theirs = f"{layout.theirs(module)}.{_kind(kind, layout)}"
        if kind == "num_batches_tracked" and theirs not in weights:
            continue  # not in Paddle's files and the oldest of PyTorch's; it changes no result
        if _lacks_norm(module, weights, layout):
            own.copy_(_identity_norm(kind, own))
        else:
            own.copy_(weights.take(theirs, tuple(own.shape)))
    for key in [key for key in state if key.endswith(".0.weight")]:
        module = key.removesuffix(".weight")
        bias = f"{layout.theirs(module)}.bias"
        mean = f"{module.removesuffix('0')}1.running_mean"
        if f"{module}.bias" not in state and mean in state and bias in weights:
            state[mean] -= weights.take(bias, tuple(state[mean].shape))
    state["fuse.0.weight"].copy_(_usual_order(state["fuse.0.weight"], model, layout))
    model.load_state_dict(state)


def _kind(kind: str, layout: Layout) -> str:
    return _STATISTICS.get(kind, kind) if layout.paddle_statistics else kind


def _lacks_norm(module: str, weights: ForeignWeights, layout: Layout) -> bool:
    """Whether this is the BatchNorm of a branch that has a bias in its place (bins of 1 in smp)."""
    if not module.startswith("pyramid.stages.") or not module.endswith(".1"):
        return False
    return (
        layout.theirs(module) + ".weight" not in weights
        and layout.theirs(module.removesuffix("1") + "0") + ".bias" in weights
    )


def _identity_norm(kind: str, own: Tensor) -> Tensor:
    """A BatchNorm that changes nothing: variance 1, and a weight that undoes the epsilon (1e-5 everywhere)."""
    values = {"weight": math.sqrt(1 + 1e-5), "running_var": 1.0}
    return torch.full_like(own, values.get(kind, 0))


def _usual_order(fuse: Tensor, model: PSPNet, layout: Layout) -> Tensor:
    """The fusion's input channels in our order: the features, then the bins as their branches stand."""
    width, count = model.shape.pyramid_width, len(model.shape.bins)
    features = fuse.shape[1] - width * count
    if layout.features_last:
        *branches, own = torch.split(fuse, [width] * count + [features], dim=1)
    else:
        own, *branches = torch.split(fuse, [features] + [width] * count, dim=1)
    if layout.bins_reversed:
        branches.reverse()
    return torch.cat([own, *branches], dim=1)

"""What a format says about itself, and the network that its tensors describe."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ...errors import ModelError
from ..imagenet import MEAN, STD
from ..pspnet import CHANNELS, IMPORTED, PSPNet, network_from_file
from ..resnet import DEPTHS
from .planner import GraphPlan
from .weights import ForeignWeights

USUAL_BINS = (1, 2, 3, 6)

_PRESETS = {
    "resnet18": "pspnet_r18",
    "resnet34": "pspnet_r34",
    "resnet50": "pspnet_r50",
    "resnet101": "pspnet_r101",
}
_STATISTICS = {"running_mean": "_mean", "running_var": "_variance"}
_EPS = 1e-5
"""Of every BatchNorm in our networks but those of a graph, which carry their own."""

Colour = Literal["rgb", "bgr"]


@dataclass(frozen=True)
class Preprocessing:
    """What a network expects its input to be: ``(pixel - mean) / std`` with pixels of 0–255."""

    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    colour: Colour = "rgb"
    """The order of its channels, and of ``mean`` and ``std``."""
    source: str = "ImageNet's, the default of the format"
    """Where that is known from."""


@dataclass(frozen=True)
class Layout:
    """Where a format keeps what, and what its weights cannot say."""

    names: tuple[tuple[str, str], ...]
    """(pattern of our modules, their name in the other project); the first that fits counts."""
    fixed: Mapping[str, Any]
    """Fields of ``pspnet.Preset`` that the format decides: ``align_corners``, dilation and the like."""
    assumed: tuple[str, ...] = ()
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
    preprocessing: Preprocessing = Preprocessing()
    threshold: float = 0.5
    """Of the probability, for a network of one logit."""
    graph: GraphPlan | None = None
    """The backbone as nodes, where it is not one of ours."""
    neck: GraphPlan | None = None
    """What the project computes between fusion and classifier, as nodes."""
    norm_eps: tuple[float, float] = (_EPS, _EPS)
    """Epsilon of BatchNorm in the backbone and in the heads."""
    settings: str = ""
    """The configuration that was read; empty where there was none."""
    encoder: str = ""
    """What the project calls the backbone, where that is known."""

    def theirs(self, module: str) -> str:
        """What the other project calls one of our modules; unchanged where it has the same name."""
        for plan, place in ((self.graph, "backbone.nodes."), (self.neck, "neck.nodes.")):
            if plan is not None and module.startswith(place):
                return plan.names[int(module.removeprefix(place))]
        for pattern, name in self.names:
            if re.fullmatch(pattern, module):
                return re.sub(pattern, name, module)
        return module


def build(
    weights: ForeignWeights, layout: Layout, bins: Sequence[int] | None, threshold: float | None = None
) -> tuple[PSPNet, bool]:
    """The network that the tensors describe, holding them.

    Args:
        weights: the foreign checkpoint.
        layout: of its format.
        bins: of the pyramid in the order of its branches, where they are not the usual ones.
        threshold: of the probability, for a network of one logit; None for the format's own.

    Returns:
        The network, and whether the other one has a single logit. Ours then has two: the first is constant at
        ``logit(threshold)``, so that the larger of the two is the object exactly where its probability exceeds it.

    Raises:
        ModelError: a missing, misshapen or unknown tensor, or bins that are not known.
    """
    if layout.graph is None:
        variant, changes = _backbone(weights, layout)
    else:
        nodes = [dict(node) for node in layout.graph.nodes]
        variant, changes = "graph", {"nodes": nodes, "features": layout.graph.outputs, "output_stride": 0}
        changes |= {"in_channels": nodes[0]["channels"]}
    if changes["in_channels"] not in CHANNELS:
        raise ModelError(
            f"{weights.path} takes frames of {changes['in_channels']} channels: networks of 1, 3 and 4 can be imported"
        )
    changes |= _heads(weights, layout, bins)
    changes |= layout.fixed
    if layout.neck is not None:
        changes["neck"] = [dict(node) for node in layout.neck.nodes]
    classes = changes.pop("classes")
    single = classes == 1
    preset = _PRESETS.get(variant, IMPORTED)
    if preset == IMPORTED:
        changes["backbone"] = variant
    with torch.random.fork_rng(devices=[]):
        try:
            model = network_from_file(preset, 2 if single else classes, changes | ({"binary": True} if single else {}))
        except ModelError as error:
            raise ModelError(f"{weights.path}: {error.problem}", "give the trained network") from error
    _leave_out_odd_aux(weights, layout, model)
    _fill(model, weights, layout, single)
    if single:
        model.set_threshold(layout.threshold if threshold is None else threshold)
    for prefix, reason in layout.left_out:
        weights.leave_out(prefix, reason)
    weights.finish()
    return model.eval(), single


def _backbone(weights: ForeignWeights, layout: Layout) -> tuple[str, dict[str, Any]]:
    """The variant of the ResNet, and its stem, its groups and first shortcut."""

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
    groups, group_width = 1, 64
    if bottleneck:
        outputs, inputs, *_ = weights.shape(layout.theirs("backbone.layer1.0.conv2") + ".weight")
        groups = max(outputs // max(inputs, 1), 1)
        group_width = outputs // groups
    project_first = not bottleneck and has("backbone.layer1.0.downsample.0")
    return variant, {
        "stem_widths": widths,
        "project_first": project_first,
        "in_channels": stem[1],
        "groups": groups,
        "group_width": group_width,
    }


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


def _leave_out_odd_aux(weights: ForeignWeights, layout: Layout, model: PSPNet) -> None:
    """An aux head that reads other features than ours is of use to training alone."""
    if model.aux_head is None:
        return
    theirs = layout.theirs("aux_head.0.0") + ".weight"
    own = model.state_dict()["aux_head.0.0.weight"]
    if weights.shape(theirs) != tuple(own.shape) or layout.theirs("aux_head.2") + ".weight" not in weights:
        root = theirs.partition(".")[0]
        if any(theirs.startswith(prefix) for prefix, _ in layout.left_out):
            weights.leave_out(f"{root}.", "only training reads it")
            model.remove_aux_head()


def _fill(model: PSPNet, weights: ForeignWeights, layout: Layout, single: bool) -> None:
    """Take over every tensor; a bias before a BatchNorm moves into it."""
    state = model.state_dict()
    for key, own in state.items():
        module, kind = key.rsplit(".", 1)
        theirs = f"{layout.theirs(module)}.{_kind(kind, layout)}"
        if kind == "num_batches_tracked" and theirs not in weights:
            continue  # not in Paddle's files and the oldest of PyTorch's; it changes no result
        if single and module in ("classifier", "aux_head.2"):
            own.zero_()
            own[1:].copy_(weights.take(theirs, (1, *own.shape[1:])))
        elif _lacks_norm(module, weights, layout):
            own.copy_(_identity_norm(kind, own))
        elif isinstance(model.get_submodule(module), torch.nn.PReLU):
            slopes = weights.take_any(theirs, ((1,), tuple(own.shape)))
            own.copy_(slopes.expand_as(own))
        else:
            own.copy_(weights.take(theirs, tuple(own.shape)))
            if kind == "running_var" and not module.startswith(("backbone.nodes.", "neck.nodes.")):
                own.add_(layout.norm_eps[0 if module.startswith("backbone.") else 1] - _EPS)
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
    """Whether this is the BatchNorm of a head's convolution that has none there, only a bias or not even that."""
    if not re.fullmatch(r"(pyramid\.stages\.\d+|fuse)\.1", module):
        return False
    theirs, bias = layout.theirs(module), layout.theirs(module.removesuffix("1") + "0") + ".bias"
    if any(f"{theirs}.{kind}" in weights for kind in ("weight", "running_mean", "_mean")):
        return False
    return bias in weights or not layout.fixed.get("pyramid_relu", True)


def _identity_norm(kind: str, own: Tensor) -> Tensor:
    """A BatchNorm that changes nothing: variance 1, and a weight that undoes the epsilon."""
    values = {"weight": math.sqrt(1 + _EPS), "running_var": 1.0}
    return torch.full_like(own, values.get(kind, 0))


def _usual_order(fuse: Tensor, model: PSPNet, layout: Layout) -> Tensor:
    """The fusion's input channels in our order: the features, then the bins in the order of their branches."""
    width, count = model.shape.pyramid_width, len(model.shape.bins)
    features = fuse.shape[1] - width * count
    if layout.features_last:
        *branches, own = torch.split(fuse, [width] * count + [features], dim=1)
    else:
        own, *branches = torch.split(fuse, [features] + [width] * count, dim=1)
    if layout.bins_reversed:
        branches.reverse()
    return torch.cat([own, *branches], dim=1)

"""MobileNetV2 as several projects name and dilate it.

Source: M. Sandler et al., MobileNetV2, CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .planner import GraphPlan, Planner
from .weights import ForeignWeights

# Of mmsegmentation's seven stages: how many blocks.
_BLOCKS = (1, 2, 3, 4, 3, 3, 1)


def of_mmseg(weights: ForeignWeights, strides: Sequence[int], dilations: Sequence[int], aux_index: int) -> GraphPlan:
    """mmsegmentation's, whose first block of a stage alone has the stage's dilation.

    Args:
        weights: keys ``backbone.conv1.conv``, ``backbone.layer1.0.conv.0.conv``.
        strides: of the seven stages.
        dilations: of the seven stages.
        aux_index: which of the stages 1, 2, 4 and 6 the aux head reads.
    """
    planner = Planner(weights, weights.shape("backbone.conv1.conv.weight")[1])

    def layer(of: int, name: str, stride: int = 1, dilation: int = 1, activation: bool = True) -> int:
        place = planner.norm(planner.convolution(of, f"{name}.conv", stride, dilation), f"{name}.bn")
        return planner.add("relu6", [place]) if activation else place

    x = layer(0, "backbone.conv1", 2)
    stages = []
    for stage, count in enumerate(_BLOCKS):
        for index in range(count):
            key = f"backbone.layer{stage + 1}.{index}.conv"
            stride, dilation = (strides[stage], dilations[stage]) if index == 0 else (1, 1)
            names = [f"{key}.{place}" for place in range(3) if f"{key}.{place}.conv.weight" in weights]
            x = _block(planner, x, names, stride, dilation, layer)
        stages.append(x)
    features = [stages[index] for index in (1, 2, 4, 6)]
    if aux_index in (0, 1, 2, -2, -3, -4):
        features[2] = features[aux_index]
    return planner.plan(features)


def with_halved_dilation(weights: ForeignWeights, prefix: str, stride: int, aux: int) -> GraphPlan:
    """The form of CSAIL's code and its relatives: torchvision's keys, a stage that lost its stride dilates by half.

    Args:
        weights: keys ``<prefix>0.0`` for the stem, ``<prefix>1.conv.0`` for the first block.
        prefix: before the number of the block.
        stride: 8, 16 or 32.
        aux: the block that the aux head reads.
    """
    planner = Planner(weights, weights.shape(f"{prefix}0.0.weight")[1])
    x = planner.norm(planner.convolution(0, f"{prefix}0.0", 2), f"{prefix}0.1")
    x = planner.add("relu6", [x])
    features = []
    for index in range(1, 18):
        usual = 2 if index in (2, 4, 7, 14) else 1
        spread = {8: 4 if index >= 14 else 2 if index >= 7 else 1, 16: 2 if index >= 14 else 1, 32: 1}[stride]
        step = 1 if spread > 1 else usual
        dilation = max(spread // 2, 1) if usual == 2 else spread
        key = f"{prefix}{index}.conv"
        places = (0, 3, 6) if f"{key}.6.weight" in weights else (0, 3)
        x = _sequence(planner, x, key, places, step, dilation)
        if index in (3, 6, aux):
            features.append(x)
    return planner.plan([*features[:3], x])


def _sequence(planner: Planner, x: int, key: str, places: Sequence[int], stride: int, dilation: int) -> int:
    """A block that is a plain sequence: each convolution is followed by its BatchNorm, all but the last by a ReLU6."""

    def layer(of: int, name: str, stride: int = 1, dilation: int = 1, activation: bool = True) -> int:
        head, _, number = name.rpartition(".")
        place = planner.norm(planner.convolution(of, name, stride, dilation), f"{head}.{int(number) + 1}")
        return planner.add("relu6", [place]) if activation else place

    return _block(planner, x, [f"{key}.{place}" for place in places], stride, dilation, layer)


def _block(
    planner: Planner, x: int, names: Sequence[str], stride: int, dilation: int, layer: Callable[..., int]
) -> int:
    """An inverted residual: widen (where there are three), a depthwise convolution, narrow without activation."""
    y = x
    for name in names[:-2]:
        y = layer(y, name)
    y = layer(y, names[-2], stride, dilation)
    y = layer(y, names[-1], activation=False)
    if stride == 1 and planner.channels(x) == planner.channels(y):
        return planner.add("add", [x, y])
    return y

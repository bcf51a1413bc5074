"""PaddleSeg, with its ResNet_vd as backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .layout import Layout
from .weights import ForeignWeights

MARKER = "head.psp_module.stages."

_NAMES = (
    *(
        (rf"backbone\.stem\.{place + kind}", rf"backbone.conv1_{number}.{name}")
        for number, place in ((1, 0), (2, 3), (3, 6))
        for kind, name in ((0, "_conv"), (1, "_batch_norm"))
    ),
    # Stages and convolutions count from 0 there and from 1 here.
    *(
        (rf"backbone\.layer{stage}\.(\d+)\.{ours}{number}", rf"backbone.bb_{stage - 1}_\1.conv{number - 1}.{name}")
        for stage in (1, 2, 3, 4)
        for number in (1, 2, 3)
        for ours, name in (("conv", "_conv"), ("bn", "_batch_norm"))
    ),
    *(
        (rf"backbone\.layer{stage}\.(\d+)\.downsample\.{place}", rf"backbone.bb_{stage - 1}_\1.short.{name}")
        for stage in (1, 2, 3, 4)
        for place, name in ((0, "_conv"), (1, "_batch_norm"))
    ),
    (r"pyramid\.stages\.(\d+)\.0", r"head.psp_module.stages.\1.1._conv"),
    (r"pyramid\.stages\.(\d+)\.1", r"head.psp_module.stages.\1.1._batch_norm"),
    (r"fuse\.0", r"head.psp_module.conv_bn_relu2._conv"),
    (r"fuse\.1", r"head.psp_module.conv_bn_relu2._batch_norm"),
    (r"classifier", r"head.conv"),
    (r"aux_head\.0\.0", r"head.auxlayer.conv_bn_relu._conv"),
    (r"aux_head\.0\.1", r"head.auxlayer.conv_bn_relu._batch_norm"),
    (r"aux_head\.2", r"head.auxlayer.conv"),
)


def layout(weights: ForeignWeights, meta: Mapping[str, Any]) -> Layout:
    """Every block of the last two stages dilates, shortcuts of stride 2 average, and the input is scaled to ±1."""
    return Layout(
        _NAMES,
        {"average_shortcut": True, "align_corners": False, "mean": (127.5, 127.5, 127.5), "std": (127.5, 127.5, 127.5)},
        assumed=("output stride 8 with dilation in every block", "align_corners=False", "mean and std of 0.5"),
        bins_reversed=True,
        paddle_statistics=True,
    )

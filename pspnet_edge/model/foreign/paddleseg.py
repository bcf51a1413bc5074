"""PaddleSeg, with its ResNet_vd as backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ModelError
from .layout import Layout, Preprocessing
from .settings import Settings, numbers, whole_number, whole_numbers
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


_USUAL = (127.5, 127.5, 127.5)


def layout(weights: ForeignWeights, meta: Mapping[str, Any], settings: Settings) -> Layout:
    """Every block of a dilated stage dilates, shortcuts of stride 2 average, and the input is scaled to ±1.

    Output stride, align_corners, bins and normalization are read from the YAML where there is one.
    """
    if "backbone.conv1_1._conv.weight" not in weights:
        raise ModelError(
            f"the backbone in {weights.path} is not a ResNet_vd: of PaddleSeg only ResNet18_vd to ResNet152_vd can be "
            "imported; export the others to ONNX there and use `pspnet-edge adapt`"
        )
    assumed = []
    stride = whole_number(settings.get("model", "backbone", "output_stride"), "output_stride")
    align_corners = settings.get("model", "align_corners")
    if not settings:
        assumed += ["output stride 8 with dilation in every block", "align_corners=False"]
    bins = whole_numbers(settings.get("model", "bin_sizes"), "bin_sizes")
    fixed: dict[str, Any] = {"average_shortcut": True, "align_corners": bool(align_corners)}
    if stride not in (None, 8):
        fixed["output_stride"] = stride
    return Layout(
        _NAMES,
        fixed,
        assumed=tuple(assumed),
        left_out=(("head.auxlayer.", "only training reads it"),),
        bins=bins,
        bins_reversed=True,
        paddle_statistics=True,
        preprocessing=_preprocessing(settings),
        settings=settings.source,
    )


def _preprocessing(settings: Settings) -> Preprocessing:
    """PaddleSeg reads BGR, turns it to RGB unless told otherwise, and normalizes pixels of 0–1."""
    for part in ("val_dataset", "test_dataset", "train_dataset"):
        steps = settings.get(part, "transforms")
        for step in steps if isinstance(steps, list) else []:
            if isinstance(step, Mapping) and step.get("type") == "Normalize":
                mean, std = (numbers(step.get(field), field) or (0.5,) * 3 for field in ("mean", "std"))
                return Preprocessing(
                    tuple(round(value * 255, 6) for value in mean),
                    tuple(round(value * 255, 6) for value in std),
                    "rgb",
                    settings.source,
                )
    return Preprocessing(_USUAL, _USUAL, "rgb", "mean and std of 0.5, the default of the format")

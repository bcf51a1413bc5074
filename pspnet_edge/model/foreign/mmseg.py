"""mmsegmentation, versions 0 and 1."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...errors import ModelError
from ..imagenet import MEAN, STD
from .layout import Layout
from .weights import ForeignWeights

MARKER = "decode_head.psp_modules."

_NAMES = (
    (r"pyramid\.stages\.(\d+)\.0", r"decode_head.psp_modules.\1.1.conv"),
    (r"pyramid\.stages\.(\d+)\.1", r"decode_head.psp_modules.\1.1.bn"),
    (r"fuse\.0", r"decode_head.bottleneck.conv"),
    (r"fuse\.1", r"decode_head.bottleneck.bn"),
    (r"classifier", r"decode_head.conv_seg"),
    (r"aux_head\.0\.0", r"auxiliary_head.convs.0.conv"),
    (r"aux_head\.0\.1", r"auxiliary_head.convs.0.bn"),
    (r"aux_head\.2", r"auxiliary_head.conv_seg"),
)
_SHALLOW_STEM = ((r"backbone\.stem\.0", r"backbone.conv1"), (r"backbone\.stem\.1", r"backbone.bn1"))
# In front of the convolution of such a shortcut stands an average pooling, which has a place but no weights.
_AVERAGE_SHORTCUT = (
    (r"(backbone\..+)\.downsample\.0", r"\1.downsample.1"),
    (r"(backbone\..+)\.downsample\.1", r"\1.downsample.2"),
)


def layout(weights: ForeignWeights, meta: Mapping[str, Any]) -> Layout:
    """A dilated stage begins with half its dilation, and the second convolution of a basic block does not dilate.

    What weights do not show is read from the configuration's text, which most files carry.
    """
    shallow = "backbone.conv1.weight" in weights
    average = "backbone.layer2.0.downsample.2.weight" in weights
    names = (*(_SHALLOW_STEM if shallow else ()), *(_AVERAGE_SHORTCUT if average else ()), *_NAMES)
    text = str(meta.get("cfg") or meta.get("config") or "")
    fixed: dict[str, Any] = {
        "contract_dilation": not text or "contract_dilation=True" in text,
        "dilate_second": False,
        "average_shortcut": average,
        "align_corners": "align_corners=True" in text,
    }
    if re.search(r"style='caffe'|to_rgb=False", text):
        raise ModelError(
            f"{weights.path} was trained in Caffe's style (BGR, or the stride in another convolution), "
            "which cannot be imported: use a checkpoint of the pytorch style"
        )
    for field, usual in (("mean", MEAN), ("std", STD)):
        values = _numbers(rf"\b{field}=\[([\d.,\s]+)\]", text)
        if values and values != usual:
            fixed[field] = values
    bins = tuple(int(value) for value in _numbers(r"pool_scales=\(([\d,\s]+)\)", text))
    assumed: tuple[str, ...] = ("output stride 8",)
    if not text:
        assumed += ("contract_dilation=True", "align_corners=False", "ImageNet normalisation")
    dataset = meta.get("dataset_meta")
    classes = dataset.get("classes") if isinstance(dataset, Mapping) else meta.get("CLASSES")
    return Layout(
        names,
        fixed,
        assumed=assumed,
        bins=bins or None,
        class_names=tuple(map(str, classes)) if classes else None,
    )


def _numbers(pattern: str, text: str) -> tuple[float, ...]:
    found = re.search(pattern, text)
    return tuple(float(value) for value in re.findall(r"[\d.]+", found[1])) if found else ()

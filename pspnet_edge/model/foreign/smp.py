"""segmentation-models-pytorch, with a ResNet of torchvision's layout as encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ModelError
from .layout import Layout
from .weights import ForeignWeights

MARKER = "decoder.psp.blocks."

_NAMES = (
    (r"backbone\.stem\.0", r"encoder.conv1"),
    (r"backbone\.stem\.1", r"encoder.bn1"),
    (r"backbone\.(.+)", r"encoder.\1"),
    (r"pyramid\.stages\.(\d+)\.(\d)", r"decoder.psp.blocks.\1.pool.1.\2"),
    (r"fuse\.(\d)", r"decoder.conv.\1"),
    (r"classifier", r"segmentation_head.0"),
)


def layout(weights: ForeignWeights, meta: Mapping[str, Any]) -> Layout:
    """No dilation; the decoder reads one stage, by default the second, and the later ones stand unused in the file."""
    if "encoder.layer1.0.conv2.weight" not in weights:
        raise ModelError(
            f"the encoder in {weights.path} is no ResNet: only resnet18, resnet34, resnet50 and resnet101 of "
            "segmentation-models-pytorch can be imported"
        )
    read = weights.shape("decoder.psp.blocks.0.pool.1.0.weight")[1]
    first = weights.shape("encoder.conv1.weight")[0] * (4 if "encoder.layer1.0.conv3.weight" in weights else 1)
    stages = (read // first).bit_length()
    return Layout(
        _NAMES,
        {"stages": stages, "output_stride": 2 << stages, "align_corners": True},
        assumed=("align_corners=True", "ImageNet normalisation"),
        left_out=(
            *(
                (f"encoder.layer{stage}.", f"the decoder reads layer{stages} and nothing after it")
                for stage in range(stages + 1, 5)
            ),
            ("encoder.fc.", "it classifies whole images"),
            ("classification_head.", "it classifies whole images"),
        ),
        features_last=True,
    )

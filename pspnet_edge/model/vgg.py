"""VGG-16 with BatchNorm and a dilated last stage.

Source: K. Simonyan and A. Zisserman, Very Deep Convolutional Networks, ICLR 2015.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from .imagenet import MEAN, STD, load_in_order, timm_weights


class Vgg16(nn.Module):
    """VGG-16 features at stride 4 and twice at stride 8.

    The poolings after the third stage are left out, and the fifth stage dilates in place of the one before it.
    """

    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    timm_name = "vgg16_bn"

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            _stage(*sizes)
            for sizes in (
                (in_channels, 64, 2, 1),
                (64, 128, 2, 1),
                (128, 256, 3, 1),
                (256, 512, 3, 1),
                (512, 512, 3, 2),
            )
        )
        self.channels = [256, 512, 512]
        self.output_stride = 8

    def forward(self, x: Tensor) -> list[Tensor]:
        """``float [N, 3, H, W]`` → features of the third, fourth and fifth stage, shallow first."""
        features = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index >= 2:
                features.append(x)
            if index < 3:
                x = F.max_pool2d(x, 2, ceil_mode=True)
        return features

    def load_imagenet(self) -> None:
        """Load timm's ImageNet weights, downloaded at first use."""
        load_in_order(self, timm_weights(self.timm_name), f"timm's {self.timm_name}")


def _stage(inputs: int, width: int, count: int, dilation: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(count):
        layers += [
            nn.Conv2d(inputs, width, 3, padding=dilation, dilation=dilation),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        inputs = width
    return nn.Sequential(*layers)

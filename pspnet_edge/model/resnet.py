"""ResNet with dilated stages, in every form that PSPNet checkpoints come in.

timm's ResNet knows contracted dilation alone and builds other stems; torchvision's basic block refuses dilation. One
implementation, with torchvision's names, serves the presets and the checkpoints of other projects.

Sources: K. He et al., Deep Residual Learning, CVPR 2016; T. He et al., Bag of Tricks, CVPR 2019 (deep stem, average
shortcut); F. Yu et al., Dilated Residual Networks, CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import OptionError
from .imagenet import MEAN, STD, load_in_order, timm_weights

DEPTHS = {
    "resnet18": (False, (2, 2, 2, 2)),
    "resnet34": (False, (3, 4, 6, 3)),
    "resnet50": (True, (3, 4, 6, 3)),
    "resnet101": (True, (3, 4, 23, 3)),
    "resnet152": (True, (3, 8, 36, 3)),
}
"""Of each variant: whether its blocks are bottlenecks, and how many each stage has."""

_TIMM_SUFFIX: dict[tuple[tuple[int, ...], bool], str] = {
    ((), False): "",
    ((32, 32, 64), False): "c",
    ((64, 64, 128), False): "s",
    ((32, 32, 64), True): "d",
}
"""timm's letter for (stem widths, average shortcut)."""


class ResNet(nn.Module):
    """ResNet features after every stage.

    Args:
        variant: a name in ``DEPTHS``.
        output_stride: 8, 16 or 32; stages that would go beyond it keep their resolution and dilate.
        stages: how many of the four stages there are.
        stem_widths: of the three 3×3 convolutions of a deep stem; empty for the single 7×7 one.
        contract_dilation: the first 3×3 convolution of a dilated stage has half its dilation.
        dilate_second: in a basic block both convolutions dilate rather than the first alone.
        average_shortcut: a shortcut of stride 2 averages 2×2 pixels rather than skipping three of the four.
        project_first: the first block has a convolution in its shortcut even where the widths already agree.
        in_channels: of the input.
        strides: of the stages, where they do not follow from ``output_stride``; the first is 1.
        dilations: of the stages, given together with ``strides``.
        stride_first: in a bottleneck the first 1×1 convolution has the stride (Caffe's style) rather than the 3×3 one.
        groups: of the 3×3 convolution of a bottleneck (ResNeXt).
        group_width: channels per group at a stage width of 64; 64 for a plain ResNet.
        first_dilation: of the first block of every stage; 0 for what the options above say.
        width: channels of the first stage, before a bottleneck widens them; each later stage has twice as many.

    Raises:
        OptionError: values outside of these.
    """

    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD

    def __init__(
        self,
        variant: str,
        output_stride: int = 8,
        *,
        stages: int = 4,
        stem_widths: Sequence[int] = (),
        contract_dilation: bool = False,
        dilate_second: bool = True,
        average_shortcut: bool = False,
        project_first: bool = False,
        in_channels: int = 3,
        strides: Sequence[int] = (),
        dilations: Sequence[int] = (),
        stride_first: bool = False,
        groups: int = 1,
        group_width: int = 64,
        first_dilation: int = 0,
        width: int = 64,
    ) -> None:
        super().__init__()
        if variant not in DEPTHS or output_stride not in (8, 16, 32) or stages not in (2, 3, 4):
            raise OptionError(
                f"there is no {variant} of {stages} stages with output stride {output_stride}: choose one of "
                f"{', '.join(DEPTHS)}, 2 to 4 stages and an output stride of 8, 16 or 32"
            )
        self.timm_name = variant + _TIMM_SUFFIX.get((tuple(stem_widths), average_shortcut), " with this stem")
        bottleneck, counts = DEPTHS[variant]
        self.stem = _stem(stem_widths, in_channels, width)
        self.stages = stages
        self.channels: list[int] = []
        inputs, stride = (stem_widths[-1] if stem_widths else width), 4
        steps, spreads = _steps(output_stride, strides, dilations)
        for stage, (step, dilation) in enumerate(zip(steps[:stages], spreads)):
            stride *= step
            wide = width << stage
            outputs = 4 * wide if bottleneck else wide
            blocks: list[nn.Module] = []
            for index in range(counts[stage]):
                first = index == 0
                block_step = step if first else 1
                spread = max(dilation // 2, 1) if first and contract_dilation else dilation
                spread = first_dilation if first and first_dilation else spread
                project = first and (inputs != outputs or block_step > 1 or project_first)
                shortcut = _Shortcut(inputs, outputs, block_step, average_shortcut) if project else None
                if bottleneck:
                    inner = wide * group_width // 64 * groups
                    blocks.append(
                        _Bottleneck(inputs, inner, outputs, block_step, spread, shortcut, stride_first, groups)
                    )
                else:
                    second = spread if first and first_dilation else dilation
                    spread_pair = (spread, second if dilate_second else 1)
                    blocks.append(_BasicBlock(inputs, wide, block_step, spread_pair, shortcut))
                inputs = outputs
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
            self.channels.append(inputs)
        self.output_stride = stride

    def forward(self, x: Tensor) -> list[Tensor]:
        """``float [N, 3, H, W]`` → features after every stage, the first at stride 4, shallow first."""
        x = F.max_pool2d(self.stem(x), 3, stride=2, padding=1)
        features = []
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
            features.append(x)
        return features

    def load_imagenet(self) -> None:
        """Load timm's ImageNet weights, downloaded at first use."""
        load_in_order(self, timm_weights(self.timm_name), f"timm's {self.timm_name}")


def _steps(output_stride: int, strides: Sequence[int], dilations: Sequence[int]) -> tuple[list[int], list[int]]:
    """The stride and the dilation of every stage; a stage that would go beyond the output stride dilates instead."""
    if strides or dilations:
        if len(strides) != 4 or len(dilations) != 4 or strides[0] != 1 or min(*strides, *dilations) < 1:
            raise OptionError(
                f"strides of {tuple(strides)} and dilations of {tuple(dilations)} do not make a ResNet: "
                "give four whole numbers of at least 1 each, the first stride 1"
            )
        return list(strides), list(dilations)
    steps, spreads, stride = [1], [1], 4
    for _ in range(3):
        steps.append(2 if stride < output_stride else 1)
        stride *= steps[-1]
        spreads.append(spreads[-1] * (1 if steps[-1] == 2 else 2))
    return steps, spreads


class _Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions beside a shortcut; the 3×3 one has the dilation, it or the first the stride."""

    def __init__(
        self,
        inputs: int,
        width: int,
        outputs: int,
        stride: int,
        dilation: int,
        shortcut: nn.Module | None,
        stride_first: bool,
        groups: int,
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_first else (1, stride)
        self.conv1 = nn.Conv2d(inputs, width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, second, dilation, dilation, groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class _BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut; the first has the stride."""

    def __init__(
        self, inputs: int, width: int, stride: int, dilations: tuple[int, int], shortcut: nn.Module | None
    ) -> None:
        super().__init__()
        first, second = dilations
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, first, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, second, second, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class _Shortcut(nn.Sequential):
    """A 1×1 convolution with the stride, or with an average pooling that has it."""

    def __init__(self, inputs: int, outputs: int, stride: int, average: bool) -> None:
        convolution = nn.Conv2d(inputs, outputs, 1, 1 if average else stride, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(outputs))
        self.average = average and stride > 1

    def forward(self, x: Tensor) -> Tensor:
        if self.average:
            # At an odd side the last pixels are averaged among themselves.
            x = F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False)
        y: Tensor = self[1](self[0](x))
        return y


def _stem(widths: Sequence[int], in_channels: int, width: int) -> nn.Sequential:
    """To stride 2: one 7×7 convolution, or three of 3×3."""
    if not widths:
        convolution = nn.Conv2d(in_channels, width, 7, 2, 3, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True))
    layers: list[nn.Module] = []
    for inputs, outputs, stride in zip((in_channels, *widths), widths, (2, 1, 1)):
        layers += [
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)

"""The networks whose speed on a Jetson somebody published, with random weights: what ``estimate.py`` predicts.

Each is built from its paper's or its project's description, to the layer sizes that decide speed. Where the published
engine has more around the network (a resize of the input, of the logits), the module here has it too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F


def conv(
    inputs: int, outputs: int, window: int = 3, stride: int = 1, act: nn.Module | None = None, groups: int = 1
) -> nn.Sequential:
    layers = [
        nn.Conv2d(inputs, outputs, window, stride, window // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([] if act is None else [act]))


def relu(inputs: int, outputs: int, window: int = 3, stride: int = 1) -> nn.Sequential:
    return conv(inputs, outputs, window, stride, nn.ReLU())


def upsampled(x: Tensor, size_hw: Sequence[int]) -> Tensor:
    return F.interpolate(x, (int(size_hw[0]), int(size_hw[1])), mode="bilinear")


class FcnResNet18(nn.Module):
    """jetson-inference: torchvision's FCN head on ResNet-18 at stride 32, logits not upsampled."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        resnet = torchvision.models.resnet18()
        self.body = nn.Sequential(*list(resnet.children())[:-2])
        self.head = nn.Sequential(relu(512, 128), nn.Conv2d(128, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class StdcBlock(nn.Module):
    """Short-Term Dense Concatenate (arXiv 2104.13188): one 1×1 and three 3×3 convolutions, all concatenated."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        self.first = relu(inputs, half, 1)
        self.down = conv(half, half, 3, 2, groups=half) if stride == 2 else nn.Identity()
        self.skip = nn.AvgPool2d(3, 2, 1) if stride == 2 else nn.Identity()
        self.rest = nn.ModuleList([relu(half, half // 2), relu(half // 2, half // 4), relu(half // 4, half // 4)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        parts = [self.skip(x)]
        x = self.down(x)
        for layer in self.rest:
            x = layer(x)
            parts.append(x)
        return torch.cat(parts, 1)


class Stdc(nn.Module):
    """The backbone, STDC1 or STDC2: features at strides 8, 16 and 32 with 256, 512 and 1024 channels."""

    def __init__(self, blocks: tuple[int, int, int]) -> None:
        super().__init__()
        self.stem = nn.Sequential(relu(3, 32, 3, 2), relu(32, 64, 3, 2))
        self.stages = nn.ModuleList()
        for inputs, outputs, number in zip((64, 256, 512), (256, 512, 1024), blocks):
            same = [StdcBlock(outputs, outputs, 1) for _ in range(number - 1)]
            self.stages.append(nn.Sequential(StdcBlock(inputs, outputs, 2), *same))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


STDC1, STDC2 = (2, 2, 2), (4, 5, 3)


class StdcSeg(nn.Module):
    """STDC-Seg as super-gradients has it: attention on strides 16 and 32, fusion at 8."""

    def __init__(self, blocks: tuple[int, int, int], classes: int = 19) -> None:
        super().__init__()
        self.body = Stdc(blocks)
        self.context = relu(1024, 128, 1)
        self.refine = nn.ModuleList([relu(512, 128), relu(1024, 128)])
        self.attend = nn.ModuleList([conv(128, 128, 1, act=nn.Sigmoid()) for _ in range(2)])
        self.smooth = nn.ModuleList([relu(128, 128) for _ in range(2)])
        self.fuse = relu(256 + 128, 256, 1)
        self.weigh = nn.Sequential(nn.Conv2d(256, 64, 1), nn.ReLU(), nn.Conv2d(64, 256, 1), nn.Sigmoid())
        self.head = nn.Sequential(relu(256, 256), nn.Conv2d(256, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(x)
        carried = F.interpolate(self.context(features[2].mean((2, 3), keepdim=True)), features[2].shape[2:])
        for level in (1, 0):
            y = self.refine[level](features[level + 1])
            y = y * self.attend[level](y.mean((2, 3), keepdim=True)) + carried
            carried = self.smooth[level](F.interpolate(y, scale_factor=2.0))
        fused = self.fuse(torch.cat([features[0], carried], 1))
        fused = fused * self.weigh(fused.mean((2, 3), keepdim=True)) + fused
        return upsampled(self.head(fused), x.shape[2:])


class PpLiteSeg(nn.Module):
    """PP-LiteSeg (arXiv 2204.02681) as super-gradients has it; T on STDC1, B on STDC2."""

    def __init__(self, blocks: tuple[int, int, int], first: int, widths: tuple[int, int, int], head: int) -> None:
        super().__init__()
        self.body = Stdc(blocks)
        skips = (first, 128, 128)
        self.project = nn.ModuleList([relu(c, skip) for c, skip in zip((256, 512, 1024), skips)])
        self.pooled = nn.ModuleList([relu(1024, 128, 1) for _ in range(3)])
        self.pyramid = relu(128, 128)
        into = (128, *widths[:2])
        self.match = nn.ModuleList(
            [relu(skip, i) if skip != i else nn.Identity() for skip, i in zip(skips[::-1], into)]
        )
        self.attend = nn.ModuleList([nn.Sequential(relu(4, 2), conv(2, 1, act=nn.Sigmoid())) for _ in into])
        self.smooth = nn.ModuleList([relu(i, o) for i, o in zip(into, widths)])
        self.head = nn.Sequential(relu(widths[2], head), nn.Conv2d(head, 19, 1))

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(x)
        height, width = (int(side) for side in features[2].shape[2:])
        y = None
        for bins, layer in zip((1, 2, 4), self.pooled):
            pooled = upsampled(layer(F.avg_pool2d(features[2], (height // bins, width // bins))), (height, width))
            y = pooled if y is None else y + pooled
        y = self.pyramid(y)
        for step, level in enumerate((2, 1, 0)):
            skip = self.match[step](self.project[level](features[level]))
            y = upsampled(y, skip.shape[2:]) if level < 2 else y
            seen = [f(part) for part in (y, skip) for f in (_mean, _max)]
            weight = self.attend[step](torch.cat(seen, 1))
            y = self.smooth[step](y * weight + skip * (1 - weight))
        return upsampled(self.head(y), x.shape[2:])


def _mean(x: Tensor) -> Tensor:
    return x.mean(1, keepdim=True)


def _max(x: Tensor) -> Tensor:
    return x.amax(1, keepdim=True)


class Residual(nn.Module):
    """A basic block, or with ``expansion`` a bottleneck; ``final`` is whether a ReLU ends it."""

    def __init__(self, inputs: int, planes: int, stride: int, final: bool, expansion: int) -> None:
        super().__init__()
        outputs = planes * expansion
        if expansion == 1:
            self.path = nn.Sequential(relu(inputs, planes, 3, stride), conv(planes, planes))
        else:
            self.path = nn.Sequential(
                relu(inputs, planes, 1), relu(planes, planes, 3, stride), conv(planes, outputs, 1)
            )
        self.skip = nn.Identity() if inputs == outputs and stride == 1 else conv(inputs, outputs, 1, stride)
        self.final = nn.ReLU() if final else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.final(self.path(x) + self.skip(x))


def residuals(inputs: int, planes: int, number: int, stride: int = 1, expansion: int = 1) -> nn.Sequential:
    layers = []
    for index in range(number):
        last = index == number - 1
        layers.append(
            Residual(inputs, planes, stride if index == 0 else 1, not last or (number > 1 and index == 0), expansion)
        )
        inputs = planes * expansion
    return nn.Sequential(*layers)


class DdrNet(nn.Module):
    """DDRNet-23 and -23-slim (arXiv 2101.06085): two resolutions that exchange features, DAPPM, head at stride 8."""

    def __init__(self, planes: int, high: int, head: int) -> None:
        super().__init__()
        p = planes
        self.stem = nn.Sequential(relu(3, p, 3, 2), relu(p, p, 3, 2), residuals(p, p, 2))
        self.low = nn.ModuleList(
            [residuals(p, 2 * p, 2, 2), residuals(2 * p, 4 * p, 2, 2), residuals(4 * p, 8 * p, 2, 2)]
        )
        self.high = nn.ModuleList([residuals(2 * p, high, 2), residuals(high, high, 2)])
        self.squeeze = nn.ModuleList([conv(4 * p, high, 1), conv(8 * p, high, 1)])
        self.down = nn.ModuleList(
            [conv(high, 4 * p, 3, 2), nn.Sequential(relu(high, 2 * high, 3, 2), conv(2 * high, 8 * p, 3, 2))]
        )
        self.last_low = residuals(8 * p, 8 * p, 1, 2, 2)
        self.last_high = residuals(high, high, 1, 1, 2)
        wide, branch = 16 * p, 128
        self.scales = nn.ModuleList([_before(wide, branch) for _ in range(5)])
        self.process = nn.ModuleList([_before(branch, branch, 3) for _ in range(4)])
        self.compress, self.shortcut = _before(5 * branch, 2 * high), _before(wide, 2 * high)
        self.head = nn.Sequential(_before(2 * high, head, 3), nn.BatchNorm2d(head), nn.ReLU(), nn.Conv2d(head, 19, 1))

    def forward(self, x: Tensor) -> Tensor:
        size, full = [int(side) // 8 for side in x.shape[2:]], x.shape[2:]
        shared = F.relu(self.low[0](F.relu(self.stem(x))))
        low, high = shared, shared
        for step in (0, 1):
            deep, fine = self.low[step + 1](F.relu(low)), self.high[step](F.relu(high))
            low = deep + self.down[step](F.relu(fine))
            high = fine + upsampled(self.squeeze[step](F.relu(deep)), size)
        low = self._pyramid(self.last_low(F.relu(low)))
        return upsampled(self.head(upsampled(low, size) + self.last_high(F.relu(high))), full)

    def _pyramid(self, x: Tensor) -> Tensor:
        size = [int(side) for side in x.shape[2:]]
        parts = [self.scales[0](x)]
        for index, (window, stride) in enumerate(((5, 2), (9, 4), (17, 8), (0, 0)), 1):
            pooled = F.avg_pool2d(x, window, stride, stride) if window else x.mean((2, 3), keepdim=True)
            parts.append(self.process[index - 1](upsampled(self.scales[index](pooled), size) + parts[-1]))
        return self.compress(torch.cat(parts, 1)) + self.shortcut(x)


def _before(inputs: int, outputs: int, window: int = 1) -> nn.Sequential:
    """Normalisation and ReLU before the convolution."""
    return nn.Sequential(
        nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, outputs, window, 1, window // 2, bias=False)
    )


class ResizedAround(nn.Module):
    """super-gradients' measure below 1024×2048: the input is resized to the network's size, the logits back."""

    def __init__(self, network: nn.Module, size_hw: tuple[int, int]) -> None:
        super().__init__()
        self.network, self.size_hw = network, size_hw

    def forward(self, x: Tensor) -> Tensor:
        return upsampled(self.network(upsampled(x, self.size_hw)), x.shape[2:])


class ShuffleUnit(nn.Module):
    """ShuffleNet v1 (arXiv 1707.01083) with three groups."""

    def __init__(self, inputs: int, outputs: int, stride: int, grouped: bool) -> None:
        super().__init__()
        middle, self.stride = outputs // 4, stride
        self.squeeze = conv(inputs, middle, 1, act=nn.ReLU(), groups=3 if grouped else 1)
        self.depthwise = conv(middle, middle, 3, stride, groups=middle)
        self.expand = conv(middle, outputs - (inputs if stride == 2 else 0), 1, groups=3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.squeeze(x)
        n, c, h, w = (int(side) for side in y.shape)
        y = y.view(n, 3, c // 3, h, w).transpose(1, 2).reshape(n, c, h, w)
        y = self.expand(self.depthwise(y))
        return F.relu(torch.cat([F.avg_pool2d(x, 3, 2, 1), y], 1) if self.stride == 2 else x + y)


class ShuffleSeg(nn.Module):
    """PeopleSemSegNet ShuffleSeg: ShuffleNet, and FCN-8s of transposed convolutions (arXiv 1803.03816); two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(relu(3, 24, 3, 2), nn.MaxPool2d(3, 2, 1))
        self.stages = nn.ModuleList()
        for inputs, outputs, number in ((24, 240, 4), (240, 480, 8), (480, 960, 4)):
            same = [ShuffleUnit(outputs, outputs, 1, True) for _ in range(number - 1)]
            self.stages.append(nn.Sequential(ShuffleUnit(inputs, outputs, 2, inputs > 24), *same))
        self.score = nn.ModuleList([nn.Conv2d(c, 2, 1) for c in (240, 480, 960)])
        self.up = nn.ModuleList(
            [nn.ConvTranspose2d(2, 2, 16, 8, 4), nn.ConvTranspose2d(2, 2, 4, 2, 1), nn.ConvTranspose2d(2, 2, 4, 2, 1)]
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        scores = []
        for stage, score in zip(self.stages, self.score):
            x = stage(x)
            scores.append(score(x))
        y = scores[2]
        for level in (1, 0):
            y = self.up[level + 1](y) + scores[level]
        return self.up[0](y).argmax(1).to(torch.int32)


class Bottlenecks(nn.Module):
    """YOLO's cross-stage block: half of the channels goes through a chain of residual pairs of 3×3 convolutions.

    With ``dense`` every step of the chain is concatenated (YOLOv8's C2f), otherwise its end and the other half (CSP).
    """

    def __init__(
        self, inputs: int, outputs: int, number: int, shortcut: bool, dense: bool, act: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        half, self.shortcut, self.dense = outputs // 2, shortcut, dense
        self.into = conv(inputs, 2 * half if dense else half, 1, act=act())
        self.beside = nn.Identity() if dense else conv(inputs, half, 1, act=act())
        first = 3 if dense else 1
        self.chain = nn.ModuleList(
            [nn.Sequential(conv(half, half, first, act=act()), conv(half, half, act=act())) for _ in range(number)]
        )
        self.out = conv((2 + number if dense else 2) * half, outputs, 1, act=act())

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.into(x).chunk(2, 1)) if self.dense else [self.into(x)]
        beside = None if self.dense else self.beside(x)
        for step in self.chain:
            y = step(parts[-1]) + (parts[-1] if self.shortcut else 0)
            parts = [*parts, y] if self.dense else [y]
        return self.out(torch.cat(parts if beside is None else [*parts, beside], 1))


class Yolo(nn.Module):
    """YOLOv8 n, s, m (``dense``) and YOLOX-s, for 80 classes: backbone, path aggregation, heads, no suppression."""

    def __init__(
        self, widths: tuple[int, ...], depths: tuple[int, int], dense: bool, act: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        w, (few, many), self.dense = widths, depths, dense

        def block(inputs: int, outputs: int, number: int, shortcut: bool) -> Bottlenecks:
            return Bottlenecks(inputs, outputs, number, shortcut, dense, act)

        self.stem = conv(3, w[0], 3 if dense else 6, 2, act())
        if not dense:
            self.stem[0].padding = (2, 2)
        self.stages = nn.ModuleList()
        for index, number in enumerate((few, many, many, few)):
            last = index == 3
            down, body = (
                conv(w[index], w[index + 1], 3, 2, act()),
                block(w[index + 1], w[index + 1], number, dense or not last),
            )
            pool = SpatialPools(w[4], dense, act)
            order = [down, body, *([pool] if last else [])] if dense else [down, *([pool] if last else []), body]
            self.stages.append(nn.Sequential(*order))
        self.lateral = nn.ModuleList(
            [
                nn.Identity() if dense else conv(w[4], w[3], 1, act=act()),
                nn.Identity() if dense else conv(w[3], w[2], 1, act=act()),
            ]
        )
        self.top = nn.ModuleList(
            [
                block((w[4] if dense else w[3]) + w[3], w[3], few, False),
                block((w[3] if dense else w[2]) + w[2], w[2], few, False),
            ]
        )
        self.down = nn.ModuleList([conv(w[2], w[2], 3, 2, act()), conv(w[3], w[3], 3, 2, act())])
        self.bottom = nn.ModuleList(
            [
                block(w[2] + (w[3] if dense else w[2]), w[3], few, False),
                block(w[3] + (w[4] if dense else w[3]), w[4], few, False),
            ]
        )
        self.stems = nn.ModuleList([nn.Identity() if dense else conv(c, 128, 1, act=act()) for c in w[2:]])
        box, kind = (max(16, w[2] // 4, 64), max(w[2], 80)) if dense else (128, 128)
        inputs = w[2:] if dense else (128,) * 3
        self.boxes = nn.ModuleList(
            [
                nn.Sequential(conv(c, box, act=act()), conv(box, box, act=act()), nn.Conv2d(box, 64 if dense else 5, 1))
                for c in inputs
            ]
        )
        self.kinds = nn.ModuleList(
            [
                nn.Sequential(conv(c, kind, act=act()), conv(kind, kind, act=act()), nn.Conv2d(kind, 80, 1))
                for c in inputs
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        high = self.lateral[0](features[3])
        middle = self.top[0](torch.cat([F.interpolate(high, scale_factor=2.0), features[2]], 1))
        lean = self.lateral[1](middle)
        low = self.top[1](torch.cat([F.interpolate(lean, scale_factor=2.0), features[1]], 1))
        second = self.bottom[0](torch.cat([self.down[0](low), lean], 1))
        third = self.bottom[1](torch.cat([self.down[1](second), high], 1))
        boxes, kinds = [], []
        for level, feature in enumerate((low, second, third)):
            y = self.stems[level](feature)
            boxes.append(self.boxes[level](y).flatten(2))
            kinds.append(self.kinds[level](y).flatten(2))
        box, kind = torch.cat(boxes, 2), torch.cat(kinds, 2).sigmoid()
        if self.dense:  # the expected value of a distribution over 16 distances a side
            n, _, places = (int(side) for side in box.shape)
            steps = torch.arange(16.0, device=box.device).view(1, 16, 1, 1)
            box = (box.view(n, 4, 16, places).transpose(1, 2).softmax(1) * steps).sum(1)
        return torch.cat([box, kind], 1)


class SpatialPools(nn.Module):
    """Max pools of 5, 9 and 13, in a row (``dense``) or beside each other."""

    def __init__(self, channels: int, dense: bool, act: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.dense = dense
        self.into, self.out = conv(channels, channels // 2, 1, act=act()), conv(channels * 2, channels, 1, act=act())

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.into(x)]
        for window in (5, 9, 13):
            source, size = (parts[-1], 5) if self.dense else (parts[0], window)
            parts.append(F.max_pool2d(source, size, 1, size // 2))
        return self.out(torch.cat(parts, 1))


def yolov8(size: str) -> Yolo:
    widths = {"n": (16, 32, 64, 128, 256), "s": (32, 64, 128, 256, 512), "m": (48, 96, 192, 384, 576)}[size]
    return Yolo(widths, (2, 4) if size == "m" else (1, 2), True, nn.SiLU)


def yolox_s_leaky() -> Yolo:
    return Yolo((32, 64, 128, 256, 512), (1, 3), False, lambda: nn.LeakyReLU(0.1))

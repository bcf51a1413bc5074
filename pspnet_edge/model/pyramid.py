"""The context heads: the pyramid pooling module, exact and exportable, and global context for comparison.

Source: H. Zhao et al., Pyramid Scene Parsing Network, CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv_bn_relu(inputs: int, outputs: int, kernel: int, relu: bool = True) -> nn.Sequential:
    """Convolution with 'same' padding, BatchNorm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True) if relu else nn.Identity(),
    )


def decoder_convolution(inputs: int, outputs: int, kind: str) -> nn.Sequential:
    """A spatial convolution of the decoder: ``dense`` 3×3, or ``depthwise`` 5×5 followed by 1×1."""
    if kind == "dense":
        return conv_bn_relu(inputs, outputs, 3)
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 5, padding=2, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        *conv_bn_relu(inputs, outputs, 1),
    )


def detail_branch(inputs: int, width: int) -> nn.Sequential:
    """Three plain convolutions to ``width`` channels at stride 4, for what is too small for a trunk at half size."""
    layers: list[nn.Module] = []
    for outputs, stride in ((width // 2, 2), (width, 2), (width, 1)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        inputs = outputs
    return nn.Sequential(*layers)


def resize(x: Tensor, size_hw: tuple[int, int], align_corners: bool = False) -> Tensor:
    """Bilinear resize to a size given in Python integers, so no shape node is exported."""
    if (int(x.shape[-2]), int(x.shape[-1])) == size_hw:
        return x
    return F.interpolate(x, size=size_hw, mode="bilinear", align_corners=align_corners)


def bin_pool(x: Tensor, bins: int) -> Tensor:
    """Adaptive average pooling to ``bins × bins``, equal to PyTorch's at every size.

    Where the bins divide both sides it is one AveragePool. Elsewhere PyTorch's exporter would write hundreds of
    nodes; two constant matrices say the same: ``P_h · X · P_wᵀ``.
    """
    height, width = int(x.shape[-2]), int(x.shape[-1])
    if height % bins == 0 and width % bins == 0:
        return F.avg_pool2d(x, (height // bins, width // bins))
    rows, columns = (_pooling_matrix(size, bins, x.dtype, x.device) for size in (height, width))
    return torch.matmul(torch.matmul(rows, x), columns.t())


# Kept, because a copy to a GPU in every forward pass makes the processor wait, and cannot be part of a CUDA graph.
@cache
def _pooling_matrix(size: int, bins: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``[bins, size]``: row b averages the cells ``floor(b·size/bins)`` to ``ceil((b+1)·size/bins)``."""
    # Filled in numpy, because the exporter would record each assignment to a tensor as nodes.
    matrix = np.zeros((bins, size), np.float32)
    for row in range(bins):
        start, stop = row * size // bins, -(-(row + 1) * size // bins)
        matrix[row, start:stop] = 1 / (stop - start)
    with torch.inference_mode(False):  # Or the backward pass of a later training step could not use it.
        return torch.from_numpy(matrix).to(device, dtype)


def _pool_all(x: Tensor, bins: Iterable[int]) -> dict[int, Tensor]:
    """``bin_pool`` for each number of bins; fine bins that fit coarse ones are pooled again, in place of all pixels."""
    height, width = int(x.shape[-2]), int(x.shape[-1])
    pooled: dict[int, Tensor] = {}
    for count in sorted(bins, reverse=True):
        even = (done for done in pooled if done % count == 0 and height % done == 0 and width % done == 0)
        finer = min(even, default=None)
        pooled[count] = bin_pool(x if finer is None else pooled[finer], count)
    return pooled


class PyramidPooling(nn.Module):
    """Context at several scales beside the features themselves.

    ``float [N, C, h, w]`` → ``float [N, C + len(bins) · width, h, w]``; the features first, then the bins in order.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        bins: Sequence[int] = (1, 2, 3, 6),
        align_corners: bool = False,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.bins = tuple(bins)
        self.align_corners = align_corners
        self.stages = nn.ModuleList(conv_bn_relu(inputs, width, 1, relu) for _ in self.bins)
        self.channels = inputs + width * len(self.bins)

    def forward(self, x: Tensor) -> Tensor:
        size_hw = (int(x.shape[-2]), int(x.shape[-1]))
        pooled = _pool_all(x, self.bins)
        context = [
            resize(stage(pooled[bins]), size_hw, self.align_corners) for bins, stage in zip(self.bins, self.stages)
        ]
        return torch.cat([x, *context], dim=1)


class GlobalContext(nn.Module):
    """Two stacked global-context convolutions beside the features themselves.

    Some descriptions of PSPNet give this in place of the pyramid. It exists to be compared with it, so it is used with
    as many channels.

    ``float [N, C, h, w]`` → ``float [N, C + width, h, w]``; the features first.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.stages = nn.Sequential(_GlobalConvolution(inputs, width), _GlobalConvolution(width, width))
        self.channels = inputs + width

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.stages(x)], dim=1)


class _GlobalConvolution(nn.Module):
    """A 1×1 convolution over each pixel beside the mean of all, BatchNorm, ReLU.

    It is kept as two convolutions whose results are added, so that the one over the mean runs on a single pixel.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.local = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.mean = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.local(x) + self.mean(bin_pool(x, 1))))

"""What int8 makes of a network, computed in PyTorch, for quantization-aware training.

The Q/DQ pairs are where ``graph/quantize.py`` puts them in the exported graph. The network itself is left as it is:
its calls of convolutions and additions are watched as they are made, so a tensor that two of them read has one pair,
as in the graph. Weights are rounded a channel, before BatchNorm: its factor is one a channel too, so the codes are
those of the folded weights.

Rounding has no gradient of use. It is taken for the identity within the range (straight-through), and the range learns
from what rounding to it and clipping at it change.

Sources: B. Jacob et al., Quantization and Training of Neural Networks, CVPR 2018; S. Esser et al., Learned Step Size
Quantization, ICLR 2020.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_LARGEST = 127


class Quantiser(nn.Module):
    """Learned ranges of a network's activations, in the order in which its convolutions first read them.

    The first are the frames, whose range is known: it stays as it is.

    Args:
        ranges: for each the absolute value that the largest int8 code represents.
    """

    def __init__(self, ranges: Sequence[float]) -> None:
        super().__init__()
        # As logarithms, a step of the optimizer changes each by the same share, and none becomes negative.
        self.log_ranges = nn.Parameter(torch.tensor([math.log(value) for value in ranges], dtype=torch.float32))

    @property
    def ranges(self) -> list[float]:
        """As ``Quantiser`` takes them."""
        return [float(value) for value in self.log_ranges.detach().double().exp()]

    def pairs(self, exempt: Iterable[Tensor]) -> Pairs:
        """A context in which convolutions see what int8 makes of their inputs and weights.

        Args:
            exempt: weights of the convolutions that stay in higher precision.
        """
        return Pairs(exempt, self._rounded, lambda index, weights: rounded_weights(weights))

    def _rounded(self, index: int, x: Tensor) -> Tensor:
        log_range = self.log_ranges[index]
        rounded: Tensor = _Rounded.apply(x, log_range if index else log_range.detach())
        return rounded


class Pairs(TorchFunctionMode):
    """A context that gives every activation which a convolution reads to a function, and takes its result instead.

    A residual addition gets the same result for its identity input.

    Args:
        exempt: weights of the convolutions to leave alone.
        activation: called with (index in order of first reading, tensor).
        weight: called with (index of what the convolution reads, its weights).
    """

    def __init__(
        self,
        exempt: Iterable[Tensor],
        activation: Callable[[int, Tensor], Tensor],
        weight: Callable[[int, Tensor], Tensor],
    ) -> None:
        super().__init__()
        self._exempt = {id(tensor) for tensor in exempt}
        self._activation, self._weight = activation, weight
        self._indices: dict[int, int] = {}
        self._results: dict[int, Tensor] = {}
        # Padding and casts keep the values: their results are read as their source.
        self._sources: dict[int, Tensor] = {}
        self._kept: list[Tensor] = []
        """An id is a tensor's own only as long as the tensor is there."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.conv2d and id(args[1]) not in self._exempt:
            x = self._read(args[0])
            return func(x, self._weight(self._index(args[0]), args[1]), *args[2:], **kwargs)
        if func is Tensor.add:
            return func(*(self._if_read(value) for value in args), **kwargs)
        result = func(*args, **kwargs)
        if func in (F.pad, Tensor.float, Tensor.to) and result is not args[0]:
            self._sources[id(result)] = self._sources.get(id(args[0]), args[0])
            self._kept += [result, args[0]]
        return result

    def _read(self, x: Tensor) -> Tensor:
        if id(x) not in self._results:
            self._results[id(x)] = self._activation(self._index(x), x)
            self._kept.append(x)
        return self._results[id(x)]

    def _index(self, x: Tensor) -> int:
        return self._indices.setdefault(id(self._sources.get(id(x), x)), len(self._indices))

    def _if_read(self, value: Any) -> Any:
        return self._read(value) if id(value) in self._indices else value


class _Rounded(torch.autograd.Function):
    """Activations rounded to 127 steps either way and clipped, in their own type."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, log_range: Tensor) -> Tensor:
        ctx.save_for_backward(x, log_range)
        step = log_range.exp() / _LARGEST
        return (_codes(x.float() / step) * step).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None]:
        x, log_range = ctx.saved_tensors
        (gradient,) = gradients
        step = log_range.exp() / _LARGEST
        steps = x.float() / step
        inside = steps.abs() <= _LARGEST
        of_range = None
        if ctx.needs_input_grad[1]:
            codes = _codes(steps)
            # What a rise of the logarithm changes, in steps: rounding within the range, clipping beyond it.
            slope = torch.where(inside, codes - steps, codes)
            # The damping of the source, so that SGD moves ranges about as fast as weights.
            of_range = (gradient.float() * slope).sum() * step / math.sqrt(x.numel() * _LARGEST)
        return gradient * inside, of_range


def rounded_weights(weights: Tensor) -> Tensor:
    """Weights ``float [outputs, …]`` rounded to 127 steps either way, a step an output channel."""
    with torch.no_grad():
        largest = weights.flatten(1).abs().amax(1).reshape(-1, *[1] * (weights.ndim - 1))
        steps = torch.where(largest > 0, largest / _LARGEST, 1.0)
        lost = _codes(weights / steps) * steps - weights
    return weights + lost


def _codes(steps: Tensor) -> Tensor:
    return steps.round().clamp(-_LARGEST, _LARGEST)

"""Networks that are described by data: a list of simple operations, as a checkpoint can carry it.

Imported networks whose backbone is not one of ours keep it in this form, so that reading their checkpoint needs
neither the project that they come from nor any code of it. A node is a dictionary of JSON values:

    {"op": "input", "channels": 3}
    {"op": "conv", "of": [0], "in": 3, "out": 32, "kernel": [3, 3], "stride": [2, 2], ...}
    {"op": "relu", "of": [1]}

``of`` are the places of the nodes that it reads; they come before it. ``OPERATIONS`` lists the operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelError
from .backbone import MOST_WEIGHTS, StaticSameConv2d

Node = Mapping[str, Any]

_MOST_NODES = 20_000
_LARGEST_NUMBER = 1 << 16


def _pair(node: Node, key: str, usual: int) -> tuple[int, int]:
    values = node.get(key, [usual, usual])
    first, second = (values, values) if isinstance(values, int) else values
    return int(first), int(second)


def _convolution(node: Node) -> nn.Module:
    kind = StaticSameConv2d if node.get("same") else nn.Conv2d
    return kind(
        node["in"],
        node["out"],
        _pair(node, "kernel", 1),
        _pair(node, "stride", 1),
        _pair(node, "padding", 0),
        _pair(node, "dilation", 1),
        node.get("groups", 1),
        bool(node.get("bias")),
    )


def _normalization(node: Node) -> nn.Module:
    return nn.BatchNorm2d(node["channels"], eps=float(node.get("eps", 1e-5)))


_WITH_WEIGHTS: dict[str, Callable[[Node], nn.Module]] = {
    "conv": _convolution,
    "norm": _normalization,
    "prelu": lambda node: nn.PReLU(node["channels"]),
}

_POINTWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "gelu": F.gelu,
    "mish": F.mish,
}


def _max_pool(node: Node, x: Tensor) -> Tensor:
    return F.max_pool2d(
        x,
        _pair(node, "kernel", 2),
        _pair(node, "stride", 2),
        _pair(node, "padding", 0),
        ceil_mode=bool(node.get("ceil")),
    )


def _average_pool(node: Node, x: Tensor) -> Tensor:
    return F.avg_pool2d(
        x,
        _pair(node, "kernel", 2),
        _pair(node, "stride", 2),
        _pair(node, "padding", 0),
        ceil_mode=bool(node.get("ceil")),
        count_include_pad=bool(node.get("count_padding", True)),
    )


def _resize(node: Node, x: Tensor) -> Tensor:
    factor, mode = int(node["factor"]), "bilinear" if node.get("bilinear") else "nearest"
    size_hw = (int(x.shape[-2]) * factor, int(x.shape[-1]) * factor)
    if mode == "nearest":
        return F.interpolate(x, size=size_hw, mode=mode)
    return F.interpolate(x, size=size_hw, mode=mode, align_corners=bool(node.get("align_corners")))


_OF_ONE: dict[str, Callable[[Node, Tensor], Tensor]] = {
    "max_pool": _max_pool,
    "average_pool": _average_pool,
    "mean": lambda node, x: x.mean((2, 3), keepdim=True),
    "leaky_relu": lambda node, x: F.leaky_relu(x, float(node["slope"])),
    "pad": lambda node, x: F.pad(x, [int(side) for side in node["sides"]]),
    "slice": lambda node, x: x[:, int(node["start"]) : int(node["stop"])],
    "scale": lambda node, x: x * float(node["by"]),
    "shift": lambda node, x: x + float(node["by"]),
    "resize": _resize,
}
_OF_SEVERAL: dict[str, Callable[[list[Tensor]], Tensor]] = {
    "add": lambda parts: sum(parts[1:], parts[0]),
    "multiply": lambda parts: math.prod(parts[1:], start=parts[0]),
    "concatenate": lambda parts: torch.cat(parts, dim=1),
}
OPERATIONS = frozenset(("input", *_WITH_WEIGHTS, *_POINTWISE, *_OF_ONE, *_OF_SEVERAL))


class NodeGraph(nn.Module):
    """A network that computes its nodes in order.

    Args:
        nodes: see the top of the file; the first is the input.
        outputs: the places of the nodes that are the result, in this order.

    Raises:
        ModelError: nodes that are not a network.
    """

    def __init__(self, nodes: Sequence[Node], outputs: Sequence[int]) -> None:
        super().__init__()
        self._nodes = [dict(node) for node in nodes]
        self._outputs = [int(place) for place in outputs]
        self.channels_of, self.stride_of = _checked(self._nodes, self._outputs)
        self.nodes = nn.ModuleDict(
            {
                str(place): _WITH_WEIGHTS[node["op"]](node)
                for place, node in enumerate(self._nodes)
                if node["op"] in _WITH_WEIGHTS
            }
        )
        self._last_use = {place: index for index, node in enumerate(self._nodes) for place in node.get("of", ())}

    def forward(self, x: Tensor) -> list[Tensor]:
        """``float [N, C, H, W]`` → the outputs."""
        values: dict[int, Tensor] = {0: x}
        for place, node in enumerate(self._nodes[1:], 1):
            values[place] = self._compute(place, node, [values[index] for index in node["of"]])
            for index in set(node["of"]):
                if self._last_use[index] == place and index not in self._outputs:
                    del values[index]
        return [values[place] for place in self._outputs]

    def input_convolutions(self) -> Iterator[nn.Conv2d]:
        """The convolutions that read the input, with nothing before them that mixes its channels.

        Raises:
            ModelError: something else reads it too.
        """
        untouched = {0}
        for place, node in enumerate(self._nodes):
            if untouched.isdisjoint(node.get("of", ())):
                continue
            if node["op"] in ("pad", "max_pool", "average_pool"):
                untouched.add(place)
            elif node["op"] == "conv" and node.get("groups", 1) == 1:
                yield self.nodes[str(place)]  # type: ignore[misc]
            else:
                raise ModelError("the first operation of this backbone is not a convolution: it cannot be exported")

    def _compute(self, place: int, node: Node, parts: list[Tensor]) -> Tensor:
        op = node["op"]
        if op in _WITH_WEIGHTS:
            y: Tensor = self.nodes[str(place)](parts[0])
            return y
        if op in _POINTWISE:
            return _POINTWISE[op](parts[0])
        if op in _OF_ONE:
            return _OF_ONE[op](node, parts[0])
        return _OF_SEVERAL[op](parts)


class GraphBackbone(NodeGraph):
    """A backbone that is a ``NodeGraph``; its outputs are the features, shallow first."""

    def __init__(
        self,
        nodes: Sequence[Node],
        outputs: Sequence[int],
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        super().__init__(nodes, outputs)
        self.mean, self.std = mean, std
        self.channels = [self.channels_of[place] for place in self._outputs]
        self.output_stride = self.stride_of[self._outputs[-1]]

    def load_imagenet(self) -> None:
        """There are none."""
        raise ModelError("an imported backbone has no ImageNet weights: start from its checkpoint (--init)")


def _checked(nodes: list[dict[str, Any]], outputs: list[int]) -> tuple[list[int], list[int]]:
    """Channels and stride of every node.

    Raises:
        ModelError: they are not a network.
    """
    if not 1 <= len(nodes) <= _MOST_NODES or nodes[0].get("op") != "input":
        raise ModelError("the backbone in the checkpoint is damaged: import the network again")
    channels: list[int] = []
    strides: list[int] = []
    weights = 0
    for place, node in enumerate(nodes):
        try:
            of = [int(index) for index in node.get("of", ())]
            if node["op"] not in OPERATIONS or (place > 0) != bool(of) or not all(0 <= i < place for i in of):
                raise ValueError(node["op"])
            _ensure_small(node)
            if node["op"] == "input":
                channels.append(int(node["channels"]))
                strides.append(int(node.get("stride", 1)))
                continue
            channels.append(_channels(node, [channels[index] for index in of]))
            strides.append(_stride(node, [strides[index] for index in of]))
            if node["op"] == "conv":
                weights += node["in"] * node["out"] * math.prod(_pair(node, "kernel", 1)) // node.get("groups", 1)
        except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
            raise ModelError(
                f"node {place} of the backbone in the checkpoint is damaged ({error}): import the network again"
            ) from error
    if not outputs or not all(0 < place < len(nodes) for place in outputs) or weights > MOST_WEIGHTS:
        raise ModelError("the backbone in the checkpoint is damaged: import the network again")
    return channels, strides


def _ensure_small(node: Node) -> None:
    for key, value in node.items():
        for number in value if isinstance(value, (list, tuple)) else [value]:
            if key == "op":
                continue
            if not isinstance(number, (bool, int, float)) or not abs(number) <= _LARGEST_NUMBER:
                raise ValueError(f"{key} of {number!r}")


def _channels(node: Node, of: list[int]) -> int:
    op = node["op"]
    if op == "conv":
        if node["in"] != of[0] or min(node["in"], node["out"], node.get("groups", 1)) < 1:
            raise ValueError(f"a convolution of {node['in']} channels reads {of[0]}")
        return int(node["out"])
    if op in ("norm", "prelu") and node["channels"] != of[0]:
        raise ValueError(f"{op} of {node['channels']} channels reads {of[0]}")
    if op == "concatenate":
        return sum(of)
    if op == "slice":
        start, stop = int(node["start"]), int(node["stop"])
        if not 0 <= start < stop <= of[0]:
            raise ValueError(f"channels {start} to {stop} of {of[0]}")
        return stop - start
    if op in ("add", "multiply"):
        return max(of)
    return of[0]


def _stride(node: Node, of: list[int]) -> int:
    """Of the output; 0 where the place in the image is lost."""
    op = node["op"]
    if op in ("conv", "max_pool", "average_pool"):
        return of[0] * _pair(node, "stride", 2 if op != "conv" else 1)[0]
    if op == "mean":
        return 0
    if op == "resize":
        return of[0] // int(node["factor"])
    return max(of)

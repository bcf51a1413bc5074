"""Writes a backbone down as the nodes of ``node_graph``, with what the other project calls each layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .weights import ForeignWeights


@dataclass(frozen=True)
class GraphPlan:
    """A network as nodes."""

    nodes: tuple[dict[str, Any], ...]
    names: dict[int, str]
    """By place of a node with weights: the module of the other project that holds them."""
    outputs: tuple[int, ...]
    """Places of the features, shallow first."""
    norm_eps: dict[int, float] = field(default_factory=dict)


class Planner:
    """Nodes in the order in which they are computed; each method adds some and gives the place of the last.

    Args:
        weights: whose shapes say the widths.
        channels: of the input.
        stride: of the input.
    """

    def __init__(self, weights: ForeignWeights, channels: int, stride: int = 1) -> None:
        self._weights = weights
        self.nodes: list[dict[str, Any]] = [{"op": "input", "channels": channels, "stride": stride}]
        self.names: dict[int, str] = {}
        self._channels = [channels]

    def add(self, op: str, of: Sequence[int], **numbers: Any) -> int:
        """Any node without weights."""
        self.nodes.append({"op": op, "of": list(of), **numbers})
        widths = [self._channels[place] for place in of]
        self._channels.append(sum(widths) if op == "concatenate" else widths[0])
        return len(self.nodes) - 1

    def channels(self, place: int) -> int:
        """Of a node."""
        return self._channels[place]

    def convolution(self, of: int, name: str, stride: int = 1, dilation: int = 1) -> int:
        """A convolution with 'same' padding whose kernel, width and groups the weights show."""
        outputs, inputs, kernel, _ = self._weights.shape(f"{name}.weight")
        place = self.add(
            "conv",
            [of],
            **{"in": self._channels[of], "out": outputs},
            kernel=[kernel, kernel],
            stride=[stride, stride],
            padding=[dilation * (kernel // 2)] * 2,
            dilation=[dilation, dilation],
            groups=max(self._channels[of] // max(inputs, 1), 1),
            bias=f"{name}.bias" in self._weights,
        )
        self._channels[place] = outputs
        self.names[place] = name
        return place

    def norm(self, of: int, name: str, eps: float = 1e-5) -> int:
        """A BatchNorm."""
        place = self.add("norm", [of], channels=self._channels[of], eps=eps)
        self.names[place] = name
        return place

    def prelu(self, of: int, name: str) -> int:
        """A PReLU; one slope for all channels becomes one per channel."""
        place = self.add("prelu", [of], channels=self._channels[of])
        self.names[place] = name
        return place

    def plan(self, outputs: Sequence[int]) -> GraphPlan:
        """What was added."""
        return GraphPlan(tuple(self.nodes), dict(self.names), tuple(outputs))

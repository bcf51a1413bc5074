"""Turns a module of another project into the nodes of ``node_graph``, by PyTorch's own symbolic tracing."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from ...errors import ModelError
from ...records import first_line
from .planner import GraphPlan

_ACTIVATIONS = {
    "ReLU": "relu", "ReLU6": "relu6", "SiLU": "silu", "Swish": "silu", "SwishMe": "silu",
    "MemoryEfficientSwish": "silu",
    "Sigmoid": "sigmoid", "Tanh": "tanh", "Hardswish": "hardswish", "HardSwish": "hardswish",
    "HardSwishMe": "hardswish",
    "Hardsigmoid": "hardsigmoid", "HardSigmoid": "hardsigmoid", "HardSigmoidMe": "hardsigmoid", "GELU": "gelu",
    "Mish": "mish",
}  # fmt: skip
_NOTHING = ("Identity", "Dropout", "Dropout2d", "DropPath", "DropBlock2d")
_NORMS = ("BatchNorm2d", "BatchNormAct2d", "SyncBatchNorm")
_SAME = ("Conv2dSame", "Conv2dDynamicSamePadding")
_CONVOLUTIONS = ("Conv2d", "Conv2dStaticSamePadding", *_SAME)
_POOLS = ("MaxPool2d", "AvgPool2d")
_OTHER_LEAVES = ("AdaptiveAvgPool2d", "ZeroPad2d", "LeakyReLU", "Upsample")
_FUNCTIONS: dict[Any, str] = {
    F.relu: "relu", torch.relu: "relu", F.relu6: "relu6", F.silu: "silu", F.sigmoid: "sigmoid",
    torch.sigmoid: "sigmoid",
    F.hardswish: "hardswish", F.hardsigmoid: "hardsigmoid", F.gelu: "gelu", F.mish: "mish", torch.tanh: "tanh",
    F.tanh: "tanh",
}  # fmt: skip
_METHODS = {"relu": "relu", "relu_": "relu", "sigmoid": "sigmoid", "sigmoid_": "sigmoid", "tanh": "tanh"}
_TWO: dict[Any, str] = {
    operator.add: "add", operator.iadd: "add", torch.add: "add", operator.mul: "multiply", operator.imul: "multiply",
    torch.mul: "multiply",
}  # fmt: skip


class _Unknown(Exception):
    """What has no node."""


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        name = type(m).__name__
        if name in (*_ACTIVATIONS, *_NOTHING, *_NORMS, *_CONVOLUTIONS, *_POOLS, *_OTHER_LEAVES):
            return True
        return super().is_leaf_module(m, module_qualified_name)


def trace(module: nn.Module, prefix: str, channels: int, name: str) -> GraphPlan:
    """The nodes of an encoder that gives a list of features; the last of them is the output.

    Args:
        module: in evaluation mode.
        prefix: what its checkpoint puts before its keys, e.g. ``encoder.``.
        channels: of its input.
        name: what errors call it.

    Raises:
        ModelError: it computes something that has no node.
    """
    try:
        graph = _Tracer().trace(module)
        return _Translation(module, prefix, channels).run(graph)
    except _Unknown as error:
        reason = f"it computes {error}"
    except Exception as error:  # tracing runs the other project's code, which can raise anything
        reason = first_line(error)
    raise ModelError(
        f"the encoder {name} cannot be imported ({reason}): export the network to ONNX where it was trained, and use "
        "`pspnet-edge adapt`"
    )


class _Translation:
    def __init__(self, module: nn.Module, prefix: str, channels: int) -> None:
        self._modules = dict(module.named_modules())
        self._prefix = prefix
        self._nodes: list[dict[str, Any]] = [{"op": "input", "channels": channels}]
        self._names: dict[int, str] = {}
        self._values: dict[fx.Node, Any] = {}
        self._channels = [channels]

    def run(self, graph: fx.Graph) -> GraphPlan:
        *nodes, end = graph.nodes
        features = end.args[0]
        last = features[-1] if isinstance(features, (list, tuple)) else features
        if not isinstance(last, fx.Node):
            raise _Unknown("no feature map")
        needed, waiting = set(), [last]
        while waiting:
            node = waiting.pop()
            if node not in needed:
                needed.add(node)
                waiting += node.all_input_nodes
        for node in nodes:
            if node.op == "placeholder":
                self._values[node] = 0 if not self._values else None
            elif node in needed:
                self._values[node] = self._translated(node)
        return self._pruned(self._values[last])

    def _translated(self, node: fx.Node) -> Any:
        if node.op == "call_module":
            return self._module(str(node.target), self._of(node.args[0]))
        if node.op == "call_function":
            return self._function(node)
        if node.op == "call_method":
            return self._method(node)
        raise _Unknown(f"{node.op} {node.target}")

    def _pruned(self, last: Any) -> GraphPlan:
        """Only what the last feature needs."""
        if not isinstance(last, int):
            raise _Unknown("features that are not of one kind")
        needed, waiting = {0}, [last]
        while waiting:
            place = waiting.pop()
            if place not in needed:
                needed.add(place)
                waiting += self._nodes[place].get("of", [])
        order = sorted(needed)
        new = {place: index for index, place in enumerate(order)}
        nodes = [
            {
                key: [new[index] for index in value] if key == "of" else value
                for key, value in self._nodes[place].items()
            }
            for place in order
        ]
        names = {new[place]: name for place, name in self._names.items() if place in new}
        return GraphPlan(tuple(nodes), names, (new[last],))

    def _of(self, value: Any) -> Any:
        if isinstance(value, fx.Node):
            return self._values[value]
        if isinstance(value, (list, tuple)):
            return [self._of(entry) for entry in value]
        return value

    def _add(self, op: str, of: list[int], **numbers: Any) -> int:
        if not all(isinstance(place, int) and not isinstance(place, bool) for place in of):
            raise _Unknown(f"{op} of something that is not a feature map")
        self._nodes.append({"op": op, "of": of, **numbers})
        widths = [self._channels[place] for place in of]
        if op == "conv":
            widths = [numbers["out"]]
        elif op == "slice":
            widths = [numbers["stop"] - numbers["start"]]
        self._channels.append(sum(widths) if op == "concatenate" else max(widths))
        return len(self._nodes) - 1

    def _split(self, x: int, sizes: Any, axis: int) -> list[int]:
        """As ``torch.split`` along the channels."""
        width = self._channels[x]
        if axis % 4 != 1:
            raise _Unknown("a split along another axis than the channels")
        if isinstance(sizes, int):
            sizes = [min(sizes, width - start) for start in range(0, width, sizes)]
        ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
        return [self._add("slice", [x], start=end - size, stop=end) for end, size in zip(ends, sizes)]

    def _cut(self, x: int, key: Any) -> int:
        """As ``x[:, start:stop]``."""
        cut = key[1] if isinstance(key, (list, tuple)) and len(key) > 1 else None
        others = [entry for place, entry in enumerate(key) if place != 1] if cut is not None else [0]
        if not isinstance(cut, slice) or any(entry != slice(None) for entry in others):
            raise _Unknown("a part of a tensor")
        start, stop, step = cut.indices(self._channels[x])
        if step != 1:
            raise _Unknown("a part of a tensor")
        if (start, stop) == (0, self._channels[x]):
            return x
        return self._add("slice", [x], start=start, stop=stop)

    def _module(self, target: str, x: Any) -> int:
        module = self._modules[target]
        kind = type(module).__name__
        if kind in _NOTHING or (kind == "Dropout3d"):
            return int(x)
        if kind in _ACTIVATIONS:
            return self._add(_ACTIVATIONS[kind], [x])
        if kind == "LeakyReLU":
            return self._add("leaky_relu", [x], slope=float(module.negative_slope))
        if isinstance(module, nn.Conv2d):
            return self._convolution(module, target, x)
        if kind in _NORMS or isinstance(module, nn.BatchNorm2d):
            return self._norm(module, target, x)
        if kind == "ZeroPad2d":
            return self._add("pad", [x], sides=list(module.padding))
        if kind in _POOLS:
            return self._pool(kind, module, x)
        if kind == "Upsample":
            words = {"scale_factor": module.scale_factor, "mode": module.mode, "align_corners": module.align_corners}
            return self._interpolate([x], words)
        if kind == "AdaptiveAvgPool2d" and module.output_size in (1, (1, 1)):
            return self._add("mean", [x])
        raise _Unknown(f"a {kind} ({target})")

    def _convolution(self, module: nn.Conv2d, target: str, x: int) -> int:
        kind = type(module).__name__
        if kind not in _CONVOLUTIONS or module.padding_mode != "zeros":
            raise _Unknown(f"a {kind} ({target})")
        padding = getattr(module, "static_padding", None)
        if isinstance(padding, nn.ZeroPad2d):
            x = self._add("pad", [x], sides=list(padding.padding))
        if isinstance(module.padding, str):
            raise _Unknown(f"padding {module.padding!r} ({target})")
        place = self._add(
            "conv",
            [x],
            **{"in": module.in_channels, "out": module.out_channels},
            kernel=list(module.kernel_size),
            stride=list(module.stride),
            padding=[0, 0] if kind in _SAME else list(module.padding),
            dilation=list(module.dilation),
            groups=module.groups,
            bias=module.bias is not None,
            **({"same": True} if kind in _SAME else {}),
        )
        self._names[place] = self._prefix + target
        return place

    def _norm(self, module: nn.Module, target: str, x: int) -> int:
        if not getattr(module, "affine", True) or not getattr(module, "track_running_stats", True):
            raise _Unknown(f"a BatchNorm without weights ({target})")
        place = self._add("norm", [x], channels=int(module.num_features), eps=float(module.eps))  # type: ignore[arg-type]
        self._names[place] = self._prefix + target
        for part in ("drop", "act"):  # of timm's BatchNorm, which holds its activation
            inner = getattr(module, part, None)
            if isinstance(inner, nn.Module):
                kind = type(inner).__name__
                if kind in _ACTIVATIONS:
                    place = self._add(_ACTIVATIONS[kind], [place])
                elif kind == "LeakyReLU":
                    place = self._add("leaky_relu", [place], slope=float(inner.negative_slope))  # type: ignore[arg-type]
                elif kind not in _NOTHING:
                    raise _Unknown(f"a {kind} ({target})")
        return place

    def _pool(self, kind: str, module: nn.Module, x: int) -> int:
        return self._pooling(
            kind == "MaxPool2d",
            x,
            kernel_size=module.kernel_size,
            stride=module.stride,
            padding=module.padding,
            dilation=getattr(module, "dilation", 1),
            ceil_mode=module.ceil_mode,
            count_include_pad=getattr(module, "count_include_pad", True),
        )

    def _pooling(self, largest: bool, x: int, **settings: Any) -> int:
        if settings.get("dilation", 1) not in (1, (1, 1)) or settings.get("return_indices"):
            raise _Unknown("a dilated pooling")
        numbers: dict[str, Any] = {
            "kernel": _pair(settings["kernel_size"]),
            "stride": _pair(settings.get("stride") or settings["kernel_size"]),
            "padding": _pair(settings.get("padding") or 0),
            "ceil": bool(settings.get("ceil_mode")),
        }
        if not largest:
            numbers["count_padding"] = bool(settings.get("count_include_pad", True))
        return self._add("max_pool" if largest else "average_pool", [x], **numbers)

    def _function(self, node: fx.Node) -> Any:
        target: Any = node.target
        if target is getattr:
            raise _Unknown(f"with the {node.args[1]} of a tensor")
        arguments = [self._of(value) for value in node.args]
        words = {key: self._of(value) for key, value in node.kwargs.items()}
        if target is operator.getitem and isinstance(arguments[0], (list, tuple)):
            return arguments[0][arguments[1]]
        if target is operator.getitem and isinstance(arguments[0], int):
            return self._cut(arguments[0], arguments[1])
        if target in _FUNCTIONS:
            return self._add(_FUNCTIONS[target], [arguments[0]])
        if target in _TWO:
            return self._two(_TWO[target], node)
        if target in (torch.cat, torch.concat):
            return self._add("concatenate", list(arguments[0] if arguments else words["tensors"]))
        if target in (F.dropout, F.dropout2d):
            return arguments[0]
        if target is F.leaky_relu:
            return self._add("leaky_relu", [arguments[0]], slope=float(words.get("negative_slope", 0.01)))
        if target is F.pad and words.get("mode", "constant") == "constant" and not words.get("value"):
            return self._add("pad", [arguments[0]], sides=[int(side) for side in arguments[1]])
        if target is F.adaptive_avg_pool2d and _pair(_second(arguments, words, "output_size")) == [1, 1]:
            return self._add("mean", [arguments[0]])
        if target is F.interpolate:
            return self._interpolate(arguments, words)
        pools = {"max_pool2d": True, "avg_pool2d": False, "boolean_dispatch": True}
        name = getattr(target, "__name__", str(target))
        if name in pools:
            names = ("kernel_size", "stride", "padding")
            settings = dict(zip(names, arguments[1:])) | words
            return self._pooling(pools[name], arguments[0], **settings)
        if target in (torch.flatten, torch.mean) and name == "mean":
            return self._mean(arguments, words)
        if name in ("split", "chunk"):
            return self._parts(name, arguments, words)
        raise _Unknown(name)

    def _parts(self, name: str, arguments: list[Any], words: Mapping[str, Any]) -> list[int]:
        axis = arguments[2] if len(arguments) > 2 else words.get("dim", 0)
        size = next(iter(arguments[1:]), words.get("split_size_or_sections", words.get("chunks")))
        if name == "chunk":
            size = -(-self._channels[arguments[0]] // size)
        return self._split(arguments[0], size, axis)

    def _two(self, op: str, node: fx.Node) -> int:
        first, second = (self._of(value) for value in node.args[:2])
        maps = [isinstance(value, fx.Node) for value in node.args[:2]]
        if all(maps):
            return self._add(op, [first, second])
        of, by = (first, second) if maps[0] else (second, first)
        return self._add("scale" if op == "multiply" else "shift", [of], by=float(by))

    def _interpolate(self, arguments: list[Any], words: Mapping[str, Any]) -> int:
        factor, mode = words.get("scale_factor"), words.get("mode", "nearest")
        if not isinstance(factor, (int, float)) or factor != int(factor) or mode not in ("nearest", "bilinear"):
            raise _Unknown(f"a resize to {words.get('size')}")
        return self._add(
            "resize",
            [arguments[0]],
            factor=int(factor),
            bilinear=mode == "bilinear",
            align_corners=bool(words.get("align_corners")),
        )

    def _mean(self, arguments: list[Any], words: Mapping[str, Any]) -> int:
        axes = _second(arguments, words, "dim")
        if sorted(axis % 4 for axis in axes) == [2, 3] and words.get("keepdim", False):
            return self._add("mean", [arguments[0]])
        raise _Unknown("a mean over other axes than height and width")

    def _method(self, node: fx.Node) -> Any:
        arguments = [self._of(value) for value in node.args]
        words = {key: self._of(value) for key, value in node.kwargs.items()}
        name = str(node.target)
        if name in _METHODS:
            return self._add(_METHODS[name], [arguments[0]])
        if name == "mean":
            return self._mean(arguments, words)
        if name in ("add", "add_", "mul", "mul_"):
            return self._two("add" if name.startswith("add") else "multiply", node)
        if name in ("split", "chunk"):
            return self._parts(name, arguments, words)
        if name in ("contiguous", "clone"):
            return arguments[0]
        raise _Unknown(f"{name} of a tensor")


def _pair(value: Any) -> list[int]:
    return [int(value), int(value)] if isinstance(value, int) else [int(entry) for entry in value]


def _second(arguments: list[Any], words: Mapping[str, Any], name: str) -> Any:
    return arguments[1] if len(arguments) > 1 else words[name]

"""From logits to a mask in operations that OpenVINO fuses; the mask stays the same."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ...graph.onnx_file import ModelFile
from ...graph.tail import find_tail, replace_tail

_BLOCKS = range(12, 25)
"""Columns of logits that one small product upsamples: fewer copy much, more multiply mostly by zero."""


def tail_by_class(model: ModelFile) -> ModelFile:
    """Upsample and compare one class after another, in operations that OpenVINO fuses; no full-size logits are stored.

    OpenVINO's own linear Resize calls a kernel for every pixel, and its ArgMax then has the full-size logits laid out
    again. Here small products upsample the columns while there are few rows yet; the rows between two rows are weighted
    sums of them, made in the same pass that keeps the larger class. Ties go to the first class, as in ArgMax.

    A graph that does not end in a linear Resize with a whole number of outputs to each step is returned as it is.
    """
    found = find_tail(model)
    if found is None:
        return model
    batch, height, width = model.shape_nhw
    _, classes, rows, columns = found.shape_nchw
    vertical, horizontal = _grid(rows, height, found.align_corners), _grid(columns, width, found.align_corners)
    if vertical is None or horizontal is None or classes < 2:
        return model
    gaps = batch * (rows + 1)
    block = min(_BLOCKS, key=lambda size: -columns % size)
    neighbours = _columns_of_blocks(columns, block)
    wide = neighbours.shape[0] * block * horizontal.factor
    tail = _Nodes(found.dtype)
    by_class = tail.add("Transpose", [found.logits], perm=(1, 0, 2, 3))
    planes = tail.add("Reshape", [by_class, tail.int64([classes, batch * rows, columns])])
    blocks = tail.add("Gather", [planes, tail.int64(neighbours)], axis=2)
    edges = tail.add("Gather", [blocks, tail.int64(_edges_of_gaps(batch, rows))], axis=1)
    upsampled = tail.add("MatMul", [edges, tail.constant(_column_weights(block, horizontal))])
    lines = tail.split(tail.add("Reshape", [upsampled, tail.int64([2 * classes, gaps, 1, wide])]), 2 * classes)
    top = vertical.outputs_before
    share = 1 + vertical.places(-top, vertical.factor)
    winner = _largest(tail, lines, share.reshape(1, 1, vertical.factor, 1))
    mask = tail.add("Cast", [winner], to=TensorProto.UINT8)
    mask = tail.add("Reshape", [mask, tail.int64([batch, (rows + 1) * vertical.factor, wide])])
    begin, end = tail.int64([top, 0]), tail.int64([top + height, width])
    tail.add("Slice", [mask, begin, end, tail.int64([1, 2])], output=model.proto.graph.output[0].name)
    return replace_tail(model, found, tail.nodes, tail.constants)


def _largest(tail: _Nodes, lines: list[str], share: NDArray[np.float64]) -> str:
    """The class with the largest score, between an upper and a lower line of each class; ``share`` is the lower's.

    Every operation names the running result first: OpenVINO then computes class after class, and what one class needs
    stays in the cache. Named last, all scores are computed before the first is compared.
    """
    of_upper, of_lower, nothing = tail.constant(1 - share), tail.constant(share), tail.constant(np.zeros((1, 1, 1, 1)))
    best = winner = ""
    for index in range(len(lines) // 2):
        upper, lower = lines[2 * index : 2 * index + 2]
        score = tail.add("Add", [tail.add("Mul", [upper, of_upper]), tail.add("Mul", [lower, of_lower])])
        if best:
            larger = tail.add("Less", [best, score])
            here = tail.add("Where", [larger, tail.constant(np.full((1, 1, 1, 1), index)), nothing])
            winner = tail.add("Max", [winner, here]) if winner else here
        best = tail.add("Max", [best, score]) if best else score
    return winner


@dataclass(frozen=True)
class _Grid:
    """Where a linear Resize reads along an axis: output ``i`` at ``(i - lag) / factor``, counted in inputs."""

    factor: int
    lag: float

    @property
    def outputs_before(self) -> int:
        """How many outputs would fit between one input before the first, which edges repeat, and output 0."""
        return math.floor(self.factor - self.lag)

    def places(self, first: int, count: int) -> NDArray[np.float64]:
        """Where ``count`` outputs from ``first`` on read."""
        return (np.arange(first, first + count) - self.lag) / self.factor


def _grid(inputs: int, outputs: int, align_corners: bool) -> _Grid | None:
    """None where outputs are not a whole number to each step between inputs."""
    if align_corners:
        steps, outputs = inputs - 1, outputs - 1
        return _Grid(outputs // steps, 0) if steps and outputs and outputs % steps == 0 else None
    factor = outputs // inputs
    return None if outputs % inputs else _Grid(factor, (factor - 1) / 2)


class _Nodes:
    """Nodes in their order, named ``tail_0``, ``tail_1`` and so on, and the constants that they read."""

    def __init__(self, dtype: np.dtype) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._dtype = dtype

    def add(self, kind: str, inputs: list[str], output: str = "", **attributes: object) -> str:
        name = f"tail_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output or name], name, **attributes))
        return output or name

    def split(self, name: str, parts: int) -> list[str]:
        """Along the first axis."""
        outputs = [f"tail_{len(self.nodes)}:{part}" for part in range(parts)]
        self.nodes.append(helper.make_node("Split", [name], outputs, f"tail_{len(self.nodes)}", axis=0))
        return outputs

    def constant(self, values: NDArray[np.floating]) -> str:
        """In the type of the logits."""
        return self._keep(values.astype(self._dtype))

    def int64(self, values: list[int] | NDArray[np.int64]) -> str:
        return self._keep(np.asarray(values, np.int64))

    def _keep(self, values: NDArray[np.generic]) -> str:
        name = f"tail.{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name


def _edges_of_gaps(batch: int, rows: int) -> NDArray[np.int64]:
    """The upper rows of all gaps, then the lower: between rows of an image, before its first and behind its last."""
    images = np.arange(batch)[:, None] * rows
    return np.concatenate([(images + np.clip(np.arange(rows + 1) + side, 0, rows - 1)).ravel() for side in (-1, 0)])


def _columns_of_blocks(columns: int, block: int) -> NDArray[np.int64]:
    """``[blocks, block + 2]``: the columns of each block and a neighbour on each side; those at the edges repeat."""
    starts = np.arange(0, columns, block)[:, None]
    return np.asarray(np.clip(starts + np.arange(-1, block + 1), 0, columns - 1))


def _column_weights(block: int, grid: _Grid) -> NDArray[np.float64]:
    """``[block + 2, block * factor]``: linear upsampling of a block that has a neighbour on each side."""
    distance = np.abs(1 + grid.places(0, block * grid.factor) - np.arange(block + 2)[:, None])
    return np.asarray(np.maximum(0, 1 - distance))

"""Second-order rounding: weights rounded so that the errors of a convolution's outputs cancel, and its bias corrected.

Rounding each weight to the nearest code is best only if inputs are independent. The pixels and channels that a filter
sees are anything but: what rounding one weight up adds, rounding its neighbour down takes away. So weights are rounded
one after another, and each error is spread over those that follow in the way that changes the outputs least, which the
covariance of the inputs tells. The mean of what is left goes into the bias.

Source: E. Frantar et al., GPTQ, ICLR 2023, on B. Hassibi and D. Stork, Optimal Brain Surgeon, NIPS 1992; the bias
after M. Nagel et al., Data-Free Quantization, ICCV 2019.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ..errors import CalibrationError
from .view import GraphView, attribute, is_depthwise

MOST_INPUTS = 1536
"""Weights of a filter up to which their covariance is kept; a larger one is rounded to nearest, its bias corrected."""
POSITIONS = 160
"""Patches taken from one image for one convolution."""
_DAMPING = 0.01
_LARGEST = 127

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rounding:
    """What changes in one convolution, packed as text for the calibration table."""

    codes: str
    """Each weight's int8 code less its nearest one, ``int8``, deflated, in base64."""
    bias: str
    """What to add to each output's bias, ``float32``, in base64."""

    @staticmethod
    def pack(codes: NDArray[np.int8], bias: NDArray[np.float32]) -> Rounding:
        """Pack the differences of codes and biases."""
        deflated = zlib.compress(codes.tobytes())
        return Rounding(base64.b64encode(deflated).decode(), base64.b64encode(bias.astype("<f4").tobytes()).decode())

    def unpack(self, weights: int, outputs: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """The differences, flat.

        Raises:
            CalibrationError: not what ``pack`` makes, or of another convolution.
        """
        try:
            inflate = zlib.decompressobj()
            codes = np.frombuffer(inflate.decompress(base64.b64decode(self.codes, validate=True), weights + 1), np.int8)
            bias = np.frombuffer(base64.b64decode(self.bias, validate=True), "<f4")
        except (binascii.Error, zlib.error, ValueError, TypeError) as error:
            raise CalibrationError(f"the rounding in the calibration table is damaged ({error})") from error
        if codes.size != weights or bias.size != outputs or not np.isfinite(bias).all():
            raise CalibrationError("the rounding in the calibration table does not fit the model's weights")
        return codes, bias


def roundable_weights(graph: onnx.ModelProto, node: onnx.NodeProto) -> NDArray[np.float32] | None:
    """A convolution's weights where they can be rounded: with a bias, and either dense or depthwise."""
    if len(node.input) < 3 or not node.input[2]:
        return None
    view = GraphView(graph)
    roundable = attribute(node, "group", 1) == 1 or is_depthwise(view, node)
    return view.constant(node.input[1]) if roundable else None


class Patches:
    """Mean and covariance of the inputs that a convolution's filters see, from patches at random places."""

    def __init__(self, node: onnx.NodeProto, weights: NDArray[np.float32]) -> None:
        self._pads = attribute(node, "pads", [0, 0, 0, 0])
        self._strides = attribute(node, "strides", [1, 1])
        self._dilations = attribute(node, "dilations", [1, 1])
        groups = attribute(node, "group", 1)
        self._kernel_hw = weights.shape[2:]
        # A depthwise filter sees its own channel alone, any other one all of them.
        self.groups = weights.shape[0] if groups > 1 else 1
        self.size = weights[0].size
        keeps = self.size <= MOST_INPUTS
        self._products = np.zeros((self.groups, self.size, self.size)) if keeps else None
        self._sums = np.zeros((self.groups, self.size))
        self._count = 0
        self._random = np.random.default_rng(0)

    def add(self, values: NDArray[np.float32]) -> None:
        """Take patches of one image's input ``float32 [C, H, W]``."""
        height, width = values.shape[1:]
        rows, row = self._first_places(height, 0)
        columns, column = self._first_places(width, 1)
        chosen = self._random.choice(len(rows) * len(columns), min(POSITIONS, len(rows) * len(columns)), replace=False)
        # [taps, patches]
        row = rows[chosen // len(columns)] + row[:, None]
        column = columns[chosen % len(columns)] + column[:, None]
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        taps = values[:, row.clip(0, height - 1), column.clip(0, width - 1)] * inside
        patches = taps.reshape(self.groups, self.size, -1)
        if self._products is not None:
            self._products += patches @ patches.transpose(0, 2, 1)
        self._sums += patches.sum(2)
        self._count += patches.shape[2]

    def _first_places(self, extent: int, axis: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where patches may begin along an axis, and where each tap lies from there."""
        dilation, before, after = self._dilations[axis], self._pads[axis], self._pads[axis + 2]
        taps = np.indices(self._kernel_hw)[axis].ravel() * dilation
        return np.arange(-before, extent + after - taps[-1], self._strides[axis]), taps

    @property
    def mean(self) -> Array:
        """``[groups, size]``."""
        return np.asarray(self._sums / max(self._count, 1))

    def covariance(self) -> Array | None:
        """``[groups, size, size]``; None where there were too few patches to tell, or a filter is too large."""
        if self._products is None or self._count < 2 * self.size:
            return None
        mean = self.mean
        return np.asarray(self._products / self._count - mean[:, :, None] * mean[:, None, :])


def chosen_rounding(weights: NDArray[np.float32], scales: NDArray[np.float32], patches: Patches) -> Rounding:
    """Choose the codes of one convolution.

    Args:
        weights: ``float32 [outputs, inputs, kh, kw]``.
        scales: ``float32 [outputs]``, what one code represents.
        patches: what its filters saw.
    """
    # [groups, filters of the group, size]
    filters = weights.astype(np.float64).reshape(patches.groups, -1, patches.size)
    steps = scales.astype(np.float64).reshape(patches.groups, -1)
    nearest = nearest_codes(filters, steps[:, :, None])
    covariance = patches.covariance()
    codes = nearest if covariance is None else _cancelling_codes(filters, steps, covariance)
    lost = ((filters - codes * steps[:, :, None]) * patches.mean[:, None, :]).sum(2)
    return Rounding.pack((codes - nearest).astype(np.int8), lost.reshape(-1).astype(np.float32))


def rounded(
    weights: NDArray[np.float32], scales: NDArray[np.float32], chosen: Rounding
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The weights that ``chosen`` represents, all multiples of their scales, and what to add to the biases."""
    difference, bias = chosen.unpack(weights.size, len(weights))
    steps = scales.reshape(-1, *[1] * (weights.ndim - 1))
    codes = np.clip(nearest_codes(weights, steps) + difference.reshape(weights.shape), -_LARGEST, _LARGEST)
    return (codes * steps).astype(np.float32), bias


def nearest_codes(weights: NDArray[Any], steps: NDArray[Any]) -> NDArray[Any]:
    """Each weight's nearest code, as QuantizeLinear rounds it."""
    return np.asarray(np.clip(np.rint(weights / steps), -_LARGEST, _LARGEST))


def _root(covariance: Array, damping: float) -> Array:
    """Upper triangular root of the inverse; the identity, which spreads no error, where there is none.

    Inputs that hardly vary about a large mean leave a covariance of rounding errors, which takes more damping.
    """
    size = len(covariance)
    for _ in range(6):
        with contextlib.suppress(np.linalg.LinAlgError):
            return np.asarray(np.linalg.cholesky(np.linalg.inv(covariance + np.eye(size) * damping)).T)
        damping *= 10
    return np.eye(size)


def _cancelling_codes(filters: Array, steps: Array, covariance: Array) -> Array:
    """``[groups, filters, size]``: all groups and filters at once, one input after another, the strongest first."""
    strength = np.einsum("gii->gi", covariance)
    order = np.argsort(-strength, axis=1, kind="stable")
    damping = _DAMPING * strength.mean(1) + 1e-12
    roots = np.stack(
        [
            _root(matrix[np.ix_(places, places)], float(extra))
            for matrix, places, extra in zip(covariance, order, damping)
        ]
    )
    remaining = np.take_along_axis(filters, order[:, None, :], 2)
    codes = np.empty_like(remaining)
    for index in range(remaining.shape[2]):
        codes[:, :, index] = nearest_codes(remaining[:, :, index], steps)
        error = (remaining[:, :, index] - codes[:, :, index] * steps) / roots[:, None, index, index]
        remaining[:, :, index:] -= error[:, :, None] * roots[:, None, index, index:]
    return np.take_along_axis(codes, np.argsort(order, axis=1)[:, None, :], 2)

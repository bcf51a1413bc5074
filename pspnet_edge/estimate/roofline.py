"""The roofline: a kernel takes as long as its arithmetic or its memory traffic, whichever is longer, and its launch.

S. Williams, A. Waterman, D. Patterson: Roofline, Communications of the ACM 52(4), 2009. What is put on top of it:

- Convolutions run on tensor cores where there are any, in formats that pad channels (16 to 8 values, INT8 to 32).
- Depthwise convolutions run on CUDA cores, in FP16 even where the engine is INT8.
- On CUDA cores 3×3 convolutions of stride 1 are Winograd's F(2×2, 3×3), which multiplies 2.25 times less.
- A layer too small to give every multiprocessor work leaves the others idle.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from .boards import Board
from .kernels import Kernel, Stored


@dataclass(frozen=True)
class Constants:
    """What no data sheet says; fitted to published figures by ``benchmarks/estimate.py``."""

    cuda: float
    """Share of the CUDA cores' peak that a large convolution reaches."""
    tensor: float
    """The same of the tensor cores."""
    bandwidth: float
    """Share of the memory's peak that a kernel reaches."""
    launch_us: float
    """From the end of one kernel to the start of the next, in microseconds."""


FITTED = Constants(cuda=0.48, tensor=0.53, bandwidth=0.54, launch_us=7.9)


@dataclass(frozen=True)
class LayerTime:
    """A kernel's time; ``compute_s`` or ``memory_s`` is zero, whichever did not bound it."""

    name: str
    operation: str
    gmac: float
    megabytes: float
    compute_s: float
    memory_s: float
    overhead_s: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.compute_s + self.memory_s + self.overhead_s


def layer_times(
    kernels: Iterable[Kernel], board: Board, precision: str, constants: Constants = FITTED
) -> tuple[LayerTime, ...]:
    """How long each kernel takes on a board.

    Args:
        kernels: from ``fused_kernels``.
        board: whose peaks bound them.
        precision: ``fp32``, ``fp16`` or ``int8``; the last gives FP16 to what the kernels do not have in INT8.
        constants: how much of the peaks is reached.
    """
    bits = 32 if precision == "fp32" else 16
    times = []
    for kernel in kernels:
        if kernel.operation == "reformat" and bits == 32:
            continue  # the ends of an FP32 engine are what it computes in
        compute = _compute_s(kernel, board, bits, constants)
        moved = _bytes(kernel, board, bits)
        memory = moved / (board.bandwidth_gb_s * 1e9 * constants.bandwidth)
        bound = compute >= memory
        times.append(
            LayerTime(
                kernel.name,
                kernel.operation,
                kernel.macs / 1e9,
                moved / 1e6,
                compute if bound else 0.0,
                0.0 if bound else memory,
                constants.launch_us * 1e-6,
            )
        )
    return tuple(times)


def _compute_s(kernel: Kernel, board: Board, bits: int, constants: Constants) -> float:
    if kernel.cuda_work:
        return kernel.cuda_work / (board.cuda_macs_per_s(32) * constants.cuda)
    if not kernel.macs:
        return 0.0
    bits = 8 if kernel.int8 else bits
    tensor = board.tensor_macs_per_s(bits)
    if kernel.operation == "depthwise" or not tensor:
        winograd = kernel.window == 9 and kernel.stride == 1 and kernel.operation == "conv"
        peak = board.cuda_macs_per_s(max(bits, 16)) * constants.cuda
        return kernel.macs / (2.25 if winograd else 1) / (peak * _occupancy(kernel, board))
    step = {32: 4, 16: 8, 8: 32}[bits]
    padded_in = 4 if kernel.in_channels <= 4 else _up(kernel.in_channels, step)
    padding = padded_in * _up(kernel.out_channels, step) / (kernel.in_channels * kernel.out_channels)
    return kernel.macs * padding / (tensor * constants.tensor * _occupancy(kernel, board))


def _occupancy(kernel: Kernel, board: Board) -> float:
    """Share of the multiprocessors that have work, on average over the waves, with tiles of 64 pixels × 64 channels."""
    pixels = kernel.macs / (kernel.in_channels * kernel.out_channels * kernel.groups * kernel.window)
    tiles = math.ceil(pixels / 64) * math.ceil(kernel.out_channels * kernel.groups / 64)
    return tiles / (math.ceil(tiles / board.processors) * board.processors)


def _bytes(kernel: Kernel, board: Board, bits: int) -> float:
    weights = kernel.weights * (1 if kernel.int8 else bits // 8)
    return weights + sum(_stored_bytes(tensor, board, bits) for tensor in (*kernel.reads, kernel.writes))


def _stored_bytes(tensor: Stored, board: Board, bits: int) -> float:
    if tensor.kind == "float32":
        return tensor.elements * 4
    if tensor.kind not in ("float", "int8"):
        return tensor.elements * int(tensor.kind)
    each = 1 if tensor.kind == "int8" else bits // 8
    if not tensor.channels or not board.tensor_cores or each == 4:
        return tensor.elements * each
    return tensor.elements / tensor.channels * _up(tensor.channels, tensor.lanes or (32 if each == 1 else 8)) * each


def _up(value: int, step: int) -> int:
    return -(-value // step) * step

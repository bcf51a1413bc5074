"""The ends of an engine as our two kernels compute them, in place of what TensorRT launches for those of the graph.

What TensorRT does in three launches each, ``head.h`` and ``tail.h`` do in one, without writing frames in floating point
or logits of full size. Both are bound by instructions rather than by memory on a Jetson, so those are counted too.
"""

from __future__ import annotations

from dataclasses import replace

from .kernels import Kernel, Stored

Size = tuple[int, int]
_VALUE_OF_TAIL = 26
"""FP32 multiply-accumulates, at the share of the peak that convolutions reach, in whose time the tail interpolates and
compares one value: 0.07 ms for 1024×2048 and 19 classes on an H200 (docs/tensorrt.md)."""
_PIXEL_OF_HEAD, _PIXEL_OF_PICTURE = 100, 24
"""The same for a pixel that the head writes, and for one that it averages; counted in its instructions."""
_BGR, _BGRX = 3, 4
_BEGINNING = frozenset(("pointwise", "transpose", "gather"))
_ENDING = frozenset(("resize", "argmax", "pointwise"))
_PRODUCTS = frozenset(("conv", "depthwise", "matmul"))


def with_our_ends(kernels: tuple[Kernel, ...], *, picture_hw: Size | None = None) -> tuple[Kernel, ...]:
    """The kernels of an engine built with ``--head kernel --tail kernel``; an end that our kernels cannot be stays.

    Args:
        kernels: from ``fused_kernels``, of a graph from frames to masks in uint8.
        picture_hw: size of the BGRx pictures that the head resizes; None for BGR frames of the engine's size.
    """
    products = [index for index, kernel in enumerate(kernels) if kernel.operation in _PRODUCTS]
    if not products:
        return kernels
    begin, end = products[0], products[-1] + 1
    before, network, behind = kernels[:begin], kernels[begin:end], kernels[end:]
    if _is_head(before):
        head = _head(before, picture_hw)
        first = replace(network[0], reads=(head.writes, *network[0].reads[1:]))
        before, network = (head,), (first, *network[1:])
    if _is_tail(behind):
        behind = _tail(network[-1].writes, behind[-1])
    return (*before, *network, *behind)


def _is_head(kernels: tuple[Kernel, ...]) -> bool:
    return bool(kernels) and kernels[0].reads[0].kind == "1" and {k.operation for k in kernels} <= _BEGINNING


def _is_tail(kernels: tuple[Kernel, ...]) -> bool:
    operations = [kernel.operation for kernel in kernels]
    found = set(operations) <= _ENDING and operations.count("resize") == operations.count("argmax") == 1
    return found and kernels[-1].writes.kind == "1"


def _head(kernels: tuple[Kernel, ...], picture_hw: Size | None) -> Kernel:
    written, batch = kernels[-1].writes, kernels[0].batch
    pixels = written.elements // written.channels
    of_picture = batch * picture_hw[0] * picture_hw[1] if picture_hw else pixels
    reads = Stored(of_picture * (_BGRX if picture_hw else _BGR), 0, "1")
    work = max(_PIXEL_OF_HEAD * pixels, _PIXEL_OF_PICTURE * of_picture if picture_hw else 0)
    # What the first convolution takes without a reformat: four channels of INT8 beside each other, or eight of FP16.
    writes = replace(written, lanes=4 if written.kind == "int8" else 8)
    return Kernel("head", "head", batch, (reads,), writes, cuda_work=work)


def _tail(logits: Stored, last: Kernel) -> tuple[Kernel, ...]:
    # The plan's output is linear, which the last convolution's format is not.
    linear = replace(logits, channels=0)
    reformat = Kernel("logits", "logits", last.batch, (logits,), linear)
    work = _VALUE_OF_TAIL * last.writes.elements * logits.channels
    return reformat, Kernel("tail", "tail", last.batch, (linear,), last.writes, cuda_work=work)

"""Head and tail prove themselves on the GPU that will run them, before an engine is built around them.

What they compute there is compared, bit by bit, with ``reference.py``: a kernel that a compiler or a driver got wrong
would not fail, it would give wrong masks. It happens in a separate process, because an error of CUDA leaves the process
that met it without a usable context. ``pspnet-edge selftest`` compares the same way, with more networks.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...child import child_command, end_with_parent
from ...data.geometry import FITS, Box, Geometry
from ...errors import BuildError, PspnetEdgeError
from ..facts import HeadFacts, TailFacts
from .driver import load_driver
from .head import KernelHead, head_levels, input_values
from .memory import CudaMemory
from .reference import reference_input, reference_masks
from .runner import Piece
from .tail import KernelTail

LIMIT_S = 180
"""Far more than a proof takes, which is seconds."""
End = Literal["head", "tail"]
Bring = Callable[[NDArray[np.uint8], HeadFacts, tuple[int, int], Box, int], NDArray[np.generic]]
"""A picture of any pitch, the head, size of the input, where the picture lies in it and lanes → the input."""
Masks = Callable[[NDArray[np.floating], tuple[int, int], bool], NDArray[np.uint8]]
"""Logits, size of the mask, align_corners → masks."""
PICTURES = (
    # picture, input: growing, shrinking by less and more than half, by whole factors, one side each way, a single pixel
    ((30, 41), (48, 60)),
    ((61, 83), (48, 60)),
    ((131, 67), (48, 60)),
    ((211, 307), (48, 60)),
    ((96, 120), (48, 60)),
    ((144, 180), (48, 60)),
    ((40, 200), (48, 60)),
    ((48, 60), (48, 60)),
    ((1, 1), (7, 5)),
    ((720, 1280), (97, 121)),
)
_CAMERAS = ((1080, 1920), (719, 1283), (97, 131))
_LOGITS = (
    # logits, mask
    ((9, 11), (71, 83)),
    ((1, 5), (7, 33)),
    ((8, 8), (8, 8)),
)
_LANES = {"float32": (1,), "float16": (1, 8), "int8": (1, 4)}
"""What a plan's input may have, by its type: see ``versions.INPUT_FORMATS``."""


def prove(end: End, facts: HeadFacts | TailFacts, shape_nhw: tuple[int, int, int], limit_s: float = LIMIT_S) -> None:
    """Run a kernel on this machine's GPU, in a separate process, and compare what it gives.

    Args:
        end: which one.
        facts: as they go into the sidecar.
        shape_nhw: frames a batch, height and width of the engine.
        limit_s: how long it may take.

    Raises:
        BuildError: it gives something else, or fails; with what was seen.
    """
    request = json.dumps({"end": end, "facts": facts, "shape_nhw": shape_nhw})
    try:
        done = subprocess.run(
            child_command(__name__), input=request, capture_output=True, text=True, errors="replace", timeout=limit_s
        )
        reason = _reason(done)
    except subprocess.TimeoutExpired:
        reason = f"it takes longer than {limit_s:g} s"
    if reason:
        raise BuildError(f"the {end}'s kernel failed its test on this GPU: {reason}", f"build with --{end} graph")


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    for line in reversed(done.stdout.splitlines()):
        if line.startswith('{"complaint"'):
            return str(json.loads(line)["complaint"])
    if done.returncode < 0:
        return f"it crashed ({signal.Signals(-done.returncode).name})"
    last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    return f"its test ended with status {done.returncode}: {last[:200]}"


def head_complaint(bring: Bring, facts: HeadFacts, size_hw: tuple[int, int]) -> str:
    """What is wrong with the input that a head makes of pictures of many sizes and layouts; empty if nothing."""
    order = facts["order"]
    orders = [order, order[::-1]] if len(order) > 1 else [order]
    layouts = list(itertools.product(orders, sorted({len(order), 4}), _LANES[facts["dtype"]]))
    # A picture of a camera's size is large, so that each has one layout of pixels.
    cases = [(*sizes, layouts) for sizes in PICTURES]
    cases += [(picture, size_hw, [layouts[index % len(layouts)]]) for index, picture in enumerate(_CAMERAS)]
    drawn = np.random.default_rng(21)
    fits = itertools.cycle(FITS)
    for picture_hw, target_hw, chosen in cases:
        for permuted, pixel_bytes, lanes in chosen:
            # Rows are longer than the picture, as those of a camera's buffer.
            rows = drawn.integers(0, 256, (picture_hw[0], picture_hw[1] + 7, pixel_bytes), np.uint8)
            with_order: HeadFacts = {**facts, "order": permuted}
            if complaint := input_complaint(bring, with_order, rows[:, : picture_hw[1]], target_hw, next(fits), lanes):
                return complaint
    return ""


def input_complaint(
    bring: Bring, facts: HeadFacts, picture: NDArray[np.uint8], size_hw: tuple[int, int], fit: str, lanes: int
) -> str:
    """How the input that a head makes of one picture differs from the resized frame's; empty if it does not."""
    height, width, pixel_bytes = picture.shape
    (window,) = Geometry(fit).layout((height, width), size_hw).windows
    region = picture[window.source.slices]
    found = bring(region, facts, size_hw, window.inner, lanes)
    expected = reference_input(region, head_levels(facts), facts["order"], size_hw, window.inner, lanes)
    wrong = int((found.ravel() != expected.ravel()).sum())
    if not wrong:
        return ""
    return (
        f"{wrong} of {expected.size} values of the input differ from the resized frame's ({height}x{width} to "
        f"{size_hw[0]}x{size_hw[1]}, {fit}, {pixel_bytes} bytes a pixel, {facts['dtype']}, {lanes} lanes)"
    )


def tail_complaint(masks: Masks, facts: TailFacts, shape_nhw: tuple[int, int, int]) -> str:
    """What is wrong with the masks that a tail makes of logits of several sizes, with ties; empty if nothing."""
    rows, columns = facts["logits_hw"]
    for number, (batch, logits_hw, size_hw) in enumerate(
        [*((2, *sizes) for sizes in _LOGITS), (shape_nhw[0], (rows, columns), shape_nhw[1:])]
    ):
        shape = (batch, facts["classes"], *logits_hw)
        normal = np.random.default_rng(number).normal(0, 2, shape).astype(facts["dtype"])
        for logits in (normal, np.round(normal)):
            if complaint := mask_complaint(masks, logits, size_hw, facts["align_corners"]):
                return complaint
    return ""


def mask_complaint(masks: Masks, logits: NDArray[np.floating], size_hw: tuple[int, int], align_corners: bool) -> str:
    """How masks differ from what the ONNX graph makes of the same logits; empty if they do not."""
    found, expected = masks(logits, size_hw, align_corners), reference_masks(logits, size_hw, align_corners)
    wrong = int((found != expected).sum())
    if not wrong:
        return ""
    return (
        f"{wrong} of {expected.size} pixels differ from the graph's ({logits.shape[1]} classes, "
        f"{logits.shape[2]}x{logits.shape[3]} to {size_hw[0]}x{size_hw[1]}, {logits.dtype.name})"
    )


class _KeptInput:
    """A network that copies its input to the processor."""

    def __init__(self, room: NDArray[np.generic]) -> None:
        self._room = room

    def enqueue(self, frames: int, masks: int, stream: int) -> None:
        """See ``runner.Executor``."""
        room = self._room.ctypes.data_as(ctypes.c_void_p)
        load_driver().call("cuMemcpyDtoHAsync_v2", room, frames, self._room.nbytes, stream)

    def close(self) -> None:
        """See ``runner.Executor``."""


class StoredLogits:
    """A network that gives the same logits for every frame, copied to where they are wanted."""

    def __init__(self, logits: NDArray[np.floating]) -> None:
        self._logits = np.ascontiguousarray(logits)

    def enqueue(self, frames: int, masks: int, stream: int) -> None:
        """See ``runner.Executor``."""
        source = self._logits.ctypes.data_as(ctypes.c_void_p)
        load_driver().call("cuMemcpyHtoDAsync_v2", masks, source, self._logits.nbytes, stream)

    def close(self) -> None:
        """See ``runner.Executor``."""


def input_on_gpu(
    memory: CudaMemory,
    picture: NDArray[np.uint8],
    facts: HeadFacts,
    size_hw: tuple[int, int],
    inner: Box,
    lanes: int,
) -> NDArray[np.generic]:
    """The network's input for one picture, by the product's head; the context is current."""
    pitch, pixel_bytes, _ = picture.strides
    rows, columns, _ = picture.shape
    room = np.zeros(input_values(facts, lanes, size_hw), facts["dtype"])
    head = KernelHead(_KeptInput(room), memory, facts, (1, *size_hw), lanes)
    fitted = head.fit((Piece((rows, columns), pixel_bytes, inner, pitch),))
    pixels = memory.store(np.lib.stride_tricks.as_strided(picture, ((rows - 1) * pitch + columns * pixel_bytes,), (1,)))
    head.enqueue_fitted(fitted, pixels, 0, memory.stream)
    memory.synchronise()
    memory.free_device(pixels)
    head.free(fitted)
    head.close()
    return room


def masks_on_gpu(
    memory: CudaMemory, facts: TailFacts, logits: NDArray[np.floating], size_hw: tuple[int, int]
) -> NDArray[np.uint8]:
    """The masks of logits ``[N, classes, h, w]``, by the product's tail; the context is current."""
    shape_nhw = (logits.shape[0], *size_hw)
    tail = KernelTail(StoredLogits(logits), memory, facts, shape_nhw)
    masks = memory.allocate(int(np.prod(shape_nhw)))
    masks.host[:] = 0xEE
    memory.enqueue_upload(masks)
    tail.enqueue(0, masks.address, memory.stream)
    memory.enqueue_download(masks)
    memory.synchronise()
    found: NDArray[np.uint8] = masks.host.reshape(shape_nhw).copy()
    memory.free(masks)
    tail.close()
    return found


def _complaint(memory: CudaMemory, end: End, facts: Any, shape_nhw: tuple[int, int, int]) -> str:
    def bring(
        picture: NDArray[np.uint8], head: HeadFacts, size_hw: tuple[int, int], inner: Box, lanes: int
    ) -> NDArray[np.generic]:
        return input_on_gpu(memory, picture, head, size_hw, inner, lanes)

    def masks(logits: NDArray[np.floating], size_hw: tuple[int, int], align_corners: bool) -> NDArray[np.uint8]:
        return masks_on_gpu(memory, facts | {"logits_hw": logits.shape[2:]}, logits, size_hw)

    return head_complaint(bring, facts, shape_nhw[1:]) if end == "head" else tail_complaint(masks, facts, shape_nhw)


def main() -> None:
    """The child's side: the request comes through standard input, the answer is a line of JSON."""
    end_with_parent()
    request = json.load(sys.stdin)
    batch, height, width = request["shape_nhw"]
    try:
        memory = CudaMemory()
        with memory.current():
            complaint = _complaint(memory, request["end"], request["facts"], (batch, height, width))
    except PspnetEdgeError as error:
        complaint = error.problem
    print(json.dumps({"complaint": complaint}), flush=True)


if __name__ == "__main__":
    main()

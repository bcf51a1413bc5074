"""Frames through an engine, two in flight: while the GPU works on one, the host writes the next and reads the last.

The runner knows neither TensorRT nor CUDA: ``Executor`` enqueues the network, ``Memory`` is the device. It may be used
from any one thread at a time; each call makes the context current in that thread and puts back what was there, so it
does not matter which thread opened or closes it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ...data.geometry import Box
from ...errors import EngineError
from ..session import IN_FLIGHT, View
from .memory import Buffer, Memory, Replay

_log = logging.getLogger(__name__)


class Executor(Protocol):
    """The network of one engine."""

    def enqueue(self, frames: int, masks: int, stream: int) -> None:
        """Put one inference on a stream, from a buffer's address to another's. Raises ``EngineError``."""

    def close(self) -> None:
        """Free the network. Called once, with the context current and nothing enqueued."""


@dataclass(frozen=True)
class Piece:
    """A picture as it lies in a buffer, row behind row, and where it goes."""

    size_hw: tuple[int, int]
    pixel_bytes: int
    inner: Box
    """Where it lies in the engine's input; a margin is around it."""
    pitch: int = 0
    """Bytes from one row to the next; 0 where rows follow each other."""

    @property
    def nbytes(self) -> int:
        """Of its pixels."""
        return self.size_hw[0] * self.size_hw[1] * self.pixel_bytes


@runtime_checkable
class FittingExecutor(Protocol):
    """The network of an engine that brings pictures of any size to its own."""

    def fit(self, pieces: tuple[Piece, ...]) -> Any:
        """What ``enqueue_fitted`` needs for such pictures; ``free`` gives it back."""

    def free(self, fitted: Any) -> None:
        """Forget what ``fit`` gave; nothing enqueued may still use it."""

    def enqueue_fitted(self, fitted: Any, pixels: int, masks: int, stream: int) -> None:
        """Put one inference on a stream, from the pictures' address, which lie behind each other, to the masks'."""

    def close(self) -> None:
        """As of ``Executor``."""


class _Slot:
    """One batch's buffers and, once warm, its recorded work."""

    def __init__(self) -> None:
        self.frames: Buffer | None = None
        self.masks: Buffer | None = None
        self.pieces: tuple[Piece, ...] = ()
        self.fitted: Any = None
        self.replay: Replay | None = None
        self.runs = 0
        self.mark: object = None


class Runner:
    """A session of ``engine.base``, with ``submit`` and ``take`` beside ``infer`` for loops that overlap frames.

    Args:
        executor: the network; the runner closes it.
        memory: the device; the runner releases it.
        shape_nhw: frames per batch, height and width in pixels.
        channels: of a frame.

    Raises:
        EngineError: the buffers are unavailable; everything is freed, the executor and the memory too.
    """

    output_is_reused = True

    def __init__(
        self,
        executor: Executor | FittingExecutor,
        memory: Memory,
        shape_nhw: tuple[int, int, int],
        channels: int = 3,
    ) -> None:
        self._executor, self._memory = executor, memory
        self._fitting = executor if isinstance(executor, FittingExecutor) else None
        self.fits = self._fitting is not None
        self._shape, self._channels = shape_nhw, channels
        whole = Piece(shape_nhw[1:], channels, Box(0, 0, *shape_nhw[1:]))
        self._whole = (whole,) * shape_nhw[0]
        self._in_use = threading.Lock()
        self._running: deque[_Slot] = deque()
        self._idle: deque[_Slot] = deque()
        self._closed = False
        self._records = True
        self._held = contextlib.ExitStack()
        # Freed from the last to the first: waiting comes before buffers, buffers before the network, the device last.
        self._held.callback(memory.release)
        self._held.callback(self._in_context, executor.close)
        try:
            with memory.current():
                self._idle.extend(self._new_slot() for _ in range(IN_FLIGHT))
        except Exception as error:
            self._give_up()
            raise EngineError(
                f"not enough GPU memory for the frames ({error}): close other programs or use a smaller engine"
            ) from error
        self._held.callback(self._in_context, memory.synchronise)

    def infer(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """``uint8 [N, H, W, 3]`` → ``uint8 [N, H, W]``, overwritten by the next call but one.

        Raises:
            EngineError: the device failed, frames are in flight that ``take`` has not fetched, or two threads met here.
        """
        if self._running:
            raise EngineError("a frame is in flight: take its mask before infer")
        self.submit(frames)
        return self.take()

    def submit(self, frames: NDArray[np.uint8]) -> None:
        """Begin with a batch; ``frames`` may be overwritten as soon as this returns.

        Raises:
            EngineError: the device failed, or as many batches are in flight as fit.
        """
        if frames.shape != (*self._shape, self._channels):
            raise ValueError(f"frames of shape {frames.shape}, expected {(*self._shape, self._channels)}")
        self._submit(frames, self._whole)

    def submit_views(self, views: Sequence[View]) -> None:
        """Begin with up to ``N`` pictures of any size; see ``session.FittingSession``.

        Raises:
            EngineError: as ``submit`` does, or the engine was built without the head's kernel.
        """
        if self._fitting is None:
            raise EngineError("the engine takes only frames of one size: rebuild it with --head kernel")
        pixels = [view.frame[view.window.source.slices] for view in views]
        pieces = tuple(Piece(view.window.source.size_hw, view.frame.shape[2], view.window.inner) for view in views)
        self._submit(pixels, pieces)

    def _submit(self, pixels: Sequence[NDArray[np.uint8]] | NDArray[np.uint8], pieces: tuple[Piece, ...]) -> None:
        with self._one_thread():
            if not self._idle:
                raise EngineError(f"{IN_FLIGHT} frames are in flight: take a mask before the next frame")
            slot = self._idle[0]
            if slot.pieces != pieces:
                with self._on_device():
                    self._fit(slot, pieces)
            assert slot.frames is not None
            begin = 0
            for piece, picture in zip(pieces, pixels, strict=True):
                room = slot.frames.host[begin : begin + piece.nbytes]
                np.copyto(room.reshape(*piece.size_hw, piece.pixel_bytes), picture)
                begin += piece.nbytes
            self._idle.popleft()
            with self._on_device():
                self._enqueue(slot)
                slot.mark = self._memory.record()
            self._running.append(slot)

    def take(self) -> NDArray[np.uint8]:
        """Wait for the oldest batch in flight: ``uint8 [N, H, W]``, overwritten by the next ``submit`` but one.

        The array is the device's own memory and gone after ``close``.

        Raises:
            EngineError: the device failed, or no batch is in flight.
        """
        with self._one_thread():
            if not self._running:
                raise EngineError("no frame is in flight: submit one before taking a mask")
            slot = self._running.popleft()
            with self._on_device():
                self._memory.wait(slot.mark)
            self._idle.append(slot)
            assert slot.masks is not None
            return slot.masks.host.reshape(self._shape)

    def close(self) -> None:
        """Wait for what is in flight and free everything, even when the device fails meanwhile.

        Raises:
            EngineError: something could not be freed; the rest is.
        """
        with self._one_thread(closing=True):
            self._closed = True
            self._running.clear()
            try:
                self._held.close()
            except Exception as error:
                raise EngineError(
                    f"the GPU failed while it was freed ({error}): restart if it happens again"
                ) from error

    def _enqueue(self, slot: _Slot) -> None:
        """The first run warms up, the second is recorded, all later ones are replayed."""
        if slot.runs == 1 and self._records:
            slot.replay = self._recorded(slot)
        slot.runs += 1
        if slot.replay is not None:
            slot.replay.launch()
        else:
            self._enqueue_steps(slot)

    def _recorded(self, slot: _Slot) -> Replay | None:
        """The work of a slot as one replayable graph; None, said once, where that is refused: it only speeds up."""
        try:
            replay = self._memory.capture(lambda: self._enqueue_steps(slot))
            reason = "the driver or the engine refuses it"
        except Exception as error:  # running the same work unrecorded decides whether this matters
            replay, reason = None, str(error)
        if replay is None:
            self._records = False
            _log.warning("frames are not replayed as a CUDA graph (%s): each takes a little longer to start", reason)
        return replay

    def _enqueue_steps(self, slot: _Slot) -> None:
        assert slot.frames is not None
        assert slot.masks is not None
        self._memory.enqueue_upload(slot.frames)
        if isinstance(self._executor, FittingExecutor):
            self._executor.enqueue_fitted(slot.fitted, slot.frames.address, slot.masks.address, self._memory.stream)
        else:
            self._executor.enqueue(slot.frames.address, slot.masks.address, self._memory.stream)
        self._memory.enqueue_download(slot.masks)

    def _new_slot(self) -> _Slot:
        slot = _Slot()
        for free in (self._free_masks, self._free_frames, self._free_fitted, self._free_replay):
            self._held.callback(self._in_context, free, slot)
        slot.masks = self._memory.allocate(math.prod(self._shape))
        self._fit(slot, self._whole)
        return slot

    def _fit(self, slot: _Slot, pieces: tuple[Piece, ...]) -> None:
        """Make an idle slot one for such pictures; its work is recorded again."""
        if slot.pieces:
            self._memory.synchronise()
        self._free_replay(slot)
        self._free_fitted(slot)
        slot.pieces, slot.runs = (), 0
        nbytes = sum(piece.nbytes for piece in pieces)
        if slot.frames is None or slot.frames.host.nbytes != nbytes:
            self._free_frames(slot)
            slot.frames = self._memory.allocate(nbytes)
        if self._fitting is not None:
            slot.fitted = self._fitting.fit(pieces)
        slot.pieces = pieces

    # Each forgets before it frees, so that what fails is not tried again.

    def _free_frames(self, slot: _Slot) -> None:
        frames, slot.frames = slot.frames, None
        if frames is not None:
            self._memory.free(frames)

    def _free_masks(self, slot: _Slot) -> None:
        masks, slot.masks = slot.masks, None
        if masks is not None:
            self._memory.free(masks)

    def _free_fitted(self, slot: _Slot) -> None:
        fitted, slot.fitted = slot.fitted, None
        if fitted is not None and self._fitting is not None:
            self._fitting.free(fitted)

    def _free_replay(self, slot: _Slot) -> None:
        replay, slot.replay = slot.replay, None
        if replay is not None:
            replay.free()

    def _in_context(self, call: Callable[..., object], *arguments: object) -> None:
        with self._memory.current():
            call(*arguments)

    @contextlib.contextmanager
    def _one_thread(self, closing: bool = False) -> Iterator[None]:
        if not self._in_use.acquire(blocking=False):
            raise EngineError("two threads use one engine at once: open one engine per thread")
        try:
            if self._closed and not closing:
                raise EngineError("the engine is closed or has failed: open it again")
            yield
        finally:
            self._in_use.release()

    @contextlib.contextmanager
    def _on_device(self) -> Iterator[None]:
        """With the context current; a failure ends the runner, because CUDA seldom recovers from one."""
        try:
            with self._memory.current():
                yield
        except Exception as error:
            self._give_up()
            raise EngineError(f"the GPU failed ({error}): open the engine again, and restart if that fails") from error

    def _give_up(self) -> None:
        """Free everything now; what fails on the way has nothing to add to the failure that led here."""
        self._closed = True
        self._running.clear()
        with contextlib.suppress(Exception):
            self._held.close()

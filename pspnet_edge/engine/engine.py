"""An opened engine: frames in, masks out, whichever runtime computes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from ..labels import LabelSet
from ..pixels import PixelFormat
from ..records import JsonRecord, counted
from .facts import EngineFacts
from .session import FittingSession, OverlappingSession, ScoringSession, Session, View
from .sharing import Share, SharedSession


@dataclass(frozen=True)
class EngineInfo(JsonRecord):
    """What an engine is, from its sidecar."""

    path: Path
    runtime: str
    precision: str
    shape_nhw: tuple[int, int, int]
    """Frames per batch, height and width in pixels."""
    label_set: LabelSet
    facts: EngineFacts
    """The whole sidecar."""
    channels: int = 3
    """Channels of a frame: 3 for BGR."""
    scores_hw: tuple[int, int] | None = None
    """Height and width of the scores, of an engine that was built with them."""

    @property
    def pixels(self) -> PixelFormat:
        """How pictures become frames: channels, and the range of deep pictures that the network was trained with.

        Raises:
            EngineError: what the sidecar says of it is damaged.
        """
        try:
            stored = self.facts.get("pixels") or {}
            return PixelFormat.from_dict({**stored, "channels": self.channels})
        except (TypeError, ValueError) as error:
            raise EngineError(f"the sidecar of {self.path} is damaged ({error})", "build the engine again") from error


class Engine:
    """An opened engine: frames in, masks out.

    Use it as a context manager, or call ``close``. Every array that it returns is the caller's own: no later call
    overwrites it, and it outlives the engine. Threads may use one engine; they take turns at the runtime.
    """

    def __init__(self, info: EngineInfo, session: Session) -> None:
        self.info = info
        self._session = session if isinstance(session, Share) else SharedSession(session, info.path.name).open_share()
        self._closed = False
        self._expected = (*info.shape_nhw, info.channels)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the frames in pixels."""
        return self.info.shape_nhw[1:]

    def with_channels(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A frame ``uint8 [H, W, 3]`` BGR with the channels that the network takes: itself, or grey.

        Raises:
            EngineError: the network takes a fourth channel, which the frame lacks.
        """
        if frame.ndim == 3 and frame.shape[2] == self.info.channels:
            return frame
        try:
            return self.info.pixels.frame(frame)
        except ValueError as error:
            raise EngineError(
                f"the frame does not fit {self.info.path}: {error}", "give images of four channels"
            ) from error

    def infer(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Segment a batch: ``uint8 [N, H, W, 3]`` BGR → ``uint8 [N, H, W]`` class ids.

        Raises:
            EngineError: the batch is not such an array.
        """
        self._check(frames)
        return self._session.infer(frames)

    def infer_scores(self, frames: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Masks as of ``infer``, and how sure the network is: ``float32 [N, h, w]``, 0–1, at ``info.scores_hw``.

        Raises:
            EngineError: the engine was built without scores, or the batch is not such an array.
        """
        self._check(frames)
        if self.info.scores_hw is None or not isinstance(self._session, ScoringSession):
            raise EngineError(
                f"{self.info.path.name} gives masks and no scores",
                "build it with scores for OpenVINO or ONNX Runtime",
                "pspnet-edge build MODEL --scores -o ENGINE",
            )
        return self._session.infer_scores(frames)

    @property
    def overlaps(self) -> bool:
        """Whether there are ``submit`` and ``take``, for more frames a second at a longer latency each."""
        return isinstance(self._session, OverlappingSession)

    def submit(self, frames: NDArray[np.uint8]) -> None:
        """Begin with a batch ``uint8 [N, H, W, 3]``, which may be overwritten as soon as this returns.

        ``take`` gives the masks in the order of ``submit``, whichever thread asks: threads that overlap batches need a
        handle each, from ``share``.

        Raises:
            EngineError: the batch is not such an array, as many batches as fit wait to be taken, or the
                session does not overlap.
        """
        self._check(frames)
        self._overlapping().submit(frames)

    def take(self) -> NDArray[np.uint8]:
        """Wait for the masks of the oldest batch in flight: ``uint8 [N, H, W]``.

        Raises:
            EngineError: no batch is in flight, or the session does not overlap.
        """
        return self._overlapping().take()

    @property
    def fits(self) -> bool:
        """Whether pictures of any size go in as they are, through ``submit_views`` and ``infer_views``."""
        return isinstance(self._session, FittingSession) and self._session.fits

    def submit_views(self, views: Sequence[View]) -> None:
        """Like ``submit`` with up to ``N`` pictures ``uint8 [H, W, C]`` of any size, which the GPU resizes.

        Raises:
            EngineError: as many batches as fit wait to be taken, or the session does not take such.
        """
        if not isinstance(self._session, FittingSession):
            raise EngineError(f"{self.info.runtime} takes only frames of one size: use infer")
        self._session.submit_views(views)

    def infer_views(self, views: Sequence[View]) -> NDArray[np.uint8]:
        """Masks ``uint8 [N, H, W]`` of up to ``N`` pictures of any size; those behind the last picture mean nothing.

        An engine that takes only frames of its size gets them resized here.
        """
        if self.fits:
            self.submit_views(views)
            return self.take()
        from ..data.geometry import engine_input

        frames = np.zeros((*self.info.shape_nhw, self.info.channels), np.uint8)
        for row, view in zip(frames, views, strict=False):
            row[:] = engine_input(view.frame, view.window, self.size_hw)
        return self.infer(frames)

    def share(self) -> Engine:
        """Another handle on the same runtime, for one more thread or stream.

        The handles, this one included, take turns, and each takes the masks of what it submitted. Closing any closes
        the runtime for all.
        """
        return Engine(self.info, self._session.open_another())

    def close(self) -> None:
        """Free the runtime. Closing again does nothing; using a closed engine raises ``EngineError``."""
        if not self._closed:
            self._closed = True
            self._session.close()

    def _check(self, frames: NDArray[np.uint8]) -> None:
        """Each batch: a runtime converts another type silently, and may read beyond the end of a smaller array."""
        if not isinstance(frames, np.ndarray):
            raise EngineError(
                f"{self.info.path.name} takes an array of uint8 frames of shape {self._expected}, "
                f"not {type(frames).__name__}: stack frames with numpy.stack"
            )
        if frames.shape != self._expected or frames.dtype != np.uint8:
            batch, height, width, _ = self._expected
            fix = f"resize each frame to {height}x{width} first"
            if frames.shape[1:] == self._expected[1:] and frames.dtype == np.uint8:
                fix = f"give {counted(batch, 'frame')} at a time, or export the model with --batch {len(frames)}"
            elif frames.shape == self._expected[1:]:
                fix = "give a batch: frame[None]"
            takes = f"{self.info.path.name} takes uint8 frames of shape {self._expected}"
            raise EngineError(f"{takes}, got {frames.dtype} {frames.shape}", fix)

    def _overlapping(self) -> OverlappingSession:
        if not isinstance(self._session, OverlappingSession):
            raise EngineError(f"{self.info.runtime} works on one batch at a time: use infer")
        return self._session

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

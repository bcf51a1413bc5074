"""The camera loop as Python: frames in, masks out."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data.geometry import frame_at, mask_at
from ..engine.backends import open_engine
from ..engine.engine import Engine
from ..errors import EngineError
from .loop import Loop
from .sources import Settings, Source, open_source

Frame = NDArray[np.uint8]
Mask = NDArray[np.uint8]


class Segmenter:
    """Segments single frames and streams of them::

        with Segmenter("pspnet.engine") as segmenter:
            for frame, mask in segmenter.stream(0):
                ...

    Args:
        engine: an opened engine, which stays the caller's, or the path of one, which ``close`` closes.

    Raises:
        EngineError: there is no such engine or it does not fit this machine.
    """

    def __init__(self, engine: Engine | Path | str) -> None:
        self._held = contextlib.ExitStack()
        self.engine = engine if isinstance(engine, Engine) else self._held.enter_context(open_engine(Path(engine)))
        batch, height, width = self.engine.info.shape_nhw
        self._frames = np.zeros((batch, height, width, 3), np.uint8)

    def __call__(self, frame: Frame) -> Mask:
        """Segment one frame: BGR ``uint8 [H, W, 3]`` → class ids ``uint8 [H, W]``, the caller's own.

        Raises:
            EngineError: it is no such frame, or the runtime failed.
        """
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise EngineError(
                f"a frame is BGR uint8 [H, W, 3], got {frame.dtype} {list(frame.shape)}: convert it first"
            )
        size_hw = (frame.shape[0], frame.shape[1])
        self._frames[0] = frame_at(frame, self.engine.size_hw)
        mask = self.engine.infer(self._frames)[0]
        # Stretching makes a new array; an equal size does not.
        return mask.copy() if mask.shape == size_hw else mask_at(mask, size_hw)

    def stream(
        self, source: Source | int | str | Path | Iterable[Frame], settings: Settings | None = None
    ) -> Generator[tuple[Frame, Mask], None, None]:
        """Frames and their masks at the frame's size, as they are made; capture and inference go on meanwhile.

        Of a live source every frame given is the newest there is, and a lost one is waited for; of others every frame
        is given, in order.

        Args:
            source: index of a camera, anything that ``--input`` takes, a ``Source``, or any iterable of frames. What
                is opened here is closed at the end; a ``Source`` stays open.
            settings: for a camera or stream that is opened here.

        Raises:
            SourceError: it cannot be opened or read.
            EngineError: the runtime failed.
        """
        with contextlib.ExitStack() as held:
            opened = _opened(source, settings or Settings())
            if opened is not source:
                held.callback(opened.close)
            shots = held.enter_context(contextlib.closing(Loop([opened], self.engine, []).shots()))
            for shot in shots:
                if not shot.banner:
                    yield shot.frame, mask_at(shot.mask, (shot.frame.shape[0], shot.frame.shape[1]))

    def close(self) -> None:
        """Close the engine, if it was opened here."""
        self._held.close()

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _Frames:
    """An iterable of frames as a ``Source``."""

    name = "frames"
    live = False
    fps = 30.0

    def __init__(self, frames: Iterable[Frame]) -> None:
        self._frames = iter(frames)

    def read(self) -> Frame | None:
        """See ``Source``."""
        return next(self._frames, None)

    def close(self) -> None:
        """See ``Source``."""


def _opened(source: Source | int | str | Path | Iterable[Frame], settings: Settings) -> Source:
    if isinstance(source, int):
        return open_source(source, None, settings)
    if isinstance(source, (str, Path)):
        place = str(source)
        return open_source(place, None, settings) if place.startswith("/dev/") else open_source(None, place, settings)
    if isinstance(source, Source):
        return source
    return _Frames(source)

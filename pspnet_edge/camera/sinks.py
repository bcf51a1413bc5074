"""Where pictures go: a window, a video file."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ..artifact import atomic_path, ensure_writable
from ..errors import OptionError, OutputError

VIEWS = ("auto", "window", "none")
_CONTAINERS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}


class Sink(Protocol):
    """Takes finished pictures, on the main thread."""

    def show(self, picture: NDArray[np.uint8]) -> bool:
        """Take one BGR picture ``uint8 [H, W, 3]``; False when the user wants to stop."""


def has_display() -> bool:
    """Whether a window could be opened. Asked first, because Qt ends the process where there is none."""
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def check_view(view: str) -> str:
    """Resolve ``auto`` and refuse what cannot be.

    Raises:
        OptionError: an unknown view.
        OutputError: a window where there is no display.
    """
    if view not in VIEWS:
        raise OptionError(f"there is no view {view!r}: choose one of {', '.join(VIEWS)}")
    if view == "auto":
        return "window" if has_display() else "none"
    if view == "window" and not has_display():
        raise OutputError("there is no display for a window: use --view none, with --record FILE to keep the pictures")
    return view


class Window:
    """A window on the local display; q or Escape closes it."""

    _TITLE = "pspnet-edge"

    def __enter__(self) -> Window:
        try:
            cv2.namedWindow(self._TITLE, cv2.WINDOW_NORMAL)
        except cv2.error as error:
            raise OutputError(
                "this OpenCV was built without windows: use --view none or install opencv-python"
            ) from error
        return self

    def show(self, picture: NDArray[np.uint8]) -> bool:
        """See ``Sink``."""
        cv2.imshow(self._TITLE, picture)
        return cv2.waitKey(1) & 0xFF not in (ord("q"), 27)

    def __exit__(self, *exception: object) -> None:
        cv2.destroyWindow(self._TITLE)


class Recorder:
    """A video file that appears when recording ends well and not before.

    Args:
        path: ``.mp4``, ``.mkv`` (MPEG-4) or ``.avi`` (Motion JPEG).
        fps: frames a second at which it plays.
    """

    def __init__(self, path: Path, fps: float) -> None:
        if path.suffix.lower() not in _CONTAINERS:
            raise OptionError(f"{path} has no suffix of a video: name it {', '.join(sorted(_CONTAINERS))}")
        ensure_writable(path)
        self._path = path
        self._fps = fps
        self._writer: cv2.VideoWriter | None = None
        self._size_wh = (0, 0)
        self._pending = contextlib.ExitStack()

    def __enter__(self) -> Recorder:
        self._temporary = self._pending.enter_context(atomic_path(self._path))
        return self

    def show(self, picture: NDArray[np.uint8]) -> bool:
        """See ``Sink``. A video has one size: later pictures are stretched to the first one's."""
        if self._writer is None:
            self._size_wh = (picture.shape[1], picture.shape[0])
            code = cv2.VideoWriter.fourcc(*_CONTAINERS[self._path.suffix.lower()])
            self._writer = cv2.VideoWriter(str(self._temporary), code, self._fps, self._size_wh)
            if not self._writer.isOpened():
                raise OutputError(f"OpenCV cannot encode {self._path}: try the suffix .avi")
        if (picture.shape[1], picture.shape[0]) != self._size_wh:
            picture = np.asarray(cv2.resize(picture, self._size_wh), np.uint8)
        self._writer.write(picture)
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.release()
        self._pending.__exit__(kind, error, trace)

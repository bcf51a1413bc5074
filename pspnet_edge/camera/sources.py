"""Where frames come from: cameras, video files, folders of images, the procedural demo drive."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ..data.images import SUFFIXES, ImageFiles
from ..data.scenes import FRAMES_PER_SECOND, Drive
from ..errors import DataError, OptionError, SourceError

Frame = NDArray[np.uint8]

_DEFAULT_FPS = 30.0


class Source(Protocol):
    """A stream of BGR frames ``uint8 [H, W, 3]``, read by one thread."""

    name: str
    live: bool
    """A live source goes on by itself: a frame not taken in time is gone. Others wait and lose nothing."""
    fps: float
    """Frames a second at which it was, or would be, shown."""

    def read(self) -> Frame | None:
        """The next frame, or None at the end."""

    def close(self) -> None:
        """Free the device or file."""


def open_source(camera: int | None, place: str | None) -> Source:
    """Open what the command line names: ``--camera N`` or ``--input PLACE``.

    Args:
        camera: index of a V4L2 camera.
        place: a video file, a folder of images, one image, or ``demo``.

    Raises:
        OptionError: neither or both are given.
        SourceError: it cannot be opened or holds no frame.
    """
    if (camera is None) == (place is None):
        raise OptionError("give either --camera N or --input PLACE; --input demo needs neither camera nor file")
    if camera is not None:
        return CameraSource(camera)
    assert place is not None
    if place == "demo":
        return DemoSource()
    path = Path(place)
    if path.is_dir():
        return ImageSource(path)
    if not path.exists():
        raise SourceError(f"there is no file or folder {path}: give --input a video, a folder of images, or demo")
    if path.suffix.lower() in SUFFIXES:
        return ImageSource(path)
    return VideoSource(path)


class CameraSource:
    """A camera that OpenCV can open by its index."""

    live = True

    def __init__(self, index: int) -> None:
        self.name = f"camera {index}"
        device = Path(f"/dev/video{index}")
        if not device.exists():
            found = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "none"
            raise SourceError(
                f"there is no camera {index} (found: {found}): choose another --camera, or use --input demo"
            )
        if not os.access(device, os.R_OK | os.W_OK):
            raise SourceError(
                f"{device} may not be opened by this user: sudo usermod -aG video $USER, then log in again"
            )
        self._capture = _capture(str(device), cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise SourceError(f"{device} does not open: another program may hold it, see `fuser {device}`")
        # The driver keeps old frames in a queue; one is enough for a loop that wants the newest.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self.fps = self._capture.get(cv2.CAP_PROP_FPS) or _DEFAULT_FPS

    def read(self) -> Frame | None:
        """See ``Source``."""
        ok, frame = self._capture.read()
        if not ok:
            raise SourceError(f"{self.name} stopped giving frames: check its cable and start again")
        return np.asarray(frame, np.uint8)

    def close(self) -> None:
        """See ``Source``."""
        self._capture.release()


class VideoSource:
    """A video file, every frame in order."""

    live = False

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._capture = _capture(str(path), cv2.CAP_FFMPEG)
        self._first = self._capture.read()[1] if self._capture.isOpened() else None
        if self._first is None:
            self._capture.release()
            raise SourceError(
                f"{path} is not a video that OpenCV can decode: try `ffmpeg -i {path.name} out.mp4` first"
            )
        self.fps = self._capture.get(cv2.CAP_PROP_FPS) or _DEFAULT_FPS

    def read(self) -> Frame | None:
        """See ``Source``."""
        frame, self._first = self._first, None
        if frame is None:
            ok, frame = self._capture.read()
            if not ok:
                return None
        return np.asarray(frame, np.uint8)

    def close(self) -> None:
        """See ``Source``."""
        self._capture.release()


class ImageSource:
    """One image, or the images of a folder in the order of their names."""

    live = False
    fps = 5.0

    def __init__(self, path: Path) -> None:
        self.name = path.name
        try:
            self._images = ImageFiles(path)
        except DataError as error:
            raise SourceError(str(error)) from error
        self._position = 0

    def read(self) -> Frame | None:
        """See ``Source``."""
        if self._position == len(self._images):
            return None
        self._position += 1
        try:
            return self._images[self._position - 1]
        except DataError as error:
            raise SourceError(str(error)) from error

    def close(self) -> None:
        """See ``Source``."""


class DemoSource:
    """The procedural street drive: never ends, needs nothing."""

    name = "demo"
    live = False
    fps = float(FRAMES_PER_SECOND)

    def __init__(self) -> None:
        self._frames = Drive().frames()

    def read(self) -> Frame | None:
        """See ``Source``."""
        return next(self._frames).image

    def close(self) -> None:
        """See ``Source``."""


def _capture(place: str, backend: int) -> cv2.VideoCapture:
    # OpenCV's own warnings would stand beside our one sentence and say less.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2.VideoCapture(place, backend)

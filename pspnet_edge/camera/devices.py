"""What a reader process opens: V4L2 cameras and network streams through OpenCV, CSI cameras through GStreamer.

Nothing here recovers: a device that fails is closed, and `reader_process.py` decides what comes next.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError, SourceError
from .gstreamer import GstDevice, csi_pipeline, has_element, opencv_has_gstreamer

PIXELS = ("auto", "mjpg", "raw")
_FOURCC = {"mjpg": "MJPG", "raw": "YUYV"}
_DEFAULT_FPS = 30.0


@dataclass(frozen=True)
class Wanted:
    """A live device and how it is to be set.

    Raises:
        OptionError: unknown pixels.
    """

    kind: str
    """``v4l2``, ``stream`` or ``csi``."""
    place: str
    """A device file, a URL, or the number of a CSI sensor."""
    size_wh: tuple[int, int] | None = None
    """In pixels; None leaves it to the device."""
    fps: float | None = None
    pixels: str = "auto"
    stall_s: float = 3.0
    """A read that takes longer has failed."""

    def __post_init__(self) -> None:
        if self.pixels not in PIXELS:
            raise OptionError(f"there are no pixels {self.pixels!r}: choose one of {', '.join(PIXELS)}")

    @property
    def name(self) -> str:
        """For people: never with the user, password or query of a URL."""
        if self.kind == "csi":
            return f"csi://{self.place}"
        if self.kind == "v4l2":
            return self.place
        return without_secrets(self.place)

    @staticmethod
    def from_facts(facts: Mapping[str, Any]) -> Wanted:
        """The inverse of ``dataclasses.asdict`` after a passage through JSON."""
        size = facts["size_wh"]
        return Wanted(**{**facts, "size_wh": None if size is None else (int(size[0]), int(size[1]))})


def without_secrets(place: str) -> str:
    """A URL for people: without its user, password and query. Anything else stays as it is."""
    if "://" not in place:
        return place
    scheme, _, rest = place.partition("://")
    authority, slash, path = rest.partition("/")
    path = path.partition("?")[0]
    if "@" in authority:
        host = authority.rpartition("@")[2]
    elif "@" in rest:
        # A slash in the password, or an @ in the query: which, nobody can say, so nothing is shown.
        return f"{scheme}://…"
    else:
        host = authority.partition("?")[0]
    return f"{scheme}://{host}{slash}{path}"


class Device(Protocol):
    """An opened device."""

    fps: float
    format: str
    """What it really gives, read back, such as ``1280x720 MJPG 30 FPS``."""

    def read(self) -> NDArray[np.uint8] | None:
        """The next BGR frame ``uint8 [H, W, 3]``; None when it fails or takes too long."""

    def close(self) -> None:
        """Free it."""


def open_device(wanted: Wanted) -> Device:
    """Open a device.

    Raises:
        SourceError: it cannot be opened.
    """
    if wanted.kind == "v4l2":
        return _open_v4l2(wanted)
    if wanted.kind == "csi":
        return _open_csi(wanted)
    return _open_stream(wanted)


def set_environment(wanted: Wanted) -> None:
    """Tell FFmpeg and V4L2 inside OpenCV how long to wait; before the first device is opened."""
    stall_us = int(wanted.stall_s * 1e6)
    # UDP loses packets and then whole pictures. Little is buffered and the rate is guessed early: age is what counts.
    options = f"rtsp_transport;tcp|fflags;nobuffer|fpsprobesize;2|rw_timeout;{stall_us}"
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", options)
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(max(1, round(wanted.stall_s))))


class OpenCvDevice:
    """A device behind ``cv2.VideoCapture``."""

    def __init__(self, capture: cv2.VideoCapture, fourcc: bool) -> None:
        self._capture = capture
        width, height = (int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        # Streams say 90000 or nothing when they do not know.
        told = capture.get(cv2.CAP_PROP_FPS)
        self.fps = told if 0 < told <= 1000 else _DEFAULT_FPS
        code = f" {_text(int(capture.get(cv2.CAP_PROP_FOURCC)))}" if fourcc else ""
        self.format = f"{width}x{height}{code} {self.fps:g} FPS"

    def read(self) -> NDArray[np.uint8] | None:
        """See ``Device``."""
        ok, frame = self._capture.read()
        return np.asarray(frame, np.uint8) if ok else None

    def close(self) -> None:
        """See ``Device``."""
        self._capture.release()


def _open_v4l2(wanted: Wanted) -> Device:
    device = Path(wanted.place)
    if not device.exists():
        found = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "none"
        raise SourceError(f"there is no camera {device} (found: {found}): plug it in, or choose another --camera")
    if not os.access(device, os.R_OK | os.W_OK):
        raise SourceError(f"{device} may not be opened by this user: sudo usermod -aG video $USER, then log in again")
    capture = cv2.VideoCapture(str(device), cv2.CAP_V4L2)
    if not capture.isOpened():
        raise SourceError(f"{device} does not open: another program may hold it, see `fuser {device}`")
    if wanted.pixels != "auto":
        # First: which sizes and rates there are depends on it.
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*_FOURCC[wanted.pixels]))
    if wanted.size_wh is not None:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, wanted.size_wh[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, wanted.size_wh[1])
    if wanted.fps is not None:
        capture.set(cv2.CAP_PROP_FPS, wanted.fps)
    # The driver keeps old frames in a queue; one is enough for a loop that wants the newest.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return OpenCvDevice(capture, fourcc=True)


def _open_stream(wanted: Wanted) -> Device:
    stall_ms = int(1000 * wanted.stall_s)
    settings = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, stall_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, stall_ms]
    capture = cv2.VideoCapture(wanted.place, cv2.CAP_FFMPEG, settings)
    if not capture.isOpened():
        raise SourceError(
            f"{wanted.name} does not answer, or not with a video: check its power, network and password, and that "
            f"`ffprobe` opens it"
        )
    return OpenCvDevice(capture, fourcc=False)


def _open_csi(wanted: Wanted) -> Device:
    argus = "sudo systemctl restart nvargus-daemon, then check the camera's ribbon cable"
    if opencv_has_gstreamer():
        pipeline = csi_pipeline(wanted.place, wanted.size_wh, wanted.fps, "BGR")
        capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
        if not capture.isOpened():
            raise SourceError(f"{wanted.name} does not open: {argus}")
        return OpenCvDevice(capture, fourcc=False)
    if not has_element("nvarguscamerasrc"):
        raise SourceError(
            f"{wanted.name} needs a Jetson and its GStreamer element nvarguscamerasrc, which is not here: use "
            "--camera N for a USB camera"
        )
    try:
        return GstDevice(csi_pipeline(wanted.place, wanted.size_wh, wanted.fps, "BGRx"), wanted.stall_s)
    except SourceError as error:
        raise SourceError(f"{wanted.name} does not open ({error}): {argus}") from error


def _text(code: int) -> str:
    letters = bytes(code >> shift & 0xFF for shift in (0, 8, 16, 24))
    return letters.decode("ascii", "replace").strip("\0 ") or "?"

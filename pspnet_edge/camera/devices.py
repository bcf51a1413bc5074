"""What a reader process opens: V4L2 cameras and network streams through OpenCV, CSI cameras through GStreamer.

Nothing here recovers: a device that fails is closed, and `reader_process.py` decides what comes next.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ..data.geometry import FLIPS, turned
from ..errors import SourceError, one_of
from . import v4l2
from .gstreamer import (
    GstDevice,
    Outputs,
    binding_has,
    binding_pipeline,
    csi_source,
    for_this_machine,
    mjpg_source,
    opencv_has_gstreamer,
    opencv_pipeline,
    rtsp_source,
    video_engines,
)

PIXELS = ("auto", "mjpg", "raw")
_FOURCC = {"mjpg": "MJPG", "raw": "YUYV"}
_DEFAULT_FPS = 30.0
_MJPG_ABOVE = 640
"""Wider than this, raw pixels do not fit through USB 2 at 30 frames per second."""
_BUFFERS = 4
"""OpenCV holds one while it decodes; with fewer than two the driver then has nowhere to put the next frame."""
_FFMPEG_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_AFTER_REFUSAL_S = 0.3
"""Some servers need a moment to end the session that they refused."""
_OURS = "fflags;nobuffer|fpsprobesize;2"
_GREY_16 = ("Y16", "Y10", "Y12")
_GREY_LIMITS = (0.5, 99.5)
_GREY_PACE = 0.1


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
    flip: str = "none"
    """How the picture is turned, see ``data.geometry.FLIPS``; on the video engines where they give the frames."""
    engine_hw: tuple[int, int] | None = None
    """Give each frame at this size too, where the video engines can."""
    whole: bool = True
    """Give frames at their own size. Without it, and where the video engines scale, there are only small ones."""

    def __post_init__(self) -> None:
        one_of(self.pixels, PIXELS, "pixels")
        one_of(self.flip, FLIPS, "flip")

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
        sizes = {
            name: None if facts[name] is None else (int(facts[name][0]), int(facts[name][1]))
            for name in ("size_wh", "engine_hw")
        }
        return Wanted(**{**facts, **sizes})

    @property
    def has_video_engines(self) -> bool:
        """Whether this device's frames may come from the video engines."""
        return self.kind == "csi" or ((self.kind == "v4l2" or self.place.startswith("rtsp")) and video_engines())

    @property
    def outputs(self) -> Outputs:
        """What the video engines are to give of each frame."""
        return Outputs(self.engine_hw, self.whole, self.flip)


def without_secrets(place: str) -> str:
    """A URL for people: without its user, password and query. Anything else stays as it is."""
    if "://" not in place:
        return place
    scheme, _, rest = place.partition("://")
    authority, slash, path = rest.partition("/")
    host = authority.rpartition("@")[2] if "@" in authority else authority.partition("?")[0]
    if "@" in path or not re.fullmatch(r"[\w.-]*(:\d*)?|\[[0-9A-Fa-f:.%]+\](:\d*)?", host):
        # A slash in the password, or an @ in the query: it cannot be told which, so nothing is shown.
        return f"{scheme}://…"
    return f"{scheme}://{host}{slash}{path.partition('?')[0]}"


class Device(Protocol):
    """An opened device."""

    fps: float
    format: str
    """What it really gives, read back, such as ``1280x720 MJPG 30 FPS``."""
    prepared: NDArray[np.uint8] | None
    """The last frame at ``Wanted.engine_hw`` too, when the video engines made it beside the whole one."""

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
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(max(1, round(wanted.stall_s))))
    _set_transport(wanted, "tcp")


def _set_transport(wanted: Wanted, transport: str) -> None:
    """How FFmpeg inside OpenCV receives RTSP, unless the user's environment says so already."""
    given = os.environ.get(_FFMPEG_OPTIONS)
    if given is not None and _OURS not in given:
        return
    # UDP loses packets and then whole pictures, so TCP is tried first. Little is buffered and the rate is guessed
    # early: age is what counts.
    over = f"rtsp_transport;{transport}|" if transport else ""
    os.environ[_FFMPEG_OPTIONS] = f"{over}{_OURS}|rw_timeout;{int(wanted.stall_s * 1e6)}"


class OpenCvDevice:
    """A device behind ``cv2.VideoCapture``.

    Args:
        capture: opened.
        fourcc: whether its pixel format is known, as of a camera.
        flip: how each frame is turned here.
    """

    prepared: NDArray[np.uint8] | None = None

    def __init__(self, capture: cv2.VideoCapture, fourcc: bool, flip: str = "none") -> None:
        self._capture = capture
        self._flip = flip
        width, height = (int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        # Streams say 90000 or nothing when they do not know.
        told = capture.get(cv2.CAP_PROP_FPS)
        self.fps = told if 0 < told <= 1000 else _DEFAULT_FPS
        pixels = _text(int(capture.get(cv2.CAP_PROP_FOURCC))) if fourcc else ""
        self._grey = GreyRange() if pixels in _GREY_16 else None
        if self._grey is not None:
            # OpenCV would keep the upper eight of sixteen bits: black, from a camera that fills twelve.
            capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
        self.format = f"{height}x{width}{' ' * bool(pixels)}{pixels} {self.fps:g} FPS"

    def read(self) -> NDArray[np.uint8] | None:
        """See ``Device``."""
        ok, frame = self._capture.read()
        if not ok or frame is None:
            return None
        if self._grey is not None:
            frame = self._grey.to_bytes(frame)
        if frame.ndim == 2 or frame.shape[2] == 1:
            frame = cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)
        return turned(np.asarray(frame, np.uint8), self._flip)

    def close(self) -> None:
        """See ``Device``."""
        self._capture.release()


class GreyRange:
    """Frames of 10 to 16 bits to 8, by one rule: the 0.5th percentile of the pixels becomes 0, the 99.5th 255.

    The two limits follow the picture, a tenth of the way with each frame, so that a hot spot does not make it flicker.
    """

    def __init__(self) -> None:
        self._limits: tuple[float, float] | None = None

    def to_bytes(self, frame: NDArray[Any]) -> NDArray[np.uint8]:
        """``uint16 [H, W]`` to ``uint8 [H, W]``; a frame of one value becomes mid-grey."""
        # OpenCV may give the two bytes of each pixel as two columns.
        pixels = frame.view(np.uint16) if frame.dtype == np.uint8 else frame
        pixels = pixels.reshape(pixels.shape[0], -1)
        low, high = (float(limit) for limit in np.percentile(pixels[::4, ::4], _GREY_LIMITS))
        if self._limits is not None:
            low, high = (
                before + _GREY_PACE * (now - before) for before, now in zip(self._limits, (low, high), strict=True)
            )
        self._limits = (low, high)
        if high - low < 1:
            return np.full(pixels.shape, 128, np.uint8)
        scaled = (pixels.astype(np.float32) - low) * (255.0 / (high - low))
        return np.asarray(np.clip(scaled, 0, 255).round(), np.uint8)


def _open_v4l2(wanted: Wanted) -> Device:
    device = Path(wanted.place)
    if not device.exists():
        found = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "none"
        raise SourceError(f"there is no camera {device} (found: {found}): plug it in, or choose another --camera")
    if not os.access(device, os.R_OK | os.W_OK):
        raise SourceError(f"{device} may not be opened by this user: sudo usermod -aG video $USER, then log in again")
    known = v4l2.capabilities(str(device))
    if known is not None and known.card.startswith(v4l2.CSI_CARD):
        raise SourceError(
            f"{device} is the raw sensor of a CSI camera ({known.card}): use --input csi://0, which goes through the "
            "board's image processor"
        )
    if known is not None and not known.captures:
        raise SourceError(
            f"{device} ({known.card}) delivers no frames: many cameras have a second device, for metadata; use the "
            "other one, see /dev/v4l/by-id"
        )
    opened = _open_mjpg(wanted)
    if opened is not None:
        return opened
    capture = cv2.VideoCapture(str(device), cv2.CAP_V4L2)
    if not capture.isOpened():
        raise SourceError(f"{device} cannot be opened: another program may be using it, see `fuser {device}`")
    _set_mode(capture, wanted)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, _BUFFERS)
    return OpenCvDevice(capture, fourcc=True, flip=wanted.flip)


def _set_mode(capture: cv2.VideoCapture, wanted: Wanted) -> None:
    """Ask for pixels, size and rate, in this order: which sizes and rates there are depends on the pixels."""
    pixels = wanted.pixels
    if pixels == "auto" and wanted.size_wh is not None and wanted.size_wh[0] > _MJPG_ABOVE:
        # OpenCV itself would try YUYV first. A camera that has no MJPG refuses and keeps what it had.
        pixels = "mjpg"
    if pixels != "auto":
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*_FOURCC[pixels]))
    if wanted.size_wh is not None:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, wanted.size_wh[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, wanted.size_wh[1])
    if wanted.fps is not None:
        capture.set(cv2.CAP_PROP_FPS, wanted.fps)


def _open_mjpg(wanted: Wanted) -> Device | None:
    """A camera that sends JPEG pictures, decoded by the video engines; None where OpenCV is to open it."""
    size = wanted.size_wh
    if size is None or wanted.pixels == "raw" or (wanted.pixels == "auto" and size[0] <= _MJPG_ABOVE):
        return None
    if not video_engines():
        return None
    # The name goes into a pipeline's description, where a space or quote would begin something else.
    if any(letter.isspace() or letter in "\"'!\\" for letter in wanted.place):
        return None
    try:
        pipeline = binding_pipeline(mjpg_source(wanted.place, size, wanted.fps), wanted.outputs)
        return GstDevice(for_this_machine(pipeline), wanted.stall_s)
    except SourceError:
        return None  # a camera without this mode: OpenCV takes the nearest one


def _open_stream(wanted: Wanted) -> Device:
    if wanted.place.startswith("rtsp") and video_engines():
        try:
            pipeline = for_this_machine(binding_pipeline(rtsp_source(), wanted.outputs))
            return GstDevice(pipeline, wanted.stall_s, {"location": wanted.place})
        except SourceError:
            pass  # a codec or server that the video engines do not take: FFmpeg may
    stall_ms = int(1000 * wanted.stall_s)
    settings = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, stall_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, stall_ms]
    for transport in ("tcp", "udp") if wanted.place.startswith("rtsp") else ("",):
        _set_transport(wanted, transport)
        start = time.monotonic()
        capture = cv2.VideoCapture(wanted.place, cv2.CAP_FFMPEG, settings)
        if capture.isOpened():
            return OpenCvDevice(capture, fourcc=False, flip=wanted.flip)
        capture.release()
        if time.monotonic() - start > wanted.stall_s / 2:
            break  # a server that has no TCP says so at once; this one does not answer at all
        time.sleep(_AFTER_REFUSAL_S)
    raise SourceError(_no_stream(wanted))


def _no_stream(wanted: Wanted) -> str:
    sentence = f"{wanted.name} does not answer, or not with a video"
    problem = _unencoded(wanted.place)
    if problem:
        return (
            f"{sentence}: its user or password holds {problem}, which must be percent-encoded in a URL "
            "(@ as %40, # as %23, ? as %3F, / as %2F, : as %3A, % as %25)"
        )
    return f"{sentence}: check its power, network and password, and that `ffprobe` opens it"


def _unencoded(place: str) -> str:
    """The characters of a URL's user and password that break it, for people; empty when there are none."""
    rest = place.partition("://")[2]
    authority, _, path = rest.partition("/")
    if "@" in authority and "@" not in path:
        credentials = authority.rpartition("@")[0]
    elif authority.partition(":")[2] and not authority.partition(":")[2].isdecimal():
        credentials = rest.rpartition("@")[0]  # a slash in the password; after a host there is a port
    else:
        return ""
    _, colon, password = credentials.partition(":")
    if not colon:
        return ""
    found = [letter for letter in "@#?/" if letter in credentials]
    found += [":"] * (":" in password) + ["%"] * bool(re.search(r"%(?![0-9A-Fa-f]{2})", credentials))
    found += ["a space"] * any(letter.isspace() for letter in credentials)
    return " and ".join(found)


def _open_csi(wanted: Wanted) -> Device:
    argus = "sudo systemctl restart nvargus-daemon, then check the camera's ribbon cable"
    head = csi_source(wanted.place, wanted.size_wh, wanted.fps)
    # The binding first: it spares a conversion and a copy of each frame, and can give two sizes.
    needed = "videotestsrc" if os.environ.get("PSPNET_EDGE_VIDEO") == "software" else "nvarguscamerasrc"
    if binding_has(needed):
        try:
            return GstDevice(for_this_machine(binding_pipeline(head, wanted.outputs)), wanted.stall_s)
        except SourceError as error:
            raise SourceError(f"{wanted.name} does not open ({error}): {argus}") from error
    if not opencv_has_gstreamer():
        if binding_has("fakesrc"):
            raise SourceError(
                f"{wanted.name} needs a Jetson and its GStreamer element nvarguscamerasrc, which is not here: use "
                "--camera N for a USB camera"
            )
        raise SourceError(
            f"{wanted.name} needs GStreamer, in OpenCV or as python3-gi, and neither is here: sudo apt-get install "
            "python3-gi python3-gst-1.0, and make the venv with --system-site-packages"
        )
    capture = cv2.VideoCapture(for_this_machine(opencv_pipeline(head, wanted.outputs)), cv2.CAP_GSTREAMER)
    if not capture.isOpened():
        raise SourceError(f"{wanted.name} does not open: {argus}")
    return OpenCvDevice(capture, fourcc=False)


def _text(code: int) -> str:
    letters = bytes(code >> shift & 0xFF for shift in (0, 8, 16, 24))
    return letters.decode("ascii", "replace").strip("\0 ") or "?"

"""The overlay as a live H.264 stream: RTP to one address, or published to an RTSP server; through GStreamer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError, OutputError, SourceError
from ..lazy import available
from .devices import without_secrets
from .gstreamer import NVIDIA_ENCODER, X264, for_this_machine, load_gst, opencv_has_gstreamer
from .shot import Shot
from .v4l2 import has_encoder

_RETRY_S = 5.0


class Writer(Protocol):
    """An open pipeline."""

    def write(self, picture: NDArray[np.uint8]) -> bool:
        """Take one BGR picture without waiting; False when the pipeline has failed."""

    def close(self) -> None:
        """End it."""


class RtpOut:
    """Sends one source's overlay. A receiver that is not there, or goes, holds up nothing: it is tried again.

    Args:
        target: ``HOST:PORT`` for RTP, or ``rtsp://…`` of a server that takes publishers.
        fps: pictures a second that the stream announces.
        warn: told, in one sentence, when the stream fails.

    Raises:
        OptionError: no such target.
        OutputError: there is no GStreamer here.
    """

    def __init__(self, target: str, fps: float, warn: Callable[[str], None]) -> None:
        rtp_pipeline(target, X264)  # a wrong target is refused now
        self._name, self._target, self._encoder = without_secrets(target), target, _encoder()
        self._fps = max(1, round(fps))
        self._warn = warn
        self._writer: Writer | None = None
        self._failed_at: float | None = None
        self._size_wh = (0, 0)

    def __enter__(self) -> RtpOut:
        return self

    def show(self, shot: Shot) -> bool:
        """See ``Sink``."""
        if shot.camera != 0 or self._rests():
            return True
        picture = shot.picture()
        try:
            if self._writer is None:
                self._size_wh = (picture.shape[1] // 2 * 2, picture.shape[0] // 2 * 2)
                self._writer = _open_writer(
                    for_this_machine(rtp_pipeline(self._target, self._encoder)), self._size_wh, self._fps
                )
            if picture.shape[1::-1] != self._size_wh:
                picture = np.asarray(cv2.resize(picture, self._size_wh), np.uint8)
            works = self._writer.write(picture)
        except OutputError:
            works = False
        if not works and self._encoder == NVIDIA_ENCODER:
            # Some boards list an encoder that they do not have. Without a pause: this is not the receiver's fault.
            self._warn("the board's video encoder has failed: x264 encodes the stream on the processor")
            self._encoder = X264
            self._close()
        elif not works:
            if self._failed_at is None:
                self._warn(f"the stream to {self._name} has failed: check the receiver; it is tried again")
            self._failed_at = time.monotonic()
            self._close()
        return True

    def __exit__(self, *exception: object) -> None:
        self._close()

    def _rests(self) -> bool:
        return self._writer is None and self._failed_at is not None and time.monotonic() - self._failed_at < _RETRY_S

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def rtp_pipeline(target: str, encoder: str) -> str:
    """What follows the source of pictures in the pipeline.

    Raises:
        OptionError: the target is neither ``HOST:PORT`` nor an RTSP URL.
    """
    # A newest-only queue: an encoder that is slow loses pictures and does not hold up the loop.
    head = f"! queue max-size-buffers=2 leaky=downstream ! videoconvert ! {encoder} ! h264parse config-interval=1 "
    parts, port = urlsplit(""), None
    with contextlib.suppress(ValueError):
        parts = urlsplit(target if "://" in target else f"//{target}")
        port = parts.port
    # The text goes into a pipeline's description, where a space or quote would begin something else.
    harmless = parts.hostname and not any(letter.isspace() or letter in "\"'!\\" for letter in target)
    if harmless and parts.scheme in ("rtsp", "rtsps"):
        return f"{head}! rtspclientsink location={target}"
    if harmless and not parts.scheme and port and not parts.path:
        return f"{head}! rtph264pay pt=96 ! udpsink host={parts.hostname} port={port} sync=false"
    raise OptionError(
        f"{target!r} is not a target", "give HOST:PORT, or rtsp://… of a server that takes publishers", parameter="rtp"
    )


def _encoder() -> str:
    """The board's encoder where there is one, else x264.

    Raises:
        OutputError: there is no GStreamer, or it has no encoder.
    """
    if has_encoder():
        return NVIDIA_ENCODER
    if available("gi"):
        try:
            found = load_gst().ElementFactory.find("x264enc")
        except SourceError as error:
            raise OutputError(f"--rtp: {error}") from error
        if found is None:
            raise OutputError("GStreamer has no H.264 encoder: sudo apt-get install gstreamer1.0-plugins-ugly")
        return X264
    if opencv_has_gstreamer():
        return X264
    raise OutputError(
        "--rtp needs GStreamer, in OpenCV or as python3-gi, and neither is here: sudo apt-get install python3-gi "
        "gir1.2-gstreamer-1.0, or use --view web"
    )


def _open_writer(pipeline: str, size_wh: tuple[int, int], fps: int) -> Writer:
    return _GstWriter(pipeline, size_wh, fps) if available("gi") else _OpenCvWriter(pipeline, size_wh, fps)


class _GstWriter:
    """GStreamer's own binding."""

    def __init__(self, pipeline: str, size_wh: tuple[int, int], fps: int) -> None:
        self._gst: Any = load_gst()
        pixels = f"video/x-raw,format=BGR,width={size_wh[0]},height={size_wh[1]},framerate={fps}/1"
        try:
            self._pipeline = self._gst.parse_launch(
                f'appsrc name=in is-live=true do-timestamp=true format=time caps="{pixels}" {pipeline}'
            )
        except Exception as error:  # GLib.Error, which has no other base
            raise OutputError(f"GStreamer: {error}") from error
        self._source = self._pipeline.get_by_name("in")
        self._pipeline.set_state(self._gst.State.PLAYING)

    def write(self, picture: NDArray[np.uint8]) -> bool:
        """See ``Writer``."""
        failed = self._pipeline.get_bus().pop_filtered(self._gst.MessageType.ERROR)
        if failed is not None:
            return False
        buffer = self._gst.Buffer.new_wrapped(picture.tobytes())
        return bool(self._source.emit("push-buffer", buffer) == self._gst.FlowReturn.OK)

    def close(self) -> None:
        """See ``Writer``."""
        self._pipeline.set_state(self._gst.State.NULL)


class _OpenCvWriter:
    """An OpenCV that was built with GStreamer."""

    def __init__(self, pipeline: str, size_wh: tuple[int, int], fps: int) -> None:
        self._writer = cv2.VideoWriter(f"appsrc {pipeline}", cv2.CAP_GSTREAMER, 0, fps, size_wh)
        if not self._writer.isOpened():
            raise OutputError("OpenCV's GStreamer refuses the pipeline")

    def write(self, picture: NDArray[np.uint8]) -> bool:
        """See ``Writer``."""
        self._writer.write(picture)
        return self._writer.isOpened()

    def close(self) -> None:
        """See ``Writer``."""
        self._writer.release()

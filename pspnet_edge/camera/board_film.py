"""A video file that the board's own encoder writes, through GStreamer: it spares x264 most of the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import OutputError
from ..lazy import available
from .gstreamer import NVIDIA_ENCODER, for_this_machine, load_gst
from .v4l2 import has_encoder

_FRAGMENT_MS = 500
"""A piece that plays by itself, as in the recordings of ``recorder.py``."""
_CLOSE_S = 10
_FULL_BUFFERS = 8


class BoardEncoderFailed(OutputError):
    """The board's encoder, or its pipeline, failed.

    Args:
        problem: what it says.
        pictures: how many it had taken.
    """

    def __init__(self, problem: str, pictures: int) -> None:
        super().__init__(problem)
        self.pictures = pictures


def can_encode() -> bool:
    """Whether this machine has a video encoder and the binding to reach it."""
    return has_encoder() and available("gi")


class BoardFilm:
    """One H.264 video file.

    Args:
        path: an ordinary file, or none yet.
        size_wh: of every picture; even numbers.
        fps: pictures per second that the stream announces.

    Raises:
        BoardEncoderFailed: GStreamer or the encoder refuses.
    """

    def __init__(self, path: Path, size_wh: tuple[int, int], fps: float) -> None:
        pixels = f"video/x-raw,format=BGR,width={size_wh[0]},height={size_wh[1]},framerate={max(1, round(fps))}/1"
        pipeline = for_this_machine(
            f'appsrc name=in is-live=true format=time caps="{pixels}" ! videoconvert ! {NVIDIA_ENCODER} ! h264parse '
            f"! mp4mux fragment-duration={_FRAGMENT_MS} streamable=true ! filesink name=out async=false"
        )
        try:
            self._gst: Any = load_gst()
            self._pipeline = self._gst.parse_launch(pipeline)
        except Exception as error:  # GLib.Error, which has no other base, or a SourceError
            raise BoardEncoderFailed(f"GStreamer: {error}", 0) from error
        self._source = self._pipeline.get_by_name("in")
        sink = self._pipeline.get_by_name("out")
        sink.set_property("location", str(path))
        sink.set_property("buffer-mode", 2)  # unbuffered: a killed process loses no finished piece
        self._pictures = 0
        self._bytes = 3 * size_wh[0] * size_wh[1]
        self._pipeline.set_state(self._gst.State.PLAYING)

    def add(self, picture: NDArray[np.uint8], time_s: float) -> None:
        """Encode one picture ``uint8 [H, W, 3]`` BGR; it waits for an encoder that is behind.

        Raises:
            BoardEncoderFailed: the pipeline has failed.
        """
        self._check()
        self._source.set_property("block", True)
        self._source.set_property("max-bytes", _FULL_BUFFERS * self._bytes)
        buffer = self._gst.Buffer.new_wrapped(np.ascontiguousarray(picture).tobytes())
        buffer.pts = int(time_s * 1e9)
        if self._source.emit("push-buffer", buffer) != self._gst.FlowReturn.OK:
            self._check()
            raise BoardEncoderFailed("the board's video encoder takes no more pictures", self._pictures)
        self._pictures += 1

    def close(self) -> None:
        """Write what the encoder holds.

        Raises:
            BoardEncoderFailed: it fails.
        """
        self._source.emit("end-of-stream")
        kinds = self._gst.MessageType.EOS | self._gst.MessageType.ERROR
        message = self._pipeline.get_bus().timed_pop_filtered(_CLOSE_S * self._gst.SECOND, kinds)
        self.abandon()
        if message is None or message.type == self._gst.MessageType.ERROR:
            raise BoardEncoderFailed("the board's video encoder did not finish", self._pictures)

    def abandon(self) -> None:
        """Free it after a failure."""
        self._pipeline.set_state(self._gst.State.NULL)

    def _check(self) -> None:
        message = self._pipeline.get_bus().pop_filtered(self._gst.MessageType.ERROR)
        if message is not None:
            raise BoardEncoderFailed(f"GStreamer: {message.parse_error()[0].message}", self._pictures)

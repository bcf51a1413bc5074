"""Video files, decoded by FFmpeg through PyAV: every frame in order, upright, and past damage to the next whole one."""

from __future__ import annotations

import logging
import stat
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from ..data.geometry import turned
from ..errors import SourceError
from ..records import counted
from .timing import believable_fps
from .video_probe import check_video, open_container, video_stream

_log = logging.getLogger(__name__)
_UPRIGHT = {90: "270", 180: "180", 270: "90"}
"""How a frame is turned whose display matrix turns it by these degrees counter-clockwise."""
_SLACK_S = 0.5
"""How much before its duration a whole file may end: its last picture may last."""
_SEGMENT = bytes.fromhex("18538067")


class VideoSource:
    """A video file, every frame in order.

    Where the file is damaged, frames that cannot be decoded whole are left out and counted in ``lost``, and ``damage``
    says so; what follows is decoded again. Frames keep their own size, also where it changes midway.

    Args:
        path: the file.

    Raises:
        SourceError: it is not a video that can be decoded.
    """

    live = False

    def __init__(self, path: Path) -> None:
        self.name = path.name
        _check_file(path)
        check_video(path)
        # FFmpeg's own lines would be beside our one sentence and say less.
        av.logging.set_level(None)
        self._path = path
        self._open(threads=True)
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.fps = believable_fps(rate)
        self.length = self._promised() or None
        """How many frames the file says it has, for the progress."""
        self.lost = 0
        self.damage = ""
        self._given = 0
        self._frames = self._whole_frames()

    def read(self) -> NDArray[np.uint8] | None:
        """See ``Source``."""
        frame = next(self._frames, None)
        if frame is None:
            return None
        self._given += 1
        degrees = int(getattr(frame, "rotation", 0) or 0) % 360
        pixels = np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)
        return turned(pixels, _UPRIGHT.get(degrees, "none"))

    def close(self) -> None:
        """See ``Source``."""
        self._container.close()

    def _open(self, threads: bool) -> None:
        try:
            self._container = open_container(str(self._path))
        except (av.error.FFmpegError, OSError) as error:
            raise SourceError(f"{self._path} cannot be opened ({error.strerror})", "check the file") from error
        self._stream = video_stream(self._container)
        self._stream.thread_type = "AUTO" if threads else "NONE"
        self._packets = self._errors = 0
        self._end_s = 0.0

    def _whole_frames(self) -> Iterator[av.VideoFrame]:
        given = 0
        for frame in self._decoded():
            if self._errors:
                break
            given += 1
            yield frame
        if self._errors:
            # An error takes whole frames with it that were decoded at the same time. One after another they come
            # through; those from the start are the same.
            self._container.close()
            self._open(threads=False)
            yield from islice(self._decoded(), given, None)
        self._conclude()

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """The frames that are whole."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as error:
                # The container itself is damaged here; FFmpeg has given up on the rest.
                self._note(error)
                return
            if packet is None:
                return
            self._packets += bool(packet.size)
            if packet.pts is not None and packet.time_base is not None:
                self._end_s = max(self._end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            self._errors += bool(packet.is_corrupt)
            try:
                frames = packet.decode()
            except av.error.FFmpegError as error:
                self._note(error)
                continue
            for frame in frames:
                assert isinstance(frame, av.VideoFrame)
                if frame.is_corrupt:
                    self._errors += 1
                else:
                    yield frame

    def _note(self, error: av.error.FFmpegError) -> None:
        self._errors += 1
        _log.debug("%s: %s after frame %d", self.name, error, self._given)

    def _conclude(self) -> None:
        """At the end: how many frames are missing, if there was any sign of damage."""
        cut = _matroska_is_cut(self._path, self._container.format.name)
        expected = max(self._promised(), self._packets)
        # A file may hold frames that are not to be shown, so a smaller number alone is no sign.
        missing = self._promised() > self._packets and (self._stream.frames or self._ends_before_its_duration())
        short = missing and self._container.format.name != "mov,mp4,m4a,3gp,3g2,mj2"
        short = short or _ends_early(self._container, self._path)
        if not (self._errors or cut or short):
            return
        self.lost = max(expected - self._given, int(cut or short))
        if not self.lost:
            return
        what = "is cut short" if (cut or short) and not self._errors else "is damaged"
        self.damage = f"{self.name} {what}: {counted(self.lost, 'frame')} of about {expected} could not be decoded"

    def _promised(self) -> int:
        """How many frames the container says there are; 0 when it does not say."""
        if self._stream.frames:
            return int(self._stream.frames)
        duration = self._duration_s()
        rate = self._stream.average_rate
        only = len(self._container.streams) == 1
        return round(duration * rate) if duration and rate and only else 0

    def _duration_s(self) -> Fraction:
        """From the first picture to the end, as the container says it; 0 when it does not say."""
        duration, start = self._container.duration or 0, self._container.start_time or 0
        if "matroska" in self._container.format.name:  # which counts from zero, wherever its pictures begin
            duration -= start
        return Fraction(max(duration, 0), av.time_base)

    def _ends_before_its_duration(self) -> bool:
        """Whether pictures are missing at the end by their times.

        Their number times the rate says nothing where the rate varies. Matroska is cut where its size says it.
        """
        if "matroska" in self._container.format.name:
            return False
        start = Fraction(self._container.start_time or 0, av.time_base)
        return self._end_s - float(start) < float(self._duration_s()) - _SLACK_S


def _check_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read ({getattr(error, 'strerror', error)})", "check the path") from error
    if not stat.S_ISREG(mode):
        raise SourceError(f"{path} is not a file", "give a video, a folder of images, or demo; a camera as --camera N")
    if path.stat().st_size == 0:
        raise SourceError(f"{path} is empty", "copy it again")


def _matroska_is_cut(path: Path, container: str) -> bool:
    """Whether a Matroska file is shorter than it says (https://www.rfc-editor.org/rfc/rfc8794)."""
    if "matroska" not in container:
        return False
    with path.open("rb") as file:
        head = file.read(4096)
    found = head.find(_SEGMENT)
    if found < 0 or found + 12 > len(head):
        return False
    at = found + len(_SEGMENT)
    width = 9 - head[at].bit_length()
    size = int.from_bytes(head[at : at + width], "big") - (1 << 7 * width)
    unknown = size == (1 << 7 * width) - 1
    return not unknown and path.stat().st_size < at + width + size


def _ends_early(container: av.container.InputContainer, path: Path) -> bool:
    """Whether an MP4 file's pictures lie beyond its end: its ``mdat`` box is longer than what is there."""
    if "mp4" not in container.format.name:
        return False
    length, at = path.stat().st_size, 0
    with path.open("rb") as file:
        while at + 16 <= length:
            file.seek(at)
            head = file.read(16)
            size = int.from_bytes(head[:4], "big")
            if size == 1:
                size = int.from_bytes(head[8:16], "big")
            if size == 0 or size < 8:  # up to the end of the file, or nonsense
                return False
            if at + size > length:
                return True
            at += size
    return False

"""A video of the overlay that plays even when the program, or its power, is cut while it records."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import av.error
import cv2
import numpy as np
from av.video.frame import PictureType
from numpy.typing import NDArray

from ..artifact import claim, ensure_writable, find_target
from ..data.geometry import Geometry
from ..errors import OptionError, OutputError
from ..inputs import is_folder
from .board_film import BoardEncoderFailed, BoardFilm, can_encode
from .shot import Shot
from .sources import Source

# Written piece by piece, each whole in itself, with no index at the end that a SIGKILL could take away. Matroska would
# hold its first piece back, and a file killed in its first half second would not open.
_PIECES = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
_PIECE_S = 0.5
"""A piece ends at a key frame; what the encoder and the piece hold is what a SIGKILL loses."""
_TRIED_PICTURES = 30
"""When the board's encoder fails within so many pictures, the processor begins again; later the recording ends."""
_CODECS = {"libx264": {"preset": "ultrafast", "tune": "zerolatency", "crf": "23"}, "mpeg4": {"qscale": "4"}}


class Recorder:
    """Records every source: one file, or with several ``NAME-0.mp4``, ``NAME-1.mp4`` and so on.

    The file has its final name from the first picture on, so that a recording survives the
    process. When the disk is full recording stops with a warning, what was written plays, and the loop continues.

    Args:
        path: ``.mp4``; ``%Y%m%d-%H%M%S`` and the like become the time of the start. What is there is
            replaced.
        sources: of the loop. A live one plays as fast as it was seen, another with its own frames a second.
        warn: told, in one sentence, when recording stops early.
        inputs: files that are read meanwhile.

    Raises:
        OptionError: another suffix, or one of ``inputs``.
        OutputError: the place cannot be written, or another process records there (when it is entered).
    """

    def __init__(
        self, path: Path, sources: Sequence[Source], warn: Callable[[str], None], inputs: Sequence[Path] = ()
    ) -> None:
        if path.name:  # "." and "/" have none
            path = path.with_name(time.strftime(path.name))
        if is_folder(path):
            raise OutputError(f"{path} is a folder", f"give the name of a file in it, such as {path / 'overlay.mp4'}")
        if path.suffix.lower() != ".mp4":
            raise OptionError(
                f"{path} does not end in .mp4, and only such a file survives a power cut", "give a name that does"
            )
        self._sources = sources
        self._warn = warn
        self.paths = (
            [path] if len(sources) == 1 else [path.with_stem(f"{path.stem}-{number}") for number in range(len(sources))]
        )
        for path in self.paths:
            ensure_writable(path, inputs=inputs, parameter="record")
        self._on_board = can_encode()
        self._films: dict[int, _Film | None] = {}
        self._claimed = contextlib.ExitStack()

    def __enter__(self) -> Recorder:
        with contextlib.ExitStack() as held:
            for path in self.paths:
                held.enter_context(claim(path, wait_s=0))
            self._claimed = held.pop_all()
        return self

    def show(self, shot: Shot) -> bool:
        """See ``Sink``. A video has one size: later pictures are stretched to the first one's."""
        try:
            if shot.camera not in self._films:
                self._films[shot.camera] = self._begun(shot)
            film = self._films[shot.camera]
            if film is not None:
                film.add(shot)
        except BoardEncoderFailed as error:
            if error.pictures > _TRIED_PICTURES:
                self._give_up(shot.camera, error)
            else:
                self._on_processor(shot)
        except (OSError, av.error.FFmpegError) as error:
            self._give_up(shot.camera, error)
        return True

    def _begun(self, shot: Shot) -> _Film:
        source = self._sources[shot.camera]
        return _Film(self.paths[shot.camera], shot.picture(), source.fps, source.live, self._on_board)

    def _on_processor(self, shot: Shot) -> None:
        """Begin again with x264: some boards list an encoder that does not work."""
        self._warn("the board's video encoder has failed: x264 records on the processor")
        self._on_board = False
        film = self._films.pop(shot.camera, None)
        if film is not None:
            film.abandon()
        self.show(shot)

    def __exit__(self, *exception: object) -> None:
        with self._claimed:
            for camera, film in self._films.items():
                if film is not None:
                    try:
                        film.close()
                    except (OSError, av.error.FFmpegError, BoardEncoderFailed) as error:
                        self._give_up(camera, error)

    def _give_up(self, camera: int, error: Exception) -> None:
        film = self._films.get(camera)
        self._films[camera] = None
        if film is not None:
            film.abandon()
        reason = getattr(error, "strerror", None) or str(error)
        self._warn(
            f"recording to {self.paths[camera]} has stopped ({reason}): what was written plays; free the disk and "
            "start again to record more"
        )


def _fitted(picture: NDArray[np.uint8], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture in the size of the film: in its own shape, with black beside it where that is another one."""
    film_hw = (size_wh[1], size_wh[0])
    inner = Geometry("letterbox").layout((picture.shape[0], picture.shape[1]), film_hw).windows[0].inner
    # The film's sides are even numbers, so one pixel of difference is no other shape.
    if sum(film_hw) - sum(inner.size_hw) < 2:
        return np.asarray(cv2.resize(picture, size_wh), np.uint8)
    film = np.zeros((*film_hw, 3), np.uint8)
    film[inner.slices] = cv2.resize(picture, inner.size_hw[::-1])
    return film


class _Film:
    """One video file, encoded by the board where it can, else by the processor."""

    def __init__(self, path: Path, first: NDArray[np.uint8], fps: float, live: bool, on_board: bool) -> None:
        codec = next((name for name in _CODECS if name in av.codecs_available), None)
        if codec is None:
            raise OutputError("this PyAV has neither libx264 nor mpeg4: pip install --force-reinstall av")
        self._live = live
        self._tick = Fraction(1, 1000) if live else 1 / Fraction(fps).limit_denominator(1000)
        self._piece = max(1, round(_PIECE_S / self._tick))
        # 4:2:0 has one colour for two pixels in each direction.
        self._size_wh = (max(2, first.shape[1] // 2 * 2), max(2, first.shape[0] // 2 * 2))
        self._start: float | None = None
        self._last, self._key = -1, -1
        self._frames = 0
        self._board = BoardFilm(find_target(path), self._size_wh, fps) if on_board else None
        if self._board is not None:
            return
        # The file behind a link may have another suffix.
        self._container = av.open(str(find_target(path)), "w", format="mp4", options=_PIECES)
        stream = self._container.add_stream(codec, rate=round(fps) or 1, options=_CODECS[codec])
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = self._size_wh
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = self._tick
        self._stream = stream

    def add(self, shot: Shot) -> None:
        """Encode one picture and write what is ready."""
        picture = shot.picture()
        if picture.shape[1::-1] != self._size_wh:
            picture = _fitted(picture, self._size_wh)
        now = self._time_of(shot)
        if self._board is not None:
            self._board.add(picture, float(now * self._tick))
            return
        frame = av.VideoFrame.from_ndarray(picture, "bgr24")
        frame.pts = now
        frame.time_base = self._tick
        # The second picture is a key frame too, so that the first one is in the file at once.
        if self._frames < 2 or now - self._key >= self._piece:
            frame.pict_type = PictureType.I
            self._key = now
        self._frames += 1
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what the encoder holds."""
        if self._board is not None:
            self._board.close()
            return
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def abandon(self) -> None:
        """Free it after a failure."""
        if self._board is not None:
            self._board.abandon()
            return
        with contextlib.suppress(OSError, av.error.FFmpegError):
            self._container.close()

    def _time_of(self, shot: Shot) -> int:
        """In ticks; always increasing."""
        if self._live:
            # An old picture shown again has its own time: now.
            now = time.perf_counter() if shot.banner else shot.captured
            self._start = now if self._start is None else self._start
            ticks = round((now - self._start) / self._tick)
        else:
            ticks = shot.index
        self._last = max(ticks, self._last + 1)
        return self._last

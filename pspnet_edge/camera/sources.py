"""Where frames come from: cameras, streams, video files, images, the procedural demo drive."""

from __future__ import annotations

import contextlib
import glob
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from ..data.files import is_litter, pixels_of_files, read_image
from ..data.geometry import FLIPS, turned
from ..data.image_file import DEFAULT_PIXELS, is_animation
from ..data.images import SUFFIXES, ImageFiles, by_number
from ..data.scenes import FRAMES_PER_SECOND, Drive
from ..errors import DataError, OptionError, SourceError, one_of
from ..inputs import check_file, is_file, is_folder, is_there
from ..pixels import PixelFormat
from ..records import counted
from .devices import Wanted
from .remote_source import RemoteSource
from .video_file import VideoSource

Frame = NDArray[np.uint8]

_log = logging.getLogger(__name__)

_STREAMS = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp")
_NUMBER = re.compile(r"%(?:0\d+)?d")


@runtime_checkable
class Source(Protocol):
    """A stream of BGR frames ``uint8 [H, W, 3]``, read by one thread."""

    name: str
    live: bool
    """A live source continues by itself: a frame not taken in time is gone. Others wait and lose nothing."""
    fps: float
    """Frames a second at which it was, or would be, shown."""

    def read(self) -> Frame | None:
        """The next frame, or None at the end."""

    def close(self) -> None:
        """Free the device or file."""


@runtime_checkable
class LiveSource(Source, Protocol):
    """A source that may fail at any time and come back; ``read`` raises ``SourceError`` when it does."""

    captured: float
    """``time.perf_counter()`` at the end of capture of the last frame read."""
    format: str
    """What the device really gives, such as ``1280x720 MJPG 30 FPS``."""
    dropped: int
    """Frames that were captured and never read."""
    longest_pause_s: float
    """Between attempts to reopen."""

    def reopen(self) -> None:
        """Open it, or open it again after a failure.

        Raises:
            SourceError: it is still not available.
        """

    def interrupt(self) -> None:
        """Make a ``read`` or ``reopen`` on another thread fail soon; nothing can be read any more."""


@runtime_checkable
class ScaledSource(LiveSource, Protocol):
    """A live source that may give each frame at the engine's size too, made by the board's video engines."""

    prepared: Frame | None
    """The last frame read, at the engine's size; None where nothing was made beside it."""

    def ask(self, engine_hw: tuple[int, int] | None, whole: bool) -> None:
        """Say which sizes are wanted, before the first ``read``.

        Args:
            engine_hw: the engine's, in rows and columns; None when frames are to be cut or padded first.
            whole: whether a sink wants frames at their own size; without, ``read`` may give the small ones.
        """


@dataclass
class KnownPixels:
    """The pixel format of the network, which is known only after sources were opened."""

    pixels: PixelFormat = DEFAULT_PIXELS


@dataclass(frozen=True)
class Settings:
    """How cameras and streams are opened; files ignore it."""

    size_wh: tuple[int, int] | None = None
    fps: float | None = None
    pixels: str = "auto"
    stall_s: float = 3.0
    """A live source that gives nothing for this long has failed."""
    wait: bool = False
    """Begin without the live sources that cannot be opened yet."""
    loop: bool = False
    """Of files, not of live sources: begin again at the end, for ever."""
    realtime: bool = False
    """Of files: give each frame when it is due, and drop those that come too fast."""
    flip: str = "none"
    """How every frame is turned, see ``data.geometry.FLIPS``."""
    past_unreadable: bool = False
    """Of image files: continue behind those that cannot be read, which are counted, instead of failing."""
    frames: KnownPixels = field(default_factory=KnownPixels)
    """Of image files: the range of deep ones, as the network was trained with it."""

    def __post_init__(self) -> None:
        one_of(self.flip, FLIPS, "flip", "flip")


def open_sources(cameras: Sequence[str], places: Sequence[str], settings: Settings) -> list[Source]:
    """Open what the command line names, cameras first.

    Args:
        cameras: indices of V4L2 cameras, or their device files.
        places: see ``open_source``.
        settings: for the live ones.

    Raises:
        OptionError: none is given, or the settings do not fit.
        SourceError: one cannot be opened or holds no frame; those opened before it are closed.
    """
    if not cameras and not places:
        raise OptionError("no source", "give --camera N or --input PLACE; --input demo needs neither camera nor file")
    with contextlib.ExitStack() as undone:
        sources: list[Source] = []
        for camera in cameras:
            sources.append(_opened_camera(camera, settings))
            undone.callback(sources[-1].close)
        for place in _group_images(places):
            opened = _open_place(place, settings) if isinstance(place, str) else _play(ImageSource, place, settings)
            sources.append(opened)
            undone.callback(sources[-1].close)
        undone.pop_all()
    return sources


def open_source(camera: int | str | None, place: str | None, settings: Settings | None = None) -> Source:
    """Open one source: a camera or a place.

    Args:
        camera: index of a V4L2 camera, or its device file.
        place: a video file, an image, a folder or glob of images, an ``rtsp://`` or ``http://`` URL, ``csi://N``,
            ``/dev/videoN``, a ``file://`` URL, or ``demo``.
        settings: for a live one; the device's own choice when None.

    Raises:
        OptionError: neither or both are given, or the settings do not fit.
        SourceError: it cannot be opened or holds no frame.
    """
    if (camera is None) == (place is None):
        raise OptionError("one source is needed", "give either --camera N or --input PLACE")
    settings = settings or Settings()
    if camera is not None:
        return _opened_camera(str(camera), settings)
    assert place is not None
    return _open_place(place, settings)


def _open_place(place: str, settings: Settings) -> Source:
    if place == "demo":
        return _play(DemoSource, None, settings)
    scheme, separator, rest = place.partition("://")
    if scheme.lower() == "file" and separator:
        place = str(local_path(place))
    elif scheme.lower() == "v4l2" and separator:
        return _opened_camera(rest, settings)
    elif separator:
        return _opened_url(scheme.lower(), rest, place, settings)
    if place.startswith("/dev/video") or place.startswith("/dev/v4l/"):
        return _opened_camera(place, settings)
    path = Path(place)
    pattern = not is_there(path) and (glob.has_magic(place) or _NUMBER.search(path.name))
    if is_folder(path) or path.suffix.lower() in SUFFIXES or pattern:
        return _play(ImageSource, path, settings)
    check_file(path, "video", SourceError, "give --input a video, a folder of images, or demo")
    return _play(VideoSource, path, settings)


def local_path(place: str) -> Path:
    """The path of an input: itself, or that in a ``file://`` URL: percent-encoded, with this host's name or none; or a
    relative one, as in Jetson's own examples (``file://drive.mp4``)."""
    scheme, _, rest = place.partition("://")
    if scheme.lower() != "file" or not rest:
        return Path(place)
    path = rest.removeprefix("localhost") if rest.startswith("localhost/") else rest
    return Path(path if is_there(Path(path)) else unquote(path))


def _play(kind: Callable[[Any], Source], place: Any, settings: Settings) -> Source:
    """Open a source that is not live, to be played as the settings say."""

    def opened() -> Source:
        source = ImageSource(place, settings) if kind is ImageSource else kind(place)
        return source if settings.flip == "none" else Turned(source, settings.flip)

    source = opened()
    if not (settings.loop or settings.realtime):
        return source
    from .playback import Playback

    return Playback(source, opened, loop=settings.loop, realtime=settings.realtime)


def _group_images(places: Sequence[str]) -> list[str | list[Path]]:
    """Neighbouring image files, such as a shell makes of ``*.jpg``, become one source."""
    groups: list[str | list[Path]] = []
    for place in places:
        path = Path(place)
        if path.suffix.lower() not in SUFFIXES or not is_file(path):
            groups.append(place)
        elif groups and isinstance(groups[-1], list):
            groups[-1].append(path)
        else:
            groups.append([path])
    return groups


def _opened_camera(camera: str, settings: Settings) -> Source:
    device = f"/dev/video{camera}" if camera.isdecimal() else camera
    if not device.startswith("/dev/"):
        raise OptionError(
            f"{camera!r} is not a camera",
            "give its index, such as 0, or its device, such as /dev/video0; videos, folders and URLs go to --input",
            parameter="camera",
        )
    return _opened_live("v4l2", device, settings)


def _opened_url(scheme: str, rest: str, place: str, settings: Settings) -> Source:
    if scheme == "csi":
        if not rest.isdecimal():
            raise OptionError(f"{place} is not a CSI camera", "give its number, as in csi://0")
        return _opened_live("csi", rest, settings)
    if scheme not in _STREAMS:
        raise OptionError(
            f"{scheme}:// is not a source", f"choose one of {', '.join(_STREAMS)}, csi, v4l2, file, or demo"
        )
    return _opened_live("stream", place, settings)


def _opened_live(kind: str, place: str, settings: Settings) -> Source:
    source = RemoteSource(
        Wanted(kind, place, settings.size_wh, settings.fps, settings.pixels, settings.stall_s, settings.flip)
    )
    try:
        source.reopen()
    except SourceError:
        if not settings.wait:
            source.close()
            raise
    return source


class Turned:
    """A source that is not live, with every frame turned.

    Args:
        source: closed with this; whatever else it tells, such as ``length``, is told here too.
        flip: one of ``data.geometry.FLIPS``.
    """

    live = False

    def __init__(self, source: Source, flip: str) -> None:
        self.name, self.fps = source.name, source.fps
        self._source, self._flip = source, flip

    def read(self) -> Frame | None:
        """See ``Source``."""
        frame = self._source.read()
        return None if frame is None else turned(frame, self._flip)

    def close(self) -> None:
        """See ``Source``."""
        self._source.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


class ImageSource:
    """One image, the images of a folder or glob in the order of their names, or those of a list in its order.

    Images that cannot be read are left out where the settings say so: ``lost`` counts them, ``damage`` names the first.
    """

    live = False
    fps = 5.0

    def __init__(self, place: Path | Sequence[Path], settings: Settings | None = None) -> None:
        try:
            if not isinstance(place, Path):
                self.paths = list(place)
            elif is_there(place):
                self.paths = ImageFiles(place).paths
            else:
                self.paths = _matching(place)
        except DataError as error:
            raise SourceError(str(error)) from error
        count = len(self.paths)
        if count == 1 and is_animation(_head_of(self.paths[0])):
            shown = self.paths[0]
            # FFmpeg reads no animated WebP.
            webp = shown.suffix.lower() == ".webp"
            raise SourceError(
                f"{shown} is an animation, and of an image only the first picture is read",
                "convert it to a GIF with ImageMagick" if webp else "convert it to a video",
                f"magick {shown.name} {shown.stem}.gif" if webp else f"ffmpeg -i {shown.name} out.mp4",
            )
        settings = settings or Settings()
        self._known, self._past_unreadable = settings.frames, settings.past_unreadable
        self._pixels: PixelFormat | None = None
        self._first: DataError | None = None
        self.name = place.name if isinstance(place, Path) else f"{count} images" if count > 1 else place[0].name
        self.length = count
        self.position = 0
        """How many files were read, those that were left out included."""
        self.lost = 0

    @property
    def damage(self) -> str:
        """How many images could not be read, and the first; empty when all could."""
        count = counted(self.lost, "image")
        return f"{count} of {self.length} could not be read, first {self._first}" if self.lost else ""

    def read(self) -> Frame | None:
        """See ``Source``.

        Raises:
            SourceError: an image cannot be read, or none of those of which some may be left out.
        """
        if self._pixels is None:
            # What shows frames needs BGR, from which the engine makes grey; only a fourth channel must be read.
            wanted = PixelFormat(max(3, self._known.pixels.channels), self._known.pixels.pixel_range)
            self._pixels = pixels_of_files(self.paths, wanted)
        while self.position < self.length:
            self.position += 1
            try:
                return read_image(self.paths[self.position - 1], self._pixels)
            except DataError as error:
                self._leave_out(error)
        return None

    def _leave_out(self, error: DataError) -> None:
        self._first = self._first or error
        self.lost += 1
        _log.debug("%s", error)
        if self.lost == self.length or not self._past_unreadable:
            raise SourceError(str(self._first)) from self._first

    def close(self) -> None:
        """See ``Source``."""


class DemoSource:
    """The procedural street drive: never ends, needs nothing."""

    name = "demo"
    live = False
    fps = float(FRAMES_PER_SECOND)

    def __init__(self, place: None = None) -> None:
        self._frames = Drive().frames()

    def read(self) -> Frame | None:
        """See ``Source``."""
        return next(self._frames).image

    def close(self) -> None:
        """See ``Source``."""


def _matching(pattern: Path) -> list[Path]:
    """The images of a glob, or of names with a number as OpenCV and FFmpeg write them: ``frame%04d.jpg``."""
    if _NUMBER.search(pattern.name):
        before, after = (re.escape(part) for part in _NUMBER.split(pattern.name, maxsplit=1))
        numbered = re.compile(f"{before}\\d+{after}")
        entries = pattern.parent.iterdir() if pattern.parent.is_dir() else iter(())
        found = [path for path in entries if numbered.fullmatch(path.name)]
    else:
        found = [Path(name) for name in glob.glob(str(pattern), recursive=True)]  # noqa: PTH207 (absolute too)
    found = sorted(found, key=by_number)
    images = [path for path in found if path.suffix.lower() in SUFFIXES and path.is_file() and not is_litter(path.name)]
    if not images:
        raise SourceError(f"no image is at {pattern}: give --input a video, a folder or glob of images, or demo")
    return images


def _head_of(path: Path) -> bytes:
    """The first 4 KiB of a file; nothing where it cannot be read, which reading it as an image will report."""
    try:
        with path.open("rb") as stream:
            return stream.read(4096)
    except OSError:
        return b""

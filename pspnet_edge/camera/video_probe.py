"""Whether a video decodes, found out in a child process: ``python -m pspnet_edge.camera.video_probe PATH``.

A damaged or hostile file may crash or hang a decoder; here that ends the child and not the program.
"""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..child import child_command
from ..errors import SourceError

# Containers of video. FFmpeg would take anything else too: text as a terminal's picture, a playlist that names other
# files, a subtitle.
CONTAINERS = frozenset(
    [
        "mov",
        "mp4",
        "m4a",
        "3gp",
        "3g2",
        "mj2",
        "matroska",
        "webm",
        "avi",
        "mpegts",
        "mpegtsraw",
        "mpeg",
        "mpegvideo",
        "flv",
        "asf",
        "asf_o",
        "ogg",
        "gif",
        "h264",
        "hevc",
        "vvc",
        "m4v",
        "mjpeg",
        "mjpeg_2000",
        "ivf",
        "obu",
        "av1",
        "apng",
        "mxf",
        "rm",
        "nut",
        "dv",
        "vob",
        "yuv4mpegpipe",
        "vc1",
        "vc1test",
        "wtv",
        "swf",
        "live_flv",
        "cavsvideo",
        "dirac",
        "h261",
        "h263",
        "mpjpeg",
        "webp_pipe",
        "nuv",
        "avs",
        "avs2",
        "avs3",
        "gxf",
        "lvf",
        "roq",
        "smk",
        "bink",
        "film_cpk",
        "r3d",
    ]
)
_HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_COVER = 0x400
"""FFmpeg's AV_DISPOSITION_ATTACHED_PIC."""
_TIMEOUT_S = 30.0
_MEMORY_BYTES = 8 << 30
_NO_VIDEO, _NOT_A_VIDEO, _UNDECODABLE = 3, 4, 5
_ADVICE = "convert it with another program first"


def check_video(path: Path) -> None:
    """Decode the first frame in a child process.

    Raises:
        SourceError: it is not a video that can be decoded; the sentence says why.
    """
    command = child_command(__name__, path)
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise SourceError(
            f"the first frame of {path} was not decoded within {_TIMEOUT_S:.0f} s", _ADVICE, _command(path)
        ) from None
    if done.returncode == 0:
        return
    said = done.stdout.decode(errors="replace").rstrip()
    if done.returncode == _NO_VIDEO:
        raise SourceError(f"{path} holds no video{said}", "choose another file")
    if done.returncode == _NOT_A_VIDEO:
        _raise_for_what_it_is(path)
        raise SourceError(f"{path} is not a video{said}", "give a video, a folder of images, or demo")
    if done.returncode == _UNDECODABLE:
        raise SourceError(f"{path} is not a video that can be decoded{said}", _ADVICE, _command(path))
    if done.returncode == -signal.SIGKILL:
        raise SourceError(f"the process that decodes {path} was killed, probably for lack of memory", "free memory")
    how = signal.Signals(-done.returncode).name if done.returncode < 0 else f"status {done.returncode}"
    raise SourceError(f"the decoder crashed on {path} ({how})", _ADVICE, _command(path))


def _raise_for_what_it_is(path: Path) -> None:
    """Name what people often take for a video.

    Raises:
        SourceError: it is one of these.
    """
    with path.open("rb") as stream:
        head = stream.read(512)
    if head.startswith(b"version https://git-lfs"):
        raise SourceError(f"{path} is a Git LFS pointer, not a video", "run `git lfs pull`")
    if head.lstrip()[:15].lower().startswith((b"<!doctype", b"<html")):
        raise SourceError(f"{path} is a web page, not a video", "download the video itself")
    if head.startswith((b"\x89PNG", b"\xff\xd8\xff", b"BM")) or head[8:12] == b"WEBP":
        raise SourceError(f"{path} is an image, not a video", "rename it to end in .png, .jpg, .bmp or .webp")
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC:
        raise SourceError(f"{path} is a HEIC picture of a phone, which OpenCV does not read", "convert it to JPEG")
    if head[4:8] == b"ftyp":
        raise SourceError(
            f"{path} has no index, which a recorder writes last: it was cut short",
            "copy it again, or repair it with a program such as untrunc",
        )


def _command(path: Path) -> str:
    return f"ffmpeg -i {path.name} out.mp4"


def open_container(path: str) -> Any:
    """Open a local video with PyAV. Text that is not UTF-8 is replaced, by PyAV itself from version 19."""
    import av

    options = {"protocol_whitelist": "file"}
    # JPEGs one after another without a container; FFmpeg would take the first for a picture.
    kind = "mjpeg" if path.lower().endswith((".mjpeg", ".mjpg")) else None
    if int(av.__version__.partition(".")[0]) >= 19:
        return av.open(path, format=kind, options=options)
    return av.open(path, format=kind, options=options, metadata_errors="replace")


def main(path: str) -> int:
    """Print the reason, if any, and return the exit status."""
    import av
    import av.error

    av.logging.set_level(None)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    try:
        container = open_container(path)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        print(f" ({_reason(error)})")
        return _NOT_A_VIDEO
    names = set(container.format.name.split(","))
    if not names & CONTAINERS:
        print(f" but {container.format.long_name or container.format.name}")
        return _NOT_A_VIDEO
    if not container.streams.video:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        print(f", only {kinds}")
        return _NO_VIDEO
    stream = video_stream(container)
    codec = stream.codec_context
    if codec is None:
        print(" (its codec is unknown)")
        return _UNDECODABLE
    last = "no frame in it is whole"
    for packet in container.demux(stream):
        try:
            if any(not frame.is_corrupt for frame in packet.decode()):
                return 0
        except av.error.FFmpegError as error:
            last = _reason(error)
    print(f" ({codec.name}: {last})")
    return _UNDECODABLE


def video_stream(container: Any) -> Any:
    """The video of a file: its first stream, or the moving one of an animated picture, which has a still one first.

    Cover pictures are streams too, and come first where a file's tags do.
    """
    every = container.streams.video
    streams = [stream for stream in every if not int(stream.disposition) & _COVER] or every
    still = streams[0].frames == 1 and container.name.lower().endswith((".avif", ".heif", ".heic"))
    return max(streams, key=lambda stream: int(stream.frames)) if still else streams[0]


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(".").lower()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

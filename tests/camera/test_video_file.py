"""Videos as people have them: damaged, cut, rotated, of another codec, or not videos at all."""

from __future__ import annotations

import json
import os
import random
import struct
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from pspnet_edge.camera import video_probe
from pspnet_edge.camera.loop import Loop
from pspnet_edge.camera.sources import open_source
from pspnet_edge.camera.video_file import VideoSource
from pspnet_edge.errors import SourceError

COUNT = 60


def write_video(
    path: Path,
    *,
    codec: str = "libx264",
    sizes: Sequence[tuple[int, int]] = ((320, 240),),
    count: int = COUNT,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
) -> Path:
    """A drive over noise; each size gives a stream of its own, one after another in one file."""
    content = b""
    for size_wh in sizes:
        with av.open(str(path), "w", options=container or {}) as file:
            stream = file.add_stream(codec, rate=30, options=options or {})
            stream.width, stream.height = size_wh
            stream.pix_fmt = "yuv420p"
            noise = np.random.default_rng(0).integers(0, 256, (size_wh[1], size_wh[0], 3)).astype(np.uint8)
            noise = cv2.GaussianBlur(noise, (0, 0), 5)
            for number in range(count // len(sizes)):
                frame = av.VideoFrame.from_ndarray(np.roll(noise, 3 * number, axis=1), "bgr24")
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
        content += path.read_bytes()
    path.write_bytes(content)
    return path


def read_all(path: Path) -> tuple[VideoSource, list[np.ndarray]]:
    source = VideoSource(path)
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    source.close()
    return source, frames


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.avi", "v.MP4", "übung größe.mp4", "a b[1].mp4"])
def test_a_whole_video_gives_every_frame_and_no_alarm(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_video(tmp_path / f"plain{path.suffix.lower()}", codec="mpeg4" if name.endswith("avi") else "libx264").rename(
        path
    )
    source, frames = read_all(path)
    assert len(frames) == source.length == COUNT
    assert (source.lost, source.damage) == (0, "")
    assert source.fps == 30


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_bytes_overwritten_midway_cost_frames_and_not_the_rest(tmp_path: Path, codec: str, seed: int) -> None:
    path = write_video(tmp_path / "v.mp4", codec=codec, options={"g": "12"})
    content, numbers = bytearray(path.read_bytes()), random.Random(seed)
    for _ in range(400):
        content[numbers.randrange(len(content) // 4, len(content) // 2)] = numbers.randrange(256)
    path.write_bytes(content)
    source, frames = read_all(path)
    assert len(frames) + source.lost == COUNT
    assert source.lost > 0
    assert len(frames) > COUNT / 3, "the second half is whole"
    assert f"{source.lost} frame" in source.damage


def test_a_matroska_file_that_was_cut_says_how_much_is_missing(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    source, frames = read_all(path)
    assert 10 < len(frames) < 50
    assert len(frames) + source.lost == COUNT
    assert "is cut short" in source.damage


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".flv", ".ts"])
@pytest.mark.parametrize(
    "times_ms",
    [[40 * index if index < 10 else 400 + 500 * (index - 10) for index in range(20)], range(100_000, 100_800, 40)],
    ids=["the rate varies", "it begins late"],
)
def test_a_whole_video_whose_times_do_not_fit_its_rate_is_not_called_cut(
    suffix: str, times_ms: Sequence[int], tmp_path: Path
) -> None:
    path = tmp_path / f"v{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for time_ms in times_ms:
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), time_ms % 251, np.uint8), format="bgr24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    source, frames = read_all(path)
    assert (len(frames), source.lost, source.damage) == (20, 0, "")


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "libx264"), (".avi", "mpeg4")])
def test_other_containers_that_were_cut_say_so_too(tmp_path: Path, suffix: str, codec: str) -> None:
    path = write_video(
        tmp_path / f"v{suffix}", codec=codec, container={"movflags": "faststart"} if "4" in suffix else {}
    )
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    source, frames = read_all(path)
    assert len(frames) + source.lost == COUNT
    assert source.lost > 10
    assert source.damage


@pytest.mark.parametrize("suffix", [".h264", ".ts"])
def test_frames_keep_their_size_where_it_changes_midway(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"v{suffix}", sizes=((320, 240), (640, 480)))
    source, frames = read_all(path)
    assert [frame.shape for frame in frames] == [(240, 320, 3)] * 30 + [(480, 640, 3)] * 30
    assert source.lost == 0


def test_av1_is_decoded(tmp_path: Path) -> None:
    if "libsvtav1" not in av.codecs_available:
        pytest.skip("this PyAV has no AV1 encoder to make the test's video with")
    _, frames = read_all(write_video(tmp_path / "v.mp4", codec="libsvtav1", count=20))
    assert len(frames) == 20


@pytest.mark.parametrize(
    ("degrees", "matrix"),
    [(90, (0, 1, -1, 0)), (180, (-1, 0, 0, -1)), (270, (0, -1, 1, 0))],
)
def test_a_video_of_a_phone_held_otherwise_is_upright(
    tmp_path: Path, degrees: int, matrix: tuple[int, int, int, int]
) -> None:
    path = write_video(tmp_path / "v.mp4", count=3)
    _, (plain, *_) = read_all(path)
    content = bytearray(path.read_bytes())
    # The display matrix of the track header (ISO/IEC 14496-12, 8.3.2).
    at = content.find(b"tkhd") + 4 + 24 + 8 + 8
    a, b, c, d = (65536 * each for each in matrix)
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    _, (upright, *_) = read_all(path)
    assert (upright == np.rot90(plain, -degrees // 90)).all()


def test_a_cover_before_the_video_is_not_the_video(tmp_path: Path) -> None:
    def box(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", 8 + len(content)) + kind + content

    path = write_video(tmp_path / "v.mp4", count=3)
    _, plain = read_all(path)
    picture = cv2.imencode(".png", np.zeros((50, 60, 3), np.uint8))[1].tobytes()
    cover = box(b"covr", box(b"data", struct.pack(">II", 14, 0) + picture))
    handler = box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    tags = box(b"udta", box(b"meta", bytes(4) + handler + box(b"ilst", cover)))
    before, _, after = path.read_bytes().partition(b"moov")
    assert after[4:8] == b"mvhd"
    size = struct.pack(">I", struct.unpack(">I", before[-4:])[0] + len(tags))
    header = struct.unpack(">I", after[:4])[0]
    path.write_bytes(before[:-4] + size + b"moov" + after[:header] + tags + after[header:])
    with av.open(str(path)) as file:
        assert [stream.codec.name for stream in file.streams] == ["png", "h264"]
    _, frames = read_all(path)
    assert np.array_equal(frames, plain)


@pytest.mark.parametrize("name", ["v.mjpeg", "V.MJPG"])
def test_jpegs_one_after_another_are_a_video(tmp_path: Path, name: str) -> None:
    pictures = [cv2.imencode(".jpg", np.full((48, 64, 3), grey, np.uint8))[1].tobytes() for grey in (20, 90, 200)]
    (tmp_path / name).write_bytes(b"".join(pictures))
    _, frames = read_all(tmp_path / name)
    assert [round(float(frame.mean())) for frame in frames] == pytest.approx([20, 90, 200], abs=2)


def test_what_is_not_a_video_is_refused_by_what_it_is(tmp_path: Path) -> None:
    cases = {
        "notes.txt": (b"hello, world\n" * 1000, r"is not a video but"),
        "notes.mp4": (b"hello, world\n" * 1000, r"is not a video"),
        "list.m3u8": (b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nv.mp4\n#EXT-X-ENDLIST\n", r"is not a video"),
        "zeros.mkv": (bytes(1000), r"is not a video"),
        "empty.mp4": (b"", r"is empty"),
    }
    write_video(tmp_path / "v.mp4", count=3)
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SourceError, match=message):
            open_source(None, str(tmp_path / name))


def test_sound_alone_is_named(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 44100
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    with pytest.raises(SourceError, match="holds no video, only audio"):
        open_source(None, str(tmp_path / "a.mp4"))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "v.mp4")
    with pytest.raises(SourceError, match=r"is not a file|FIFO"):
        open_source(None, str(tmp_path / "v.mp4"))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "the decoder crashed on v.mp4 .SIGSEGV."),
        ("import time; time.sleep(60)", "was not decoded within"),
    ],
)
def test_a_decoder_that_crashes_or_hangs_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{code}'\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(video_probe.sys, "executable", str(interpreter))
    monkeypatch.setattr(video_probe, "_TIMEOUT_S", 2.0)
    with pytest.raises(SourceError, match=message):
        video_probe.check_video(Path("v.mp4"))


def test_the_loop_ends_with_the_count(tmp_path: Path) -> None:
    from .test_loop import INFO, Echo, Engine

    path = write_video(tmp_path / "v.mkv")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    summary = Loop([VideoSource(path)], Engine(INFO, Echo())).run()
    assert summary.frames + summary.lost == COUNT
    assert json.loads(json.dumps(summary.to_dict()))["sources"][0]["trouble"] == summary.sources[0].trouble


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "web page"),
    ],
)
def test_what_a_download_left_in_place_of_a_video_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=said):
        VideoSource(path)


def test_a_recording_without_its_index_is_called_cut_short(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 5])
    with pytest.raises(SourceError, match="cut short"):
        VideoSource(path)


def test_an_animation_is_not_taken_for_one_picture(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    pictures = [pillow.fromarray(np.full((32, 48, 3), value, np.uint8)) for value in (0, 120, 250)]
    for suffix, mend in ((".webp", "magick a.webp a.gif"), (".png", "ffmpeg -i a.png")):
        path = tmp_path / f"a{suffix}"
        pictures[0].save(path, save_all=True, append_images=pictures[1:])
        with pytest.raises(SourceError, match=rf"is an animation.*{mend}"):
            open_source(None, str(path))
        pictures[0].save(path)
        assert open_source(None, str(path)).length == 1


def test_an_animated_avif_gives_all_of_its_pictures(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    if not pytest.importorskip("PIL.features").check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    pictures = [image.fromarray(np.full((96, 128, 3), 40 * index, np.uint8)) for index in range(5)]
    pictures[0].save(tmp_path / "a.avif", save_all=True, append_images=pictures[1:])
    _, frames = read_all(tmp_path / "a.avif")
    assert [round(float(frame.mean()) / 40) for frame in frames] == [0, 1, 2, 3, 4]


def test_a_picture_of_a_phone_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(SourceError, match="HEIC picture"):
        VideoSource(tmp_path / "a.heic")


def test_a_title_that_is_not_utf8_does_not_matter(tmp_path: Path) -> None:
    """PyAV raised at it unless told otherwise, by an argument that version 19 no longer has."""
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as file:
        file.metadata["title"] = "cafXYZ"
        stream = file.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for _ in range(5):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((240, 320, 3), np.uint8), "bgr24")))
        file.mux(stream.encode(None))
    content = path.read_bytes()
    assert content.count(b"cafXYZ") == 1
    path.write_bytes(content.replace(b"cafXYZ", b"caf\xe9\xff\xfe"))
    assert len(read_all(path)[1]) == 5

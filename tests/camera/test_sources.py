from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
import pytest

from pspnet_edge.camera.sources import ImageSource, LiveSource, Settings, open_source, open_sources
from pspnet_edge.errors import OptionError, SourceError


def frames_of(place: Path | str) -> list[np.ndarray]:
    source = open_source(None, str(place))
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    source.close()
    return frames


def test_a_video_gives_every_frame(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (64, 48))
    for level in range(0, 240, 8):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    frames = frames_of(path)
    assert len(frames) == 30
    means = [frame.mean() for frame in frames]
    assert means == sorted(means)
    assert open_source(None, str(path)).fps == 25


def test_a_folder_gives_its_images_in_the_order_of_their_names(tmp_path: Path) -> None:
    for level, name in ((20, "b.png"), (10, "a.jpg"), (30, "c.bmp")):
        cv2.imwrite(str(tmp_path / name), np.full((8, 8, 3), level, np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    assert [round(frame.mean(), -1) for frame in frames_of(tmp_path)] == [10, 20, 30]


def test_one_image_is_a_source(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    assert len(frames_of(tmp_path / "a.png")) == 1


def test_the_demo_goes_on() -> None:
    source = open_source(None, "demo")
    assert not source.live
    first, second = source.read(), source.read()
    assert first is not None
    assert second is not None
    assert (first != second).any()


def broken_image(folder: Path) -> str:
    (folder / "a.png").write_bytes(b"\x89PNG broken")
    return str(folder)


def broken_video(folder: Path) -> str:
    (folder / "v.mp4").write_bytes(b"\0" * 1000)
    return str(folder / "v.mp4")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (lambda folder: str(folder), "holds no image"),
        (lambda folder: str(folder / "absent.mp4"), "there is no video"),
        (broken_video, "is not a video"),
        (broken_image, "is not an image"),
    ],
)
def test_a_place_without_frames_is_named(tmp_path: Path, place, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(None, place(tmp_path)).read()


@pytest.mark.parametrize("camera", [63, "63", "/dev/video63"])
def test_a_missing_camera_is_named(camera: int | str) -> None:
    with pytest.raises(SourceError, match="there is no camera /dev/video63"):
        open_source(camera, None)


def test_a_device_that_is_no_camera_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="/dev/null cannot be opened: another program may be using it"):
        open_source("/dev/null", None)


@pytest.mark.parametrize(("camera", "place"), [(None, None), (0, "demo")])
def test_exactly_one_source_must_be_given(camera: int | None, place: str | None) -> None:
    with pytest.raises(OptionError, match="either --camera N or --input"):
        open_source(camera, place)


@pytest.mark.parametrize(
    ("cameras", "places", "message"),
    [
        ([], [], "give --camera N or --input PLACE"),
        (["front"], [], "'front' is not a camera"),
        (["drive.mp4"], [], "videos, folders and URLs go to --input"),
        ([], ["csi://left"], "csi://left is not a CSI camera"),
        ([], ["gopher://host/x"], "gopher:// is not a source"),
    ],
)
def test_what_names_no_source_is_wrong_usage(cameras: list[str], places: list[str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        open_sources(cameras, places, Settings())


def test_pixels_must_be_known() -> None:
    with pytest.raises(OptionError, match="unknown pixels 'h264'"):
        open_sources(["0"], [], Settings(pixels="h264"))


def test_a_glob_gives_what_it_matches_in_order(tmp_path: Path) -> None:
    for level, name in ((20, "b1.png"), (10, "a1.png"), (30, "a2.png")):
        cv2.imwrite(str(tmp_path / name), np.full((8, 8, 3), level, np.uint8))
    assert [int(frame[0, 0, 0]) for frame in frames_of(tmp_path / "a*.png")] == [10, 30]
    with pytest.raises(SourceError, match="no image is at"):
        open_source(None, str(tmp_path / "c*.png"))


def test_images_of_which_none_can_be_read_are_one_error(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no image")
    source = open_source(None, str(tmp_path), Settings(past_unreadable=True))
    with pytest.raises(SourceError, match=r"a\.png"):
        source.read()


def test_only_who_asks_for_it_gets_past_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    cv2.imwrite(str(tmp_path / "b.png"), np.full((8, 8, 3), 70, np.uint8))
    with pytest.raises(SourceError, match=r"a\.png"):
        ImageSource(tmp_path).read()
    source = ImageSource(tmp_path, Settings(past_unreadable=True))
    assert source.read() is not None
    assert (source.position, source.lost) == (2, 1)


@pytest.mark.parametrize("place", ["file://{}", "FILE://localhost{}", "file://{quoted}"])
def test_a_file_url_is_its_file(tmp_path: Path, place: str) -> None:
    image = tmp_path / "süd #1 100%.png"
    cv2.imwrite(str(image), np.full((8, 8, 3), 70, np.uint8))
    assert [int(frame[0, 0, 0]) for frame in frames_of(place.format(image, quoted=quote(str(image))))] == [70]


def test_a_file_url_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((8, 8, 3), 70, np.uint8))
    monkeypatch.chdir(tmp_path)
    assert len(frames_of("file://a.png")) == 1


@pytest.mark.parametrize("place", ["/dev/video63", "v4l2:///dev/video63", "v4l2://63"])
def test_a_camera_may_be_an_input(place: str) -> None:
    with pytest.raises(SourceError, match="there is no camera /dev/video63"):
        open_source(None, place)


def test_a_stream_that_is_not_there_is_named_without_its_password() -> None:
    with pytest.raises(SourceError, match=r"^http://127\.0\.0\.1:9/x does not answer") as raised:
        open_source(None, "http://user:se@cret@127.0.0.1:9/x?token=secret")
    assert "cret" not in str(raised.value)


def test_one_may_begin_without_a_source_that_is_not_there_yet() -> None:
    (source,) = open_sources([], ["http://127.0.0.1:9/x"], Settings(wait=True))
    assert isinstance(source, LiveSource)
    with pytest.raises(SourceError, match="does not answer"):
        source.reopen()
    source.close()


@pytest.mark.parametrize("place", [".", "*"])
def test_what_other_systems_leave_in_folders_is_passed_over(tmp_path: Path, place: str) -> None:
    """AppleDouble files, thumbnails and a FIFO beside images, one of them in capitals and one not in ASCII."""
    for name in ("a.JPG", "bäume ü.png"):
        cv2.imencode(name[-4:], np.full((8, 8, 3), 90, np.uint8))[1].tofile(tmp_path / name)
    for name in ("._a.JPG", "Thumbs.db", ".DS_Store", "desktop.ini"):
        (tmp_path / name).write_bytes(b"not an image")
    os.mkfifo(tmp_path / "camera.png")
    assert len(frames_of(tmp_path / place if place == "*" else tmp_path)) == 2

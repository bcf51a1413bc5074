from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pspnet_edge.camera.sinks import Recorder
from pspnet_edge.camera.sources import open_source
from pspnet_edge.errors import OptionError, SourceError


def frames_of(place: Path) -> list[np.ndarray]:
    source = open_source(None, str(place))
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    source.close()
    return frames


def test_a_video_gives_every_frame(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    with Recorder(path, 25) as recorder:
        for level in range(0, 240, 8):
            recorder.show(np.full((48, 64, 3), level, np.uint8))
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
        (lambda folder: str(folder / "absent.mp4"), "there is no file or folder"),
        (broken_video, "is not a video"),
        (broken_image, "is not an image"),
    ],
)
def test_a_place_without_frames_is_named(tmp_path: Path, place, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(None, place(tmp_path)).read()


def test_a_missing_camera_is_named() -> None:
    with pytest.raises(SourceError, match="there is no camera 63"):
        open_source(63, None)


@pytest.mark.parametrize(("camera", "place"), [(None, None), (0, "demo")])
def test_exactly_one_source_must_be_given(camera: int | None, place: str | None) -> None:
    with pytest.raises(OptionError, match="either --camera N or --input"):
        open_source(camera, place)

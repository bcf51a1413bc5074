from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pspnet_edge.camera.sinks import Recorder, check_view
from pspnet_edge.errors import OptionError, OutputError

PICTURE = np.zeros((48, 64, 3), np.uint8)


@pytest.mark.parametrize("name", ["v.mp4", "v.avi", "v.mkv"])
def test_a_recording_appears_when_it_is_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with Recorder(path, 30) as recorder:
        for _ in range(5):
            assert recorder.show(PICTURE)
        assert not path.exists()
    capture = cv2.VideoCapture(str(path))
    assert [capture.read()[0] for _ in range(6)] == [True] * 5 + [False]
    assert list(tmp_path.iterdir()) == [path]


def test_a_recording_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with Recorder(tmp_path / "v.mp4", 30) as recorder:
            recorder.show(PICTURE)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_pictures_of_another_size_are_stretched(tmp_path: Path) -> None:
    with Recorder(tmp_path / "v.avi", 30) as recorder:
        recorder.show(PICTURE)
        recorder.show(np.zeros((10, 20, 3), np.uint8))
    capture = cv2.VideoCapture(str(tmp_path / "v.avi"))
    assert [capture.read()[1].shape for _ in range(2)] == [(48, 64, 3)] * 2


def test_a_place_that_takes_no_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no suffix of a video"):
        Recorder(tmp_path / "v.txt", 30)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        Recorder(tmp_path / "file" / "v.mp4", 30)


def test_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert check_view("auto") == "none"
    with pytest.raises(OutputError, match="no display"):
        check_view("window")
    with pytest.raises(OptionError, match="choose one of"):
        check_view("hologram")
    monkeypatch.setenv("DISPLAY", ":0")
    assert check_view("auto") == "window"

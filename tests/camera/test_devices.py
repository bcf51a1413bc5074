"""V4L2 without a camera: what is asked of OpenCV, in which order, and what is read back."""

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest

from pspnet_edge.camera import devices
from pspnet_edge.camera.devices import Wanted, open_device, set_environment, without_secrets
from pspnet_edge.errors import SourceError


class Camera:
    """A V4L2 camera that gives 640×480 at 15 FPS whatever it is asked for."""

    def __init__(self, place: str, backend: int) -> None:
        assert backend == cv2.CAP_V4L2
        self.asked: list[tuple[int, float]] = []
        Camera.last = self

    def isOpened(self) -> bool:
        return True

    def set(self, key: int, value: float) -> bool:
        self.asked.append((key, value))
        return True

    def get(self, key: int) -> float:
        code = float(cv2.VideoWriter.fourcc(*"YUYV"))
        return {cv2.CAP_PROP_FRAME_WIDTH: 640.0, cv2.CAP_PROP_FRAME_HEIGHT: 480.0, cv2.CAP_PROP_FOURCC: code}.get(
            key, 15.0
        )

    def read(self) -> tuple[bool, np.ndarray]:
        return True, np.zeros((480, 640, 3), np.uint8)

    def release(self) -> None:
        pass


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> type[Camera]:
    monkeypatch.setattr(devices.cv2, "VideoCapture", Camera)
    return Camera


def test_pixels_are_chosen_before_size_and_rate_and_all_is_read_back(camera: type[Camera]) -> None:
    device = open_device(Wanted("v4l2", "/dev/null", (1280, 720), 60.0, "mjpg"))
    keys = [key for key, _ in camera.last.asked]
    wanted = [cv2.CAP_PROP_FOURCC, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS]
    assert keys[:4] == wanted
    assert camera.last.asked[0][1] == cv2.VideoWriter.fourcc(*"MJPG")
    assert (cv2.CAP_PROP_BUFFERSIZE, 1) in camera.last.asked
    assert device.format == "640x480 YUYV 15 FPS"
    assert device.fps == 15


def test_what_is_not_asked_is_left_alone(camera: type[Camera]) -> None:
    open_device(Wanted("v4l2", "/dev/null"))
    assert camera.last.asked == [(cv2.CAP_PROP_BUFFERSIZE, 1)]


def test_a_camera_without_permission_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *arguments: False)
    with pytest.raises(SourceError, match="sudo usermod -aG video"):
        open_device(Wanted("v4l2", "/dev/null"))


def test_deadlines_reach_ffmpeg_and_v4l2(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENCV_FFMPEG_CAPTURE_OPTIONS", "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "")  # so that it is taken away again
        monkeypatch.delenv(name)
    set_environment(Wanted("stream", "rtsp://h/x", stall_s=2.5))
    assert "rtsp_transport;tcp" in os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"]
    assert "rw_timeout;2500000" in os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"]
    assert os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"] == "2"


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("rtsp://admin:p@ss:word@10.0.0.7:554/ch/1?auth=x", "rtsp://10.0.0.7:554/ch/1"),
        ("http://cam.local/video", "http://cam.local/video"),
        ("10.0.0.5:5004", "10.0.0.5:5004"),
        ("rtsp://admin:a?b@10.0.0.7/ch", "rtsp://10.0.0.7/ch"),
        ("rtsp://admin:a/b@10.0.0.7/ch", "rtsp://…"),
        ("http://cam?key=x", "http://cam"),
    ],
)
def test_names_hold_no_secrets(place: str, shown: str) -> None:
    assert without_secrets(place) == shown

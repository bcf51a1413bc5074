"""V4L2 without a camera: what is asked of OpenCV, in which order, and what is read back."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from pspnet_edge.camera import devices, v4l2
from pspnet_edge.camera.devices import GreyRange, Wanted, open_device, set_environment, without_secrets
from pspnet_edge.camera.v4l2 import Capabilities, has_encoder
from pspnet_edge.data.geometry import FLIPS
from pspnet_edge.errors import OptionError, SourceError


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
    assert device.format == "480x640 YUYV 15 FPS", "what the driver granted, not what was asked for"
    assert device.fps == 15


def test_what_is_not_asked_is_left_alone(camera: type[Camera]) -> None:
    open_device(Wanted("v4l2", "/dev/null"))
    assert [key for key, _ in camera.last.asked] == [cv2.CAP_PROP_BUFFERSIZE]


def test_the_driver_has_a_buffer_for_the_next_frame_while_opencv_decodes_one(camera: type[Camera]) -> None:
    open_device(Wanted("v4l2", "/dev/null"))
    (buffers,) = [value for key, value in camera.last.asked if key == cv2.CAP_PROP_BUFFERSIZE]
    assert buffers >= 2, "with one, a camera of 30 frames per second gives 15"


@pytest.mark.parametrize(
    ("size_wh", "pixels", "code"),
    [
        ((1280, 720), "auto", "MJPG"),
        ((640, 480), "auto", None),
        (None, "auto", None),
        ((1280, 720), "raw", "YUYV"),
        ((640, 480), "mjpg", "MJPG"),
    ],
)
def test_large_frames_are_asked_for_as_mjpg_and_small_ones_as_they_come(
    camera: type[Camera], size_wh: tuple[int, int] | None, pixels: str, code: str | None
) -> None:
    open_device(Wanted("v4l2", "/dev/null", size_wh, None, pixels))
    asked = [value for key, value in camera.last.asked if key == cv2.CAP_PROP_FOURCC]
    assert asked == ([] if code is None else [cv2.VideoWriter.fourcc(*code)])


def test_a_raw_csi_sensor_is_named_with_its_source(camera: type[Camera], monkeypatch: pytest.MonkeyPatch) -> None:
    sensor = Capabilities("vi-output, imx219 9-0010", 1)
    monkeypatch.setattr(devices.v4l2, "capabilities", lambda device: sensor)
    with pytest.raises(SourceError, match="use --input csi://0"):
        open_device(Wanted("v4l2", "/dev/null"))


def test_a_metadata_device_is_named(camera: type[Camera], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.v4l2, "capabilities", lambda device: Capabilities("HD Webcam", 0x00A00000))
    with pytest.raises(SourceError, match="delivers no frames"):
        open_device(Wanted("v4l2", "/dev/null"))


class Thermal(Camera):
    """Sixteen bits per pixel of which twelve are used, as OpenCV gives them without its conversion."""

    def get(self, key: int) -> float:
        return float(cv2.VideoWriter.fourcc(*"Y16 ")) if key == cv2.CAP_PROP_FOURCC else super().get(key)

    def read(self) -> tuple[bool, np.ndarray]:
        assert (cv2.CAP_PROP_CONVERT_RGB, 0) in self.asked
        return True, np.linspace(1000, 1400, 480 * 640).reshape(480, 640).astype(np.uint16)


def test_a_thermal_camera_is_never_black(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.cv2, "VideoCapture", Thermal)
    device = open_device(Wanted("v4l2", "/dev/null"))
    frame = device.read()
    assert frame.shape == (480, 640, 3)
    assert frame.min() == 0
    assert frame.max() == 255
    assert 120 < frame.mean() < 135


def test_the_range_of_a_thermal_camera_follows_slowly() -> None:
    greys = GreyRange()
    scene = np.linspace(1000, 2000, 10000).reshape(100, 100).astype(np.uint16)
    before = greys.to_bytes(scene)
    hot = scene.copy()
    hot[:20, :20] = 60000
    assert np.abs(greys.to_bytes(hot)[50:].astype(int) - before[50:]).mean() < 250
    assert (greys.to_bytes(np.full((8, 8), 1500, np.uint16)) <= 255).all()
    assert (GreyRange().to_bytes(np.full((8, 8), 1500, np.uint16)) == 128).all()


def test_a_grey_camera_gives_three_equal_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    class Grey(Camera):
        def read(self) -> tuple[bool, np.ndarray]:
            return True, np.full((480, 640), 77, np.uint8)

    monkeypatch.setattr(devices.cv2, "VideoCapture", Grey)
    frame = open_device(Wanted("v4l2", "/dev/null")).read()
    assert frame.shape == (480, 640, 3)
    assert (frame == 77).all()


@pytest.mark.parametrize("flip", FLIPS)
def test_a_camera_that_is_mounted_otherwise_is_turned(camera: type[Camera], flip: str) -> None:
    frame = open_device(Wanted("v4l2", "/dev/null", flip=flip)).read()
    assert frame.shape == ((640, 480, 3) if flip in ("90", "270") else (480, 640, 3))


def test_an_unknown_flip_is_refused() -> None:
    with pytest.raises(OptionError, match="unknown flip '45'"):
        Wanted("v4l2", "/dev/null", flip="45")


@pytest.mark.parametrize(
    ("place", "named"),
    [
        ("rtsp://u:pa@ss@127.0.0.1:9/x", "@"),
        ("rtsp://u:pa#ss@127.0.0.1:9/x", "#"),
        ("rtsp://u:pa?ss@127.0.0.1:9/x", r"\?"),
        ("rtsp://u:pa/ss@127.0.0.1:9/x", "/"),
        ("rtsp://u:100%@127.0.0.1:9/x", "%"),
        ("rtsp://u:a:b@127.0.0.1:9/x", ":"),
    ],
)
def test_a_password_that_breaks_the_url_is_named_by_its_character(place: str, named: str) -> None:
    with pytest.raises(SourceError, match=f"password holds {named}, which must be percent-encoded") as raised:
        open_device(Wanted("stream", place, stall_s=0.5))
    assert "ss@" not in str(raised.value)


@pytest.mark.parametrize(
    "place", ["rtsp://u:p%40ss@127.0.0.1:9/x", "rtsp://127.0.0.1:9/x?a=b@c", "rtsp://127.0.0.1:9/x"]
)
def test_other_addresses_are_not_blamed_on_their_encoding(place: str) -> None:
    with pytest.raises(SourceError, match="check its power") as raised:
        open_device(Wanted("stream", place, stall_s=0.5))
    assert "encoded" not in str(raised.value)


def test_an_encoder_is_one_that_answers(tmp_path: Path) -> None:
    assert not has_encoder(str(tmp_path / "absent"))
    stub = tmp_path / "v4l2-nvenc"
    stub.symlink_to("/dev/null")
    assert not has_encoder(str(stub)), "a node that leads nowhere, as on some boards"


def test_the_encoder_is_asked_what_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def answering(flags: int) -> None:
        answer = bytearray(v4l2.QUERYCAP_BYTES)
        answer[16:21] = b"nvenc"
        answer[84:92] = struct.pack("II", 0x80000000 | flags, flags)
        monkeypatch.setattr(v4l2.fcntl, "ioctl", lambda *arguments: bytes(answer))

    node = tmp_path / "v4l2-nvenc"
    node.touch()
    answering(0x4000)
    assert has_encoder(str(node))
    assert v4l2.capabilities(str(node)) == Capabilities("nvenc", 0x4000)
    answering(0x1)
    assert not has_encoder(str(node))


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
        ("rtsp://admin:p@ss#1/?@10.0.0.7/ch", "rtsp://…"),
        ("rtsp://admin:p@ss/1@10.0.0.7/ch", "rtsp://…"),
        ("rtsp://u:p@[fe80::1]:554/ch", "rtsp://[fe80::1]:554/ch"),
        ("rtsp://u:p@h#x/ch", "rtsp://…"),
    ],
)
def test_names_hold_no_secrets(place: str, shown: str) -> None:
    assert without_secrets(place) == shown

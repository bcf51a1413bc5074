"""The Jetson's pipelines, run by Debian's OpenCV and GStreamer with software twins of NVIDIA's elements."""

from __future__ import annotations

import re
import socket
import subprocess
from pathlib import Path

import pytest

from pspnet_edge.camera.gstreamer import (
    NVIDIA_ENCODER,
    TWINS,
    Outputs,
    binding_pipeline,
    csi_source,
    in_software,
    mjpg_source,
    opencv_pipeline,
    rtsp_source,
)
from pspnet_edge.data.geometry import FLIPS

from . import debian
from .nvidia_elements import FLIP_METHODS, INTERPOLATIONS, PROPERTIES

SOFTWARE = {"PSPNET_EDGE_VIDEO": "software"}
HEADS = (csi_source("1", (1920, 1080), 60), rtsp_source(), mjpg_source("/dev/video0", (1280, 720), 30))
OUTPUTS = [
    Outputs(engine_hw, whole, flip) for engine_hw in (None, (384, 480)) for whole in (True, False) for flip in FLIPS
]
EVERY_PIPELINE = [
    *(binding_pipeline(head, outputs) for head in HEADS for outputs in OUTPUTS),
    *(opencv_pipeline(HEADS[0], outputs) for outputs in OUTPUTS),
    NVIDIA_ENCODER,
]


@pytest.fixture(scope="module")
def system() -> None:
    debian.skip_without()


def elements(pipeline: str) -> list[tuple[str, dict[str, str]]]:
    """The NVIDIA elements of a pipeline and what is set on each."""
    found = re.findall(r"(?:^|[!.] )(nv\w+)((?: [\w-]+=\S+)*)", pipeline)
    return [(name, dict(each.split("=", 1) for each in properties.split())) for name, properties in found]


def test_every_property_that_is_set_is_one_of_the_boards_elements() -> None:
    seen: set[str] = set()
    for pipeline in EVERY_PIPELINE:
        assert elements(pipeline), pipeline
        for name, properties in elements(pipeline):
            assert properties.keys() <= PROPERTIES[name], (name, properties)
            seen.add(name)
    assert seen == set(TWINS) == set(PROPERTIES)


@pytest.mark.parametrize(
    ("flip", "method"),
    [("none", "none"), ("180", "rotate-180"), ("90", "clockwise"), ("270", "counterclockwise"),
     ("horizontal", "horizontal-flip"), ("vertical", "vertical-flip")],
)  # fmt: skip
def test_a_flip_is_the_boards_method_of_that_name(flip: str, method: str) -> None:
    ((name, properties),) = elements(binding_pipeline(HEADS[0], Outputs(flip=flip)))[1:]
    assert name == "nvvidconv"
    assert FLIP_METHODS[properties.get("flip-method", "0")] == method


def test_the_engines_size_is_not_scaled_by_the_nearest_pixel() -> None:
    (_, properties) = elements(binding_pipeline(HEADS[0], Outputs((384, 480), whole=False)))[1]
    assert INTERPOLATIONS[properties["interpolation-method"]] == "Nicest"


def test_the_sensors_pixels_are_named() -> None:
    assert "format=NV12" in csi_source("0", None, None)
    assert "framerate=60/1" in HEADS[0]
    assert "sensor-id=1 " in HEADS[0]


def test_opencv_gets_no_name_that_it_does_not_know() -> None:
    for outputs in OUTPUTS:
        pipeline = opencv_pipeline(HEADS[0], outputs)
        assert pipeline.count("appsink") == 1
        assert re.search(r"! appsink (?!name=)", pipeline)


def test_no_branch_of_full_size_is_made_when_only_the_engine_looks() -> None:
    alone = binding_pipeline(HEADS[0], Outputs((384, 480), whole=False))
    assert "tee" not in alone
    assert alone.count("nvvidconv") == 1
    assert "width=480,height=384" in alone
    assert binding_pipeline(HEADS[0], Outputs((384, 480))).count("nvvidconv") == 2


def test_twins_leave_nothing_of_nvidias() -> None:
    for pipeline in EVERY_PIPELINE:
        assert not elements(in_software(pipeline))
        assert "NVMM" not in in_software(pipeline)


@pytest.mark.parametrize("binding", [True, False])
def test_a_csi_camera_gives_300_frames_newest_first(system: None, binding: bool) -> None:
    """With GStreamer's Python binding, and through OpenCV alone as where python3-gi is missing."""
    code = """
import sys, time
from pspnet_edge.camera import devices
if sys.argv[1] == "False":
    devices.binding_has = lambda name: False
from pspnet_edge.camera.devices import Wanted, open_device
device = open_device(Wanted("csi", "0", (640, 360), 100))
assert type(device).__name__ == ("GstDevice" if sys.argv[1] == "True" else "OpenCvDevice"), type(device)
frames = [device.read() for _ in range(300)]
assert all(frame is not None and frame.shape == (360, 640, 3) for frame in frames)
assert frames[0].max() > 200, "the ball is drawn"
time.sleep(0.5)
start = time.perf_counter()
for _ in range(4):
    device.read()
waited = time.perf_counter() - start
assert waited > 0.015, f"old frames were kept: four came in {waited:.4f} s"
device.close()
print(device.format)
"""
    done = debian.run(code, binding, **SOFTWARE)
    assert done.stdout == "360x640 100 FPS\n", done.stderr


def test_the_string_with_a_named_sink_does_not_open_in_opencv(system: None) -> None:
    """Why the name matters: this is what every JetPack's OpenCV answered to the first version of the pipeline."""
    code = """
import cv2
from pspnet_edge.camera.gstreamer import Outputs, csi_source, in_software, opencv_pipeline
good = in_software(opencv_pipeline(csi_source("0", (320, 240), 30), Outputs()))
print(cv2.VideoCapture(good, cv2.CAP_GSTREAMER).isOpened())
print(cv2.VideoCapture(good.replace("appsink", "appsink name=out"), cv2.CAP_GSTREAMER).isOpened())
"""
    done = debian.run(code)
    assert done.stdout.split() == ["True", "False"], done.stderr


def test_a_csi_camera_through_the_reader_process(system: None) -> None:
    code = """
from pspnet_edge.camera.devices import Wanted
from pspnet_edge.camera.remote_source import RemoteSource
source = RemoteSource(Wanted("csi", "0", (1920, 1080), 30))
source.reopen()
assert source.read().shape == (1080, 1920, 3)
assert source.prepared is None
source.ask((96, 128), whole=True)
whole = source.read()
assert whole.shape == (1080, 1920, 3), whole.shape
assert source.prepared.shape == (96, 128, 3)
source.ask((96, 128), whole=False)
assert source.read().shape == (96, 128, 3)
assert source.prepared is None
source.close()
print("done")
"""
    done = debian.run(code, **SOFTWARE)
    assert done.stdout == "done\n", done.stderr


def test_the_small_frame_is_the_whole_one_scaled(system: None) -> None:
    code = """
import cv2, numpy as np
from pspnet_edge.camera.devices import Wanted, open_device
device = open_device(Wanted("csi", "0", (640, 480), 30, engine_hw=(240, 320)))
for _ in range(20):
    whole = device.read()
    expected = cv2.resize(whole, (320, 240), interpolation=cv2.INTER_AREA)
    assert np.abs(expected.astype(int) - device.prepared).mean() < 2, "of another frame"
print(device.conversions)
"""
    done = debian.run(code, **SOFTWARE)
    assert done.stdout == "20\n", done.stderr


def test_without_a_viewer_no_full_frame_is_converted(system: None) -> None:
    code = """
from pspnet_edge.camera.devices import Wanted, open_device
device = open_device(Wanted("csi", "0", (1920, 1080), 30, engine_hw=(96, 128), whole=False))
assert all(device.read().shape == (96, 128, 3) for _ in range(10))
print(device.conversions)
"""
    done = debian.run(code, **SOFTWARE)
    assert done.stdout == "0\n", done.stderr


@pytest.mark.parametrize("binding", [True, False])
@pytest.mark.parametrize("flip", FLIPS)
def test_a_flip_on_the_video_engines_is_that_of_opencv(system: None, flip: str, binding: bool) -> None:
    code = """
import sys
import cv2, numpy as np
from pspnet_edge.camera import devices
from pspnet_edge.camera.gstreamer import Outputs, csi_source, GstDevice, binding_pipeline, in_software, opencv_pipeline
from pspnet_edge.data.geometry import turned
head = in_software(csi_source("0", (64, 48), 30)).replace("pattern=ball", "pattern=smpte")
def frame(flip):
    if sys.argv[2] == "True":
        return GstDevice(in_software(binding_pipeline(head, Outputs(flip=flip))), 3).read()
    return cv2.VideoCapture(in_software(opencv_pipeline(head, Outputs(flip=flip))), cv2.CAP_GSTREAMER).read()[1]
# The last of the bars is noise.
plain, flipped = frame("none"), frame(sys.argv[1])
expected = turned(plain, sys.argv[1])
assert flipped.shape == expected.shape, flipped.shape
same = np.abs(flipped.astype(int) - expected) < 12
print(same.mean() > 0.9)
"""
    done = debian.run(code, flip, binding)
    assert done.stdout == "True\n", done.stderr


def test_jpeg_pictures_of_a_usb_camera_are_decoded_by_the_same_graph(system: None) -> None:
    code = """
from pspnet_edge.camera.gstreamer import GstDevice, Outputs, binding_pipeline, in_software, mjpg_source
pipeline = in_software(binding_pipeline(mjpg_source("/dev/video0", (640, 480), 30), Outputs((96, 128))))
camera = "v4l2src device=/dev/video0 ! image/jpeg,width=640,height=480,framerate=30/1"
assert camera in pipeline
twin = "videotestsrc is-live=true ! video/x-raw,width=640,height=480,framerate=30/1 ! jpegenc"
device = GstDevice(pipeline.replace(camera, twin), 5)
assert device.read().shape == (480, 640, 3)
print(device.prepared.shape)
"""
    done = debian.run(code)
    assert done.stdout == "(96, 128, 3)\n", done.stderr


def test_the_boards_encoder_gives_a_stream_that_plays(system: None, tmp_path: Path) -> None:
    code = """
import sys
from pspnet_edge.camera.gstreamer import NVIDIA_ENCODER, in_software, load_gst
gst = load_gst()
pipeline = gst.parse_launch(in_software(
    "videotestsrc num-buffers=30 ! video/x-raw,format=BGR,width=320,height=240,framerate=30/1 ! videoconvert ! "
    + NVIDIA_ENCODER + f" ! h264parse ! mp4mux ! filesink location={sys.argv[1]}"))
pipeline.set_state(gst.State.PLAYING)
message = pipeline.get_bus().timed_pop_filtered(20 * gst.SECOND, gst.MessageType.EOS | gst.MessageType.ERROR)
assert message.type == gst.MessageType.EOS, message.parse_error()
pipeline.set_state(gst.State.NULL)
"""
    done = debian.run(code, tmp_path / "v.mp4")
    assert done.returncode == 0, done.stderr
    import av

    with av.open(str(tmp_path / "v.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 30


def test_a_stream_that_is_not_there_is_known_at_once(system: None) -> None:
    """And not after the whole of --stall, or the loop would not be back within two seconds of the server."""
    code = """
import time
from pspnet_edge.camera.gstreamer import GstDevice, Outputs, binding_pipeline, in_software, rtsp_source
from pspnet_edge.errors import SourceError
start = time.perf_counter()
try:
    GstDevice(in_software(binding_pipeline(rtsp_source(), Outputs())), 20, {"location": "rtsp://127.0.0.1:9/live"})
except SourceError as error:
    print(time.perf_counter() - start < 10, error)
"""
    done = debian.run(code)
    assert done.stdout.startswith("True GStreamer: "), done.stdout + done.stderr


def test_an_rtsp_camera_through_the_boards_graph(system: None, tmp_path: Path) -> None:
    """A real server, with GStreamer's own client and the decoder's twin: whole and small frames."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Path(__file__).with_name("rtsp_server.py")
    code = """
import sys
from pspnet_edge.camera.devices import Wanted, open_device
device = open_device(Wanted("stream", sys.argv[1], engine_hw=(96, 128), stall_s=8))
assert type(device).__name__ == "GstDevice", type(device)
frames = [device.read() for _ in range(10)]
print({frame.shape for frame in frames}, device.prepared.shape)
"""
    with subprocess.Popen(
        [debian.PYTHON, str(server), str(port), "user=admin:p@ss"], stdout=subprocess.PIPE, text=True
    ) as camera:
        assert camera.stdout is not None
        assert camera.stdout.readline() == "listening\n"
        done = debian.run(code, f"rtsp://admin:p%40ss@127.0.0.1:{port}/live", **SOFTWARE)
        camera.kill()
    assert done.stdout == "{(240, 320, 3)} (96, 128, 3)\n", done.stderr

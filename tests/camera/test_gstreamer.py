"""GStreamer itself where it is installed, in a process of its own, because it lives with the system's Python."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pspnet_edge.camera.devices import Wanted, open_device
from pspnet_edge.camera.rtp import rtp_pipeline
from pspnet_edge.errors import OptionError, OutputError, SourceError

DEBIAN = "/usr/lib/python3/dist-packages"
BOOT = f"import sys; sys.path.append({DEBIAN!r})\n"


def in_process(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BOOT + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def gst() -> None:
    code = (
        "from pspnet_edge.camera.gstreamer import has_element\n"
        "assert all(map(has_element, ('videotestsrc', 'appsink', 'x264enc', 'h264parse', 'udpsink')))"
    )
    if in_process(code).returncode:
        pytest.skip(
            "no GStreamer for this Python: apt-get install python3-gi gir1.2-gstreamer-1.0 gstreamer1.0-plugins-*"
        )


def test_a_csi_camera_where_none_can_be_is_named() -> None:
    with pytest.raises(SourceError, match=r"nvarguscamerasrc|needs GStreamer"):
        open_device(Wanted("csi", "0"))


def test_frames_come_through_an_appsink(gst: None) -> None:
    code = """
import time
from pspnet_edge.camera.gstreamer import GstDevice
device = GstDevice("videotestsrc is-live=true pattern=red "
                   "! video/x-raw,format=BGRx,width=322,height=200,framerate=50/1 "
                   "! appsink name=whole max-buffers=1 drop=true sync=false", 2.0)
frames = [device.read() for _ in range(5)]
assert frames[0].shape == (200, 322, 3) and frames[0][100, 100].tolist() == [0, 0, 255], frames[0][100, 100]
time.sleep(0.5)
start = time.perf_counter()
for _ in range(12):  # new ones take 0.24 s, less where a busy machine sends late ones together; kept ones take none
    device.read()
assert time.perf_counter() - start > 0.05, "old frames were kept"
device.close()
print(device.format, device.fps)
"""
    done = in_process(code)
    assert done.stdout == "200x322 50 FPS 50.0\n", done.stderr


def test_a_pipeline_that_ends_or_fails_is_said(gst: None) -> None:
    code = """
from pspnet_edge.camera.gstreamer import GstDevice
from pspnet_edge.errors import SourceError
device = GstDevice("videotestsrc num-buffers=3 ! video/x-raw,format=BGRx ! appsink name=whole", 1.0)
assert sum(device.read() is not None for _ in range(5)) == 2
for wrong in ("nosuchelement ! appsink name=whole", "filesrc location=/nonexistent ! decodebin ! appsink name=whole"):
    try:
        GstDevice(wrong, 1.0)
    except SourceError as error:
        print(error)
"""
    done = in_process(code)
    assert len(done.stdout.splitlines()) == 2, done.stderr
    assert "nosuchelement" in done.stdout


@pytest.mark.parametrize(
    "target", ["nowhere", "host:port", "host:1/x", "http://host:1", "a b:1", 'rtsp://h/"x', "", "rtsp://[h"]
)
def test_what_is_no_target_is_refused(target: str) -> None:
    with pytest.raises(OptionError, match="is not a target"):
        rtp_pipeline(target, "x264enc")


def test_targets() -> None:
    assert rtp_pipeline("10.0.0.5:5004", "x264enc").endswith("udpsink host=10.0.0.5 port=5004 sync=false")
    assert rtp_pipeline("rtsp://u:p@h:8554/x", "x264enc").endswith("! rtspclientsink location=rtsp://u:p@h:8554/x")


def test_without_gstreamer_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from pspnet_edge.camera import rtp

    monkeypatch.setattr(rtp, "available", lambda name: False)
    monkeypatch.setattr(rtp, "opencv_has_gstreamer", lambda: False)
    with pytest.raises(OutputError, match="--rtp needs GStreamer"):
        rtp.RtpOut("127.0.0.1:5004", 25, print)


def test_the_overlay_arrives_by_rtp(gst: None, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sdp = tmp_path / "stream.sdp"
    sdp.write_text(
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"
        "a=rtpmap:96 H264/90000\na=fmtp:96 packetization-mode=1\n"
    )
    code = """
import sys, time, threading
import av, numpy as np
from pspnet_edge.camera.overlay import Overlay
from pspnet_edge.camera.rtp import RtpOut
from pspnet_edge.camera.shot import Shot
from pspnet_edge.labels import CAMVID
overlay, stop = Overlay(CAMVID, opacity=0), threading.Event()
def send():
    with RtpOut(f"127.0.0.1:{sys.argv[1]}", 25, print) as out:
        index = 0
        while not stop.wait(0.04):
            frame = np.full((240, 320, 3), 180, np.uint8)
            out.show(Shot(0, index, frame, np.full((8, 8), 255, np.uint8), time.perf_counter(), overlay))
            index += 1
thread = threading.Thread(target=send)
thread.start()
options = {"protocol_whitelist": "file,udp,rtp", "analyzeduration": "2000000"}
with av.open(sys.argv[2], options=options, timeout=20) as received:
    for count, frame in enumerate(received.decode(video=0)):
        if count == 10:
            break
stop.set()
thread.join()
picture = frame.to_ndarray(format="bgr24")
assert picture.shape == (240, 320, 3), picture.shape
assert abs(float(picture[60:100, 250:].mean()) - 180) < 6
print("arrived")
"""
    done = in_process(code, port, sdp)
    assert done.stdout == "arrived\n", done.stderr + done.stdout


RECORDING = """
import os, signal, sys, time
os.environ["PSPNET_EDGE_VIDEO"] = "software"
import numpy as np
from pathlib import Path
from pspnet_edge.camera import board_film, recorder
from pspnet_edge.camera.overlay import Overlay
from pspnet_edge.camera.shot import Shot
from pspnet_edge.labels import CAMVID
recorder.can_encode = lambda: True
if sys.argv[2] == "broken":
    board_film.NVIDIA_ENCODER = "nosuchencoder"
class Source:
    name, live, fps = "x", False, 25.0
said = []
overlay = Overlay(CAMVID, opacity=0, legend=False)
with recorder.Recorder(Path(sys.argv[1]), [Source()], said.append) as recording:
    for index in range(100):
        frame = np.full((241, 321, 3), 2 * index, np.uint8)
        recording.show(Shot(0, index, frame, np.full((8, 8), 255, np.uint8), time.perf_counter(), overlay))
        if sys.argv[2] == "killed" and index == 80:
            time.sleep(1.0)
            os.kill(os.getpid(), signal.SIGKILL)
print(said)
"""


@pytest.mark.parametrize("case", ["whole", "killed", "broken"])
def test_the_boards_encoder_records(gst: None, tmp_path: Path, case: str) -> None:
    import av

    path = tmp_path / "v.mp4"
    done = in_process(RECORDING, path, case)
    if case != "killed":
        assert done.returncode == 0, done.stderr
        assert ("x264 records on the processor" in done.stdout) == (case == "broken")
    with av.open(str(path)) as video:
        frames = [frame.to_ndarray(format="bgr24") for frame in video.decode(video=0)]
    assert len(frames) >= 50 if case == "killed" else len(frames) == 100
    assert frames[0].shape == (240, 320, 3)
    levels = [float(frame[100:140, 200:].mean()) for frame in frames]
    assert all(abs(level - 2 * number) < 6 for number, level in enumerate(levels))

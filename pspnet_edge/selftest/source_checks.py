"""The camera's pipelines: NVIDIA's elements on a Jetson, the same pipelines in software elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from ..camera import gstreamer
from ..camera.gstreamer import GstDevice, Outputs
from ..camera.v4l2 import has_encoder
from ..doctor.board import check_clocks, find_jetson
from ..doctor.system import RealSystem
from ..doctor.verdict import Wanted
from ..errors import SourceError
from ..lazy import available
from .outcome import Answer, Failed, Skipped, require

_SIZE_WH, _ENGINE_HW = (1280, 720), (384, 480)
_FRAMES = 30
_STALL_S = 10.0
_TEST_SOURCE = "videotestsrc is-live=true pattern=ball ! video/x-raw,format=NV12,width=1280,height=720,framerate=30/1"
Read = Callable[[], "NDArray[np.uint8] | None"]


def check_sources() -> Answer:
    """Frames of a CSI camera's pipeline through OpenCV and through GStreamer's binding."""
    ways = []
    if gstreamer.opencv_has_gstreamer():
        ways.append(_through_opencv())
    if available("gi"):
        ways.append(_through_binding())
    if not ways:
        raise Skipped("this OpenCV has no GStreamer, and GStreamer's Python binding is not installed")
    return Answer(f"{_FRAMES} frames come through {' and through '.join(ways)}", {"frames": _FRAMES})


def check_jetson() -> Answer:
    """The Jetson's video engines and clocks."""
    system = RealSystem()
    board = find_jetson(system)
    if board is None:
        raise Skipped("this is not a Jetson")
    missing = [name for name in gstreamer.TWINS if not gstreamer.has_element(name)]
    encoder = has_encoder()
    missing = [name for name in missing if encoder or name != "nvv4l2h264enc"]
    require(not missing, f"GStreamer lacks {', '.join(missing)}: sudo apt-get install -y nvidia-l4t-gstreamer")
    head = f"{_TEST_SOURCE} ! nvvidconv ! video/x-raw(memory:NVMM)"
    _check_frames(*_opened_by_opencv(gstreamer.opencv_pipeline(head, Outputs())), "nvvidconv")
    clocks = check_clocks(system, Wanted())
    return Answer(
        f"the video engines scale and convert; {'an' if encoder else 'no'} encoder; {clocks.says}",
        {"board": str(board), "encoder": encoder, "clocks": clocks.state},
    )


def _head() -> str:
    """A CSI camera as far as this machine has one: the sensor is a test picture."""
    return gstreamer.in_software(gstreamer.csi_source("0", _SIZE_WH, 30))


def _through_opencv() -> str:
    pipeline = gstreamer.opencv_pipeline(_head(), Outputs())
    _check_frames(*_opened_by_opencv(gstreamer.in_software(pipeline)), "OpenCV")
    return f"OpenCV {cv2.__version__}"


def _opened_by_opencv(pipeline: str) -> tuple[Read, Callable[[], None]]:
    capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
    if not capture.isOpened():
        raise Failed(f"OpenCV does not open the pipeline {pipeline}")

    def read() -> NDArray[np.uint8] | None:
        ok, frame = capture.read()
        return np.asarray(frame, np.uint8) if ok else None

    return read, capture.release


def _through_binding() -> str:
    pipeline = gstreamer.binding_pipeline(_head(), Outputs(engine_hw=_ENGINE_HW))
    try:
        device = GstDevice(gstreamer.in_software(pipeline), _STALL_S)
    except SourceError as error:
        raise Failed(f"GStreamer's binding does not open the pipeline {pipeline}: {error}") from error
    _check_frames(device.read, device.close, "the binding")
    small = device.prepared
    require(
        small is not None and small.shape[:2] == _ENGINE_HW,
        "the branch of the engine's size gives no frame of that size",
    )
    return "GStreamer's binding"


def _check_frames(read: Read, close: Callable[[], None], what: str) -> None:
    try:
        frames = [read() for _ in range(_FRAMES)]
    finally:
        close()
    whole = [frame for frame in frames if frame is not None]
    require(len(whole) == _FRAMES, f"{_FRAMES - len(whole)} of {_FRAMES} frames did not come through {what}")
    shape = (_SIZE_WH[1], _SIZE_WH[0], 3)
    require(whole[0].shape == shape, f"frames through {what} are {whole[0].shape} instead of {shape}")
    require(bool((whole[0] != whole[-1]).any()), f"the first and the last frame through {what} are the same")

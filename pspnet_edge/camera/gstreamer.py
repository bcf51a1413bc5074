"""GStreamer: the pipelines of cameras and streams, and what reads and writes them.

Pipelines are written for a Jetson's video engines. ``in_software`` swaps each of NVIDIA's elements for one that every
GStreamer has, so the same graph runs, and is tested, on any machine.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import SourceError
from ..lazy import available, require

_NEEDS = (
    "GStreamer's Python binding is missing: sudo apt-get install python3-gi python3-gst-1.0, and make the venv with "
    "--system-site-packages"
)

NEWEST_ONLY = "max-buffers=1 drop=true sync=false"
"""Settings of an appsink that keeps one buffer, the newest, and does not wait for its time."""
_LEAKY = "queue max-size-buffers=1 leaky=downstream"
_QUEUE = "queue max-size-buffers=1"
_SLICE_S = 0.2
"""How long a failure of the pipeline may go unnoticed."""
_WHOLE, _ENGINE = "whole", "engine"
"""Names of the appsinks of the binding's pipelines. OpenCV accepts only an unnamed one, or one named ``appsink…``."""

# nvvidconv counts its flip methods in another order than GStreamer's videoflip.
_FLIP_METHODS = {"none": 0, "90": 3, "180": 2, "270": 1, "horizontal": 4, "vertical": 6}
_TWIN_FLIPS = {"1": "90l", "2": "180", "3": "90r", "4": "horiz", "6": "vert"}
_NICEST = 5
"""Interpolation method of nvvidconv; its default takes the nearest pixel."""


def _twin_of_nvvidconv(properties: Mapping[str, str]) -> str:
    turned = _TWIN_FLIPS.get(properties.get("flip-method", "0"))
    return "videoconvert ! videoscale" + (f" ! videoflip video-direction={turned}" if turned else "")


def _twin_of_nvv4l2decoder(properties: Mapping[str, str]) -> str:
    return "jpegdec" if properties.get("mjpeg") == "1" else "avdec_h264"


def _twin_of_nvv4l2h264enc(properties: Mapping[str, str]) -> str:
    kilobits = int(properties.get("bitrate", "4000000")) // 1000
    key = properties.get("idrinterval", "30")
    return f"x264enc tune=zerolatency speed-preset=ultrafast bitrate={kilobits} key-int-max={key}"


NVIDIA_ENCODER = (
    "video/x-raw,format=I420 ! nvvidconv ! video/x-raw(memory:NVMM),format=NV12 "
    "! nvv4l2h264enc insert-sps-pps=true idrinterval=30 bitrate=4000000 maxperf-enable=true"
)
X264 = "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30"

TWINS: Mapping[str, Callable[[Mapping[str, str]], str]] = {
    "nvarguscamerasrc": lambda properties: "videotestsrc is-live=true pattern=ball",
    "nvvidconv": _twin_of_nvvidconv,
    "nvv4l2decoder": _twin_of_nvv4l2decoder,
    "nvv4l2h264enc": _twin_of_nvv4l2h264enc,
}
"""What replaces each of NVIDIA's elements, from the properties that are set on it."""


def in_software(pipeline: str) -> str:
    """A pipeline of NVIDIA's elements as one of software elements that does the same, in ordinary memory."""

    def swapped(found: re.Match[str]) -> str:
        properties = dict(each.split("=", 1) for each in found[2].split())
        return TWINS[found[1]](properties)

    names = "|".join(TWINS)
    return re.sub(rf"\b({names})((?: [\w-]+=[^\s!]+)*)", swapped, pipeline).replace("(memory:NVMM)", "")


def video_engines() -> bool:
    """Whether this machine decodes, scales and encodes on NVIDIA's video engines.

    ``PSPNET_EDGE_VIDEO=software`` makes a Jetson use the software elements; any other machine then takes the Jetson's
    pipelines, in software.
    """
    if os.environ.get("PSPNET_EDGE_VIDEO") == "software":
        return True
    return binding_has("nvvidconv")


def for_this_machine(pipeline: str) -> str:
    """The pipeline with NVIDIA's elements, or in software where ``PSPNET_EDGE_VIDEO=software`` is set."""
    return in_software(pipeline) if os.environ.get("PSPNET_EDGE_VIDEO") == "software" else pipeline


def opencv_has_gstreamer() -> bool:
    """Whether this OpenCV was built with GStreamer; pip's is not, JetPack's is."""
    return bool(cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER))


def load_gst() -> Any:
    """GStreamer's binding, initialized.

    Raises:
        SourceError: it is not installed.
    """
    if not available("gi"):
        raise SourceError(_NEEDS)
    try:
        require("gi", "use GStreamer").require_version("Gst", "1.0")
        gst = require("gi.repository.Gst", "use GStreamer")
    except (ValueError, ImportError) as error:
        raise SourceError(_NEEDS) from error
    if not gst.is_initialized():
        gst.init(None)
    return gst


def has_element(name: str) -> bool:
    """Whether GStreamer has this element.

    Raises:
        SourceError: the binding is not installed.
    """
    return load_gst().ElementFactory.find(name) is not None


def binding_has(name: str) -> bool:
    """Whether the binding is installed, works and has this element."""
    try:
        return has_element(name)
    except SourceError:
        return False


@dataclass(frozen=True)
class Outputs:
    """What a pipeline is to give of each frame."""

    engine_hw: tuple[int, int] | None = None
    """Scale to this size as well, on the video engines; None gives no such branch."""
    whole: bool = True
    """Give the frame at its own size too. Without it and with ``engine_hw`` no frame of full size is ever converted."""
    flip: str = "none"
    """See ``data.geometry.FLIPS``."""


def csi_source(sensor: str, size_wh: tuple[int, int] | None, fps: float | None) -> str:
    """The head of a pipeline: a CSI sensor.

    Args:
        sensor: its number.
        size_wh: of the sensor's mode; 1280x720 when None, because the sensor's own default is its largest.
        fps: of the sensor's mode; 30 when None.
    """
    width, height = size_wh or (1280, 720)
    return (
        f"nvarguscamerasrc sensor-id={int(sensor)} "
        f"! video/x-raw(memory:NVMM),format=NV12,width={width},height={height},framerate={round(fps or 30)}/1"
    )


def rtsp_source() -> str:
    """The head of a pipeline: an RTSP stream whose address is set on the element ``source`` afterwards."""
    return (
        "rtspsrc name=source protocols=tcp latency=100 drop-on-latency=true ! parsebin "
        "! nvv4l2decoder enable-max-performance=1"
    )


def mjpg_source(device: str, size_wh: tuple[int, int], fps: float | None) -> str:
    """The head of a pipeline: a USB camera that sends JPEG pictures, decoded on the video engines."""
    rate = f",framerate={round(fps)}/1" if fps else ""
    return (
        f"v4l2src device={device} ! image/jpeg,width={size_wh[0]},height={size_wh[1]}{rate} ! jpegparse "
        "! nvv4l2decoder mjpeg=1"
    )


def opencv_pipeline(head: str, outputs: Outputs) -> str:
    """A pipeline for ``cv2.VideoCapture``: one appsink without a name, BGR pixels, the newest frame only.

    OpenCV has one appsink, so it is the engine's size where no whole frame is wanted and the whole frame otherwise.
    """
    engine_hw = None if outputs.whole else outputs.engine_hw
    return (
        f"{head} ! {_scaled(outputs.flip, engine_hw)} ! videoconvert ! video/x-raw,format=BGR ! appsink {NEWEST_ONLY}"
    )


def binding_pipeline(head: str, outputs: Outputs) -> str:
    """A pipeline for ``GstDevice``: an appsink for each size that is wanted, BGRx pixels, the newest frame only."""
    branches = []
    if outputs.engine_hw is not None:
        branches.append(f"{_scaled(outputs.flip, outputs.engine_hw)} ! appsink name={_ENGINE} {NEWEST_ONLY}")
    if outputs.whole or outputs.engine_hw is None:
        # Two buffers, so that the frame whose small copy is taken is still there.
        newest = NEWEST_ONLY if outputs.engine_hw is None else "max-buffers=3 drop=true sync=false"
        branches.append(f"{_scaled(outputs.flip, None)} ! appsink name={_WHOLE} {newest}")
    if len(branches) == 1:
        return f"{head} ! {branches[0]}"
    # What is too much is dropped before the tee, so that both branches get the same frames.
    return f"{head} ! {_LEAKY} ! tee name=t " + " ".join(f"t. ! {_QUEUE} ! {branch}" for branch in branches)


def _scaled(flip: str, size_hw: tuple[int, int] | None) -> str:
    method = _FLIP_METHODS[flip]
    turned = f" flip-method={method}" if method else ""
    if size_hw is None:
        return f"nvvidconv{turned} ! video/x-raw,format=BGRx"
    return (
        f"nvvidconv{turned} interpolation-method={_NICEST} "
        f"! video/x-raw,format=BGRx,width={size_hw[1]},height={size_hw[0]}"
    )


class GstDevice:
    """A pipeline of ``binding_pipeline``. See ``devices.Device``.

    Args:
        pipeline: as for gst-launch.
        stall_s: a frame that takes longer has failed.
        settings: properties of the element ``source``, such as an address that may hold any character.

    Raises:
        SourceError: the binding is missing, or the pipeline does not start.
    """

    def __init__(self, pipeline: str, stall_s: float, settings: Mapping[str, Any] | None = None) -> None:
        self._gst = load_gst()
        self._stall_s = stall_s
        self._failure: Any = None
        self.conversions = 0
        """Frames of full size that were converted to BGR here."""
        try:
            self._pipeline = self._gst.parse_launch(pipeline)
        except Exception as error:  # GLib.Error, which has no other base
            raise SourceError(f"GStreamer: {error}") from error
        for name, value in (settings or {}).items():
            self._pipeline.get_by_name("source").set_property(name, value)
        self._whole, self._engine = (self._pipeline.get_by_name(name) for name in (_WHOLE, _ENGINE))
        self.prepared: NDArray[np.uint8] | None = None
        self._pipeline.set_state(self._gst.State.PLAYING)
        sample = self._pulled(self._whole or self._engine, stall_s)
        if sample is None:
            reason = self._reason()
            self.close()
            raise SourceError(f"GStreamer: {reason}")
        caps = sample.get_caps().get_structure(0)
        known, above, below = caps.get_fraction("framerate")
        self.fps = above / below if known and above else 30.0
        size = f"{caps.get_value('height')}x{caps.get_value('width')}"
        self.format = f"{size} {self.fps:g} FPS" + ("" if self._whole else ", scaled by the video engines")

    def read(self) -> NDArray[np.uint8] | None:
        """See ``devices.Device``."""
        if self._whole is None or self._engine is None:
            sample = self._pulled(self._whole or self._engine, self._stall_s)
            if sample is None:
                return None
            return self._pixels(sample) if self._whole is None else self._converted(sample)
        pair = self._same_frame()
        if pair is None:
            return None
        self.prepared = self._pixels(pair[0])
        return self._converted(pair[1])

    def close(self) -> None:
        """See ``devices.Device``."""
        self._pipeline.set_state(self._gst.State.NULL)

    def _same_frame(self) -> tuple[Any, Any] | None:
        """The newest frame that both branches have, small and whole; each may have dropped others."""
        deadline = time.monotonic() + self._stall_s
        samples: list[Any] = [None, None]
        sinks = (self._engine, self._whole)
        older = [0, 1]
        while (left := deadline - time.monotonic()) > 0:
            for number in older:
                samples[number] = self._pulled(sinks[number], left)
                if samples[number] is None:
                    return None
            small, whole = (sample.get_buffer().pts for sample in samples)
            if small == whole:
                return samples[0], samples[1]
            older = [0] if small < whole else [1]
        return None

    def _pulled(self, sink: Any, wait_s: float) -> Any:
        """The next sample; None when the time is up, the stream has ended or the pipeline has failed."""
        deadline = time.monotonic() + wait_s
        while (left := deadline - time.monotonic()) > 0:
            sample = sink.emit("try-pull-sample", int(min(left, _SLICE_S) * 1e9))
            if sample is not None:
                return sample
            # An appsink does not wake when an element before it fails.
            self._failure = self._failure or self._pipeline.get_bus().pop_filtered(self._gst.MessageType.ERROR)
            if self._failure is not None or sink.get_property("eos"):
                return None
        return None

    def _converted(self, sample: Any) -> NDArray[np.uint8] | None:
        self.conversions += 1
        return self._pixels(sample)

    def _pixels(self, sample: Any) -> NDArray[np.uint8] | None:
        """BGR ``uint8 [H, W, 3]`` of a BGRx sample."""
        caps = sample.get_caps().get_structure(0)
        width, height = caps.get_value("width"), caps.get_value("height")
        buffer = sample.get_buffer()
        ok, mapped = buffer.map(self._gst.MapFlags.READ)
        if not ok:
            return None
        try:
            pixels = np.frombuffer(mapped.data, np.uint8, height * width * 4).reshape(height, width, 4)
            return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGRA2BGR), np.uint8)
        finally:
            buffer.unmap(mapped)

    def _reason(self) -> str:
        return "no frame came" if self._failure is None else str(self._failure.parse_error()[0].message).rstrip(".")

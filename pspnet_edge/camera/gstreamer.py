"""GStreamer, through its own Python binding or through an OpenCV that was built with it."""

from __future__ import annotations

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


def opencv_has_gstreamer() -> bool:
    """Whether this OpenCV was built with GStreamer; pip's is not, JetPack's is."""
    return bool(cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER))


def load_gst() -> Any:
    """GStreamer's binding, initialised.

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


def csi_pipeline(sensor: str, size_wh: tuple[int, int] | None, fps: float | None, pixels: str) -> str:
    """From a CSI sensor to an appsink that holds the newest frame alone.

    Args:
        sensor: its number.
        size_wh: of the sensor's mode; 1280×720 when None, because the sensor's own default is its largest.
        fps: of the sensor's mode; 30 when None.
        pixels: ``BGR`` converts on the processor, ``BGRx`` is what the board's converter gives.
    """
    width, height = size_wh or (1280, 720)
    last = "! videoconvert ! video/x-raw,format=BGR " if pixels == "BGR" else ""
    return (
        f"nvarguscamerasrc sensor-id={int(sensor)} "
        f"! video/x-raw(memory:NVMM),width={width},height={height},framerate={round(fps or 30)}/1 "
        f"! nvvidconv ! video/x-raw,format=BGRx {last}"
        "! appsink name=out max-buffers=1 drop=true sync=false"
    )


class GstDevice:
    """A pipeline that ends in ``appsink name=out`` with BGRx pixels. See ``devices.Device``.

    Args:
        pipeline: as for gst-launch.
        stall_s: a frame that takes longer has failed.

    Raises:
        SourceError: the binding is missing, or the pipeline does not start.
    """

    def __init__(self, pipeline: str, stall_s: float) -> None:
        self._gst = load_gst()
        self._stall_ns = int(stall_s * 1e9)
        try:
            self._pipeline = self._gst.parse_launch(pipeline)
        except Exception as error:  # GLib.Error, which has no other base
            raise SourceError(f"GStreamer: {error}") from error
        self._sink = self._pipeline.get_by_name("out")
        self._pipeline.set_state(self._gst.State.PLAYING)
        sample = self._sink.emit("try-pull-sample", self._stall_ns)
        if sample is None:
            reason = self._reason()
            self.close()
            raise SourceError(f"GStreamer: {reason}")
        caps = sample.get_caps().get_structure(0)
        self._size_wh = (caps.get_value("width"), caps.get_value("height"))
        known, above, below = caps.get_fraction("framerate")
        self.fps = above / below if known and above else 30.0
        self.format = f"{self._size_wh[0]}x{self._size_wh[1]} {self.fps:g} FPS"

    def read(self) -> NDArray[np.uint8] | None:
        """See ``devices.Device``."""
        sample = self._sink.emit("try-pull-sample", self._stall_ns)
        if sample is None:
            return None
        buffer = sample.get_buffer()
        ok, mapped = buffer.map(self._gst.MapFlags.READ)
        if not ok:
            return None
        try:
            width, height = self._size_wh
            pixels = np.frombuffer(mapped.data, np.uint8, height * width * 4).reshape(height, width, 4)
            return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGRA2BGR), np.uint8)
        finally:
            buffer.unmap(mapped)

    def close(self) -> None:
        """See ``devices.Device``."""
        self._pipeline.set_state(self._gst.State.NULL)

    def _reason(self) -> str:
        message = self._pipeline.get_bus().pop_filtered(self._gst.MessageType.ERROR)
        return "no frame came" if message is None else str(message.parse_error()[0].message).rstrip(".")

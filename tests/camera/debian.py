"""Debian's own Python with its OpenCV and GStreamer, which are of a Jetson's kind: pip's OpenCV has no GStreamer."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

import pytest

PYTHON = "/usr/bin/python3"
ROOT = Path(__file__).parents[2]
PACKAGES = (
    "python3-opencv python3-gi gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad "
    "gstreamer1.0-plugins-ugly gstreamer1.0-libav gir1.2-gst-rtsp-server-1.0"
)
_CHECK = """
import cv2, gi
assert cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER)
for name in ("Gst", "GstRtspServer"):
    gi.require_version(name, "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
for element in ("videotestsrc", "x264enc", "avdec_h264", "h264parse", "jpegdec", "appsink", "parsebin", "videoflip"):
    assert Gst.ElementFactory.find(element), element
"""


def run(code: str, *arguments: object, timeout_s: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code with the system's packages and this checkout."""
    return subprocess.run(
        [PYTHON, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


@functools.cache
def problem() -> str:
    """What is missing for these tests; empty when nothing is."""
    if not Path(PYTHON).exists():
        return "no system Python"
    return run(_CHECK).stderr.strip().rpartition("\n")[2]


def skip_without() -> None:
    """Skip the test, with the reason, where the system's packages are not there."""
    if problem():
        pytest.skip(f"the system's Python has no OpenCV with GStreamer ({problem()}): apt-get install {PACKAGES}")

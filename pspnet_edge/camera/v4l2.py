"""What a V4L2 device says of itself (linux/videodev2.h)."""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass

QUERYCAP, QUERYCAP_BYTES = 0x80685600, 104
_CARD_AT, _CARD_BYTES, _CAPABILITIES_AT, _DEVICE_CAPS_AT = 16, 32, 84, 88
_HAS_DEVICE_CAPS = 0x80000000
VIDEO_CAPTURE, VIDEO_CAPTURE_MPLANE = 0x1, 0x1000
_MEMORY_TO_MEMORY = 0x8000 | 0x4000  # one plane or several

CSI_CARD = "vi-output"
"""What the card name of a CSI sensor's raw device begins with on a Jetson."""
ENCODER = "/dev/v4l2-nvenc"


@dataclass(frozen=True)
class Capabilities:
    """An answer to ``VIDIOC_QUERYCAP``."""

    card: str
    """The name for people, such as ``HD Webcam`` or ``vi-output, imx219 9-0010``."""
    flags: int

    @property
    def captures(self) -> bool:
        """Whether pictures can be read from it."""
        return bool(self.flags & (VIDEO_CAPTURE | VIDEO_CAPTURE_MPLANE))

    @property
    def converts(self) -> bool:
        """Whether it is an encoder, decoder or scaler."""
        return bool(self.flags & _MEMORY_TO_MEMORY)


def capabilities(device: str) -> Capabilities | None:
    """What a device is; None when it is absent, may not be opened or is not a V4L2 device."""
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return capabilities_of(descriptor)
    finally:
        os.close(descriptor)


def capabilities_of(descriptor: int) -> Capabilities | None:
    """As ``capabilities``, of an opened device."""
    try:
        answer = fcntl.ioctl(descriptor, QUERYCAP, bytes(QUERYCAP_BYTES))
    except OSError:
        return None
    card = answer[_CARD_AT : _CARD_AT + _CARD_BYTES].split(b"\0")[0].decode("utf-8", "replace")
    (flags,) = struct.unpack_from("I", answer, _CAPABILITIES_AT)
    if flags & _HAS_DEVICE_CAPS:
        # The first word is of the whole driver, which may have several devices.
        (flags,) = struct.unpack_from("I", answer, _DEVICE_CAPS_AT)
    return Capabilities(card, flags)


def has_encoder(device: str = ENCODER) -> bool:
    """Whether the board has a video encoder that answers.

    The node alone proves nothing: an Orin Nano has none, and a Thor may have one that leads nowhere.
    """
    found = capabilities(device)
    return found is not None and found.converts

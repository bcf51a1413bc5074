"""What a browser is sent for one shot, in one binary WebSocket message.

    4 bytes            length of the header, little endian
    header             JSON: camera, index, age_ms, frame [h, w], mask [h, w], jpeg (length in bytes)
    JPEG               the frame, at most ``LONG_SIDE`` pixels wide or high
    deflate (RFC 1950) the mask's ids at the engine's size, row by row

The page colours and blends, so opacity and classes are each viewer's own and cost the board nothing.
"""

from __future__ import annotations

import json
import struct
import time
import zlib

import cv2
import numpy as np
from numpy.typing import NDArray

from ...errors import OutputError
from ..shot import Shot

LONG_SIDE = 960
_QUALITY = 75


def message_of(shot: Shot) -> bytes:
    """Encode ``shot``; its age is the one at this moment.

    Raises:
        OutputError: OpenCV cannot encode JPEG.
    """
    frame = _bounded(shot.frame)
    done, jpeg = cv2.imencode(".jpg", frame, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
    if not done:
        raise OutputError("this OpenCV cannot encode JPEG, which the web view needs: pip install opencv-python")
    # Level 1: a mask is flat areas, so the levels above take longer and save little.
    mask = zlib.compress(np.ascontiguousarray(shot.mask).data, 1)
    header = json.dumps(
        {
            "camera": shot.camera,
            "index": shot.index,
            "age_ms": round(1000 * (time.perf_counter() - shot.captured), 1),
            "frame": frame.shape[:2],
            "mask": shot.mask.shape,
            "jpeg": len(jpeg),
        }
    ).encode()
    return b"".join((struct.pack("<I", len(header)), header, jpeg.tobytes(), mask))


def _bounded(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    longest = max(frame.shape[:2])
    if longest <= LONG_SIDE:
        return frame
    height, width = (max(1, side * LONG_SIDE // longest) for side in frame.shape[:2])
    return np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA), np.uint8)

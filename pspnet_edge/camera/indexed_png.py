"""PNG files whose palette indices are class ids."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray


def indexed_png(mask: NDArray[np.uint8], palette: NDArray[np.uint8]) -> bytes:
    """Encode class ids as a PNG file; OpenCV cannot write one with a palette.

    Args:
        mask: ``uint8 [H, W]``.
        palette: ``uint8 [256, 3]`` RGB.
    """
    height, width = mask.shape
    # Every row begins with its filter, 0 for none (https://www.w3.org/TR/png-3/#9Filters).
    rows = np.zeros((height, width + 1), np.uint8)
    rows[:, 1:] = mask
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    body = zlib.compress(rows.tobytes(), 1)
    chunks = ((b"IHDR", header), (b"PLTE", palette.tobytes()), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )

"""Palette PNGs: the index of every pixel and the palette, which OpenCV's decoder would turn into colours.

An image whose pixels are palette indices differs from a grey one in its header alone, so the header is rewritten to
say grey and OpenCV decodes the rest: its filters, its interlacing and its checksums.
Layout of the file: https://www.w3.org/TR/png-3/#5DataRep.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE = 0, 3
_KEPT = (b"IDAT", b"IEND")


@dataclass(frozen=True)
class IndexedImage:
    """``indices`` is ``uint8 [H, W]``; ``palette`` is ``uint8 [colours, 3]`` RGB."""

    indices: NDArray[np.uint8]
    palette: NDArray[np.uint8]


def is_cut_short(encoded: bytes) -> bool:
    """Whether a PNG or JPEG lacks its end. OpenCV 4 fills what is missing with anything and says nothing."""
    if encoded.startswith(_SIGNATURE):
        return b"IEND" not in encoded
    # The first half may hold the end of an embedded thumbnail.
    return encoded.startswith(b"\xff\xd8") and encoded.rfind(b"\xff\xd9") < len(encoded) // 2


def has_palette(encoded: bytes) -> bool:
    """Whether ``encoded`` is a PNG of palette indices."""
    return encoded.startswith(_SIGNATURE) and encoded[12:16] == b"IHDR" and encoded[25:26] == bytes([_PALETTE])


def indexed_image(encoded: bytes) -> IndexedImage:
    """Decode a PNG for which ``has_palette`` holds.

    Raises:
        ValueError: a damaged file, a palette that is missing or no list of RGB triples, or an index beyond it.
    """
    depth, palette = encoded[24], b""
    if depth not in (1, 2, 4, 8):
        raise ValueError(f"its header says {depth} bits a pixel")
    # Grey of the same depth is what the indices look like without their palette.
    grey = _SIGNATURE + _chunk(b"IHDR", encoded[16:25] + bytes([_GREY]) + encoded[26:29])
    for kind, content in _chunks(encoded):
        if kind == b"PLTE":
            palette = content
        elif kind in _KEPT:
            grey += _chunk(kind, content)
    if not palette or len(palette) % 3:
        raise ValueError("its palette is missing or damaged")
    decoded = cv2.imdecode(np.frombuffer(grey, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.ndim != 2 or decoded.dtype != np.uint8:
        raise ValueError("its pixels cannot be decoded")
    # Fewer than 8 bits come back spread over 0–255.
    indices = np.asarray(decoded // (255 // (2**depth - 1)), np.uint8)
    colours = np.frombuffer(palette, np.uint8).reshape(-1, 3)
    if indices.size and indices.max() >= len(colours):
        raise ValueError(f"its palette has {len(colours)} colours and a pixel has index {indices.max()}")
    return IndexedImage(indices, colours)


def _chunks(encoded: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(_SIGNATURE)
    while place + 12 <= len(encoded):
        (length,) = struct.unpack_from(">I", encoded, place)
        kind, content = encoded[place + 4 : place + 8], encoded[place + 8 : place + 8 + length]
        if encoded[place + 8 + length : place + 12 + length] != struct.pack(">I", zlib.crc32(kind + content)):
            raise ValueError("a checksum in it is wrong")
        yield kind, content
        place += 12 + length


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

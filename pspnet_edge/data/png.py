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
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE = 0, 3
_KEPT = (b"IDAT", b"IEND")
# A 100-megapixel image in chunks of 8 kB has about 40 000.
_MOST_CHUNKS = 200_000


@dataclass(frozen=True)
class IndexedImage:
    """``indices`` is ``uint8 [H, W]``; ``palette`` is ``uint8 [colours, 3]`` RGB."""

    indices: NDArray[np.uint8]
    palette: NDArray[np.uint8]


def has_palette(encoded: bytes) -> bool:
    """Whether ``encoded`` is a PNG of palette indices."""
    return encoded.startswith(SIGNATURE) and encoded[12:16] == b"IHDR" and encoded[25:26] == bytes([_PALETTE])


def indexed_image(encoded: bytes) -> IndexedImage:
    """Decode a PNG for which ``has_palette`` holds; transparency of its colours is left aside.

    Raises:
        ValueError: a damaged file, a palette that is missing or no list of RGB triples, or an index beyond it.
    """
    palette = next((content for kind, content in _chunks(encoded) if kind == b"PLTE"), b"")
    if not palette or len(palette) % 3:
        raise ValueError("its palette is missing or damaged")
    indices = grey_values(encoded)
    colours = np.frombuffer(palette, np.uint8).reshape(-1, 3)
    if indices.size and indices.max() >= len(colours):
        raise ValueError(f"its palette has {len(colours)} colours and a pixel has index {indices.max()}")
    return IndexedImage(indices, colours)


def grey_values(encoded: bytes) -> NDArray[np.uint8]:
    """The values ``uint8 [H, W]`` of a grey or palette PNG of at most 8 bits, as they are in the file.

    Raises:
        ValueError: a damaged file.
    """
    depth = encoded[24]
    if depth not in (1, 2, 4, 8):
        raise ValueError(f"its header says {depth} bits per pixel")
    # Grey of the same depth is what palette indices look like without their palette.
    grey = SIGNATURE + _chunk(b"IHDR", encoded[16:25] + bytes([_GREY]) + encoded[26:29])
    grey += b"".join(_chunk(kind, content) for kind, content in _chunks(encoded) if kind in _KEPT)
    decoded = cv2.imdecode(np.frombuffer(grey, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.ndim != 2 or decoded.dtype != np.uint8:
        raise ValueError("its pixels cannot be decoded")
    # Fewer than 8 bits come back spread over 0–255.
    return np.asarray(decoded // (255 // (2**depth - 1)), np.uint8)


def indexed_png(mask: NDArray[np.uint8], palette: NDArray[np.uint8], level: int = 1) -> bytes:
    """A palette PNG of class ids; OpenCV cannot write one.

    Args:
        mask: ``uint8 [H, W]``.
        palette: ``uint8 [256, 3]`` RGB.
        level: how hard zlib tries, 0–9.
    """
    height, width = mask.shape
    # Every row begins with its filter, 0 for none (https://www.w3.org/TR/png-3/#9Filters).
    rows = np.zeros((height, width + 1), np.uint8)
    rows[:, 1:] = mask
    header = struct.pack(">IIBBBBB", width, height, 8, _PALETTE, 0, 0, 0)
    body = zlib.compress(rows.tobytes(), level)
    chunks = ((b"IHDR", header), (b"PLTE", palette.tobytes()), (b"IDAT", body), (b"IEND", b""))
    return SIGNATURE + b"".join(_chunk(kind, content) for kind, content in chunks)


def decoded(encoded: bytes) -> NDArray[Any]:
    """A PNG of a stranger at its own depth: ``[H, W]``, ``[H, W, 3]`` BGR or ``[H, W, 4]``.

    Raises:
        ValueError: it is not a PNG, or a damaged one.
    """
    if not encoded.startswith(SIGNATURE):
        raise ValueError("it is not a PNG")
    ensure_checksums(encoded)
    try:
        found = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        found = None
    if found is None:
        raise ValueError("its pixels are damaged")
    return np.asarray(found)


def ensure_checksums(encoded: bytes) -> None:
    """Raise ``ValueError`` if a PNG is cut short, a chunk has a wrong checksum, or there are more chunks than any
    encoder writes. OpenCV allocates what a chunk says that it holds, up to 4 GB, before it reads it."""
    for _ in _chunks(encoded):
        pass


def _chunks(encoded: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(SIGNATURE)
    for _ in range(_MOST_CHUNKS):
        if place + 12 > len(encoded):
            raise ValueError("it is cut short")
        (length,) = struct.unpack_from(">I", encoded, place)
        kind, content = encoded[place + 4 : place + 8], encoded[place + 8 : place + 8 + length]
        if encoded[place + 8 + length : place + 12 + length] != struct.pack(
            ">I", zlib.crc32(content, zlib.crc32(kind))
        ):
            raise ValueError("a checksum in it is wrong")
        yield kind, content
        if kind == b"IEND":
            return
        place += 12 + length
    raise ValueError(f"it has more than {_MOST_CHUNKS} chunks")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

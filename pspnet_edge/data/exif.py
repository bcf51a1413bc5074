"""The orientation that a camera wrote into a picture, and pictures turned as it says.

The values are those of EXIF tag 0x0112: 1 is upright, 3 is upside down, 6 and 8 lie on their side, and 2, 4, 5 and 7
are mirrored besides. Layouts: EXIF 2.32 section 4.6, https://www.w3.org/TR/png-3/#eXIf,
https://developers.google.com/speed/webp/docs/riff_container.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

UPRIGHT = 1
SWAPS_SIDES = (5, 6, 7, 8)
_PNG = b"\x89PNG\r\n\x1a\n"
_TAG, _CHANNELS_TAG = 0x0112, 0x0115
_SUBFILE_TAG, _SMALLER_COPY, _TRANSPARENCY = 254, 1, 4
_MOST_PAGES = 10_000


def orientation_of(encoded: bytes) -> int:
    """The EXIF orientation of a JPEG, PNG, WebP or TIFF file, 1 to 8; 1 where there is none or it is damaged."""
    try:
        if encoded.startswith(b"\xff\xd8"):
            block = _of_jpeg(encoded)
        elif encoded.startswith(_PNG):
            block = _chunk(encoded, len(_PNG), ">", b"eXIf", before=4, after=4)
        elif is_tiff(encoded):
            block = encoded
        else:
            block = _webp(encoded)
        orientation = _in_tiff(block, _TAG) if block else UPRIGHT
        return orientation if 1 <= orientation <= 8 else UPRIGHT
    except (struct.error, IndexError):
        return UPRIGHT


def is_tiff(encoded: bytes) -> bool:
    """Whether a file is a TIFF, whose orientation OpenCV applies itself."""
    return encoded[:4] in (b"II*\0", b"MM\0*")


def pages_of_tiff(encoded: bytes) -> int:
    """How many pictures a TIFF holds, without smaller copies and transparency masks of them; 1 where it is damaged."""
    order = "<" if encoded.startswith(b"II") else ">"
    pages, seen = 0, set[int]()
    try:
        (directory,) = struct.unpack_from(f"{order}I", encoded, 4)
        while directory and directory not in seen and len(seen) < _MOST_PAGES:
            seen.add(directory)
            (entries,) = struct.unpack_from(f"{order}H", encoded, directory)
            kind = 0
            for entry in range(entries):
                tag, _, _, value = struct.unpack_from(f"{order}HHII", encoded, directory + 2 + 12 * entry)
                kind = value if tag == _SUBFILE_TAG else kind
            pages += not kind & (_SMALLER_COPY | _TRANSPARENCY)
            (directory,) = struct.unpack_from(f"{order}I", encoded, directory + 2 + 12 * entries)
    except struct.error:
        pass
    return max(pages, 1)


def turned(picture: NDArray[Any], orientation: int) -> NDArray[Any]:
    """A picture ``[H, W, …]`` as the orientation says it should be seen; a copy where it is not upright."""
    if orientation in SWAPS_SIDES:
        picture = picture.swapaxes(0, 1)
    # After the transposition of 5 to 8: which of the axes are mirrored.
    if orientation in (3, 4, 7, 8):
        picture = picture[::-1]
    if orientation in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    return np.ascontiguousarray(picture)


def _of_jpeg(encoded: bytes) -> bytes | None:
    place = 2
    while encoded[place] == 0xFF and encoded[place + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", encoded, place + 2)
        if encoded[place + 1] == 0xE1 and encoded[place + 4 : place + 10] == b"Exif\0\0":
            return encoded[place + 10 : place + 2 + length]
        place += 2 + length
    return None


def _chunk(encoded: bytes, place: int, order: str, wanted: bytes, *, before: int, after: int) -> bytes | None:
    """The content of a PNG chunk."""
    while place + 8 <= len(encoded):
        (length,) = struct.unpack_from(f"{order}I", encoded, place)
        if encoded[place + before : place + before + 4] == wanted:
            return encoded[place + 8 : place + 8 + length]
        place += 8 + length + after
    return None


def _webp(encoded: bytes) -> bytes | None:
    content = next((content for kind, content in webp_chunks(encoded) if kind == b"EXIF"), None)
    return None if content is None else bytes(content).removeprefix(b"Exif\0\0")


def webp_chunks(encoded: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """The kind and the content of each chunk of a WebP file; none where it is another file."""
    place = 12 if encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP" else len(encoded)
    while place + 8 <= len(encoded):
        (length,) = struct.unpack_from("<I", encoded, place + 4)
        yield encoded[place : place + 4], memoryview(encoded)[place + 8 : place + 8 + length]
        place += 8 + length + length % 2


def channels_of_tiff(encoded: bytes) -> int:
    """How many channels a TIFF says it has; 1 where it is damaged."""
    try:
        return _in_tiff(encoded, _CHANNELS_TAG) or 1
    except struct.error:
        return 1


def _in_tiff(block: bytes, wanted: int) -> int:
    """The number under a tag; 0 where there is none."""
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return 0
    (directory,) = struct.unpack_from(f"{order}I", block, 4)
    (entries,) = struct.unpack_from(f"{order}H", block, directory)
    for entry in range(entries):
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", block, directory + 2 + 12 * entry)
        if tag == wanted and kind == 3:
            return int(value)
    return 0

"""One image file → one frame, by one rule wherever images are read.

EXIF orientation is applied here and not left to OpenCV, whose releases differ in which formats they turn. A file that
is cut short or whose PNG checksums are wrong is refused; damage within the compressed pixels of a JPEG shows as
coloured blocks and cannot be told from a picture.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..pixels import PixelFormat, measured_range
from .exif import channels_of_tiff, is_tiff, orientation_of, pages_of_tiff, turned
from .png import SIGNATURE, ensure_checksums
from .reading import read_file

Image = NDArray[np.uint8]
DEFAULT_PIXELS = PixelFormat()


def read_image(path: Path, pixels: PixelFormat = DEFAULT_PIXELS) -> Image:
    """Read an image as the frame ``uint8 [H, W, C]`` of a pixel format; BGR, turned upright.

    A deep image (12-bit, 16-bit, float) is scaled by the format's range, and where that has none by its own
    percentiles.

    Raises:
        DataError: missing, cut short, not an image, or with fewer channels than the format.
    """
    encoded = read_encoded(path)
    decoded = decode(path, encoded, pixels.channels)
    if decoded.dtype != np.uint8 and pixels.pixel_range is None:
        pixels = PixelFormat(pixels.channels, measured_range([decoded]))
    return as_frame(path, decoded, pixels)


def as_frame(path: Path, decoded: NDArray[Any], pixels: PixelFormat) -> Image:
    """``PixelFormat.frame`` with the file's name in its error."""
    try:
        return pixels.frame(decoded)
    except ValueError as error:
        raise DataError(
            f"{path} does not fit the network: {error}", "give images like those it is trained on"
        ) from error


def read_encoded(path: Path) -> bytes:
    """The bytes of an image file that is whole as far as its structure shows.

    Raises:
        DataError: unreadable, empty, cut short, or a PNG with a wrong checksum.
    """
    encoded = read_file(path)
    if not encoded or is_cut_short(encoded):
        raise DataError(f"{path} is cut short after {len(encoded)} bytes", "copy or download it again")
    if is_tiff(encoded) and (pages := pages_of_tiff(encoded)) > 1:
        raise DataError(f"{path} has {pages} pages, and an image is one", "save the pages as separate images")
    if encoded.startswith(SIGNATURE):
        try:
            ensure_checksums(encoded)
        except ValueError as error:
            raise DataError(f"{path} is a damaged PNG ({error})", "copy or download it again") from error
    return encoded


def decode(path: Path, encoded: bytes, channels: int = 3) -> NDArray[Any]:
    """Decode to ``[H, W]``, ``[H, W, 3]`` BGR or ``[H, W, 4]``, at the file's own depth, turned upright.

    Raises:
        DataError: OpenCV cannot decode it.
    """
    if channels == 4:
        flags = cv2.IMREAD_UNCHANGED
    elif channels == 3 and not may_be_deep(encoded):
        flags = cv2.IMREAD_COLOR
    else:
        flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
    decoded = decode_with(path, encoded, flags | cv2.IMREAD_IGNORE_ORIENTATION)
    orientation = orientation_of(encoded)
    return decoded if orientation == 1 or is_tiff(encoded) else turned(decoded, orientation)


def decode_with(path: Path, encoded: bytes, flags: int) -> NDArray[Any]:
    """``cv2.imdecode`` with a sentence where it fails."""
    try:
        decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except cv2.error:
        # OpenCV refuses a size that a damaged header declares.
        decoded = None
    if decoded is None or 0 in decoded.shape:
        raise DataError(f"{path} is not an image that OpenCV can decode{_what_it_is(encoded)}")
    return np.asarray(decoded)


def may_be_deep(encoded: bytes) -> bool:
    """Whether the file may hold more than 8 bits per channel."""
    if encoded.startswith(SIGNATURE):
        return encoded[24:25] == b"\x10"
    shallow = (b"\xff\xd8", b"BM", b"GIF8")
    return not (encoded.startswith(shallow) or (encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP"))


def is_cut_short(encoded: bytes) -> bool:
    """Whether a PNG, JPEG, WebP or BMP lacks its end. OpenCV fills what is missing with anything
    and reports nothing."""
    if encoded.startswith(SIGNATURE):
        return b"IEND" not in encoded
    if encoded.startswith(b"\xff\xd8"):
        # The first half may hold the end of an embedded thumbnail.
        return encoded.rfind(b"\xff\xd9") < len(encoded) // 2
    if encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP":
        return bool(struct.unpack_from("<I", encoded, 4)[0] + 8 > len(encoded))
    if encoded.startswith(b"BM") and len(encoded) > 6:
        return bool(struct.unpack_from("<I", encoded, 2)[0] > len(encoded))
    return False


def is_animation(head: bytes) -> bool:
    """Whether a WebP, PNG or AVIF shows several pictures in turn, of which only the first is read as an image.

    Args:
        head: its first 4 KiB.
    """
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X":
        return bool(head[20] & 2) if len(head) > 20 else False
    if head.startswith(SIGNATURE):
        return b"acTL" in head.partition(b"IDAT")[0]
    return head[4:12] == b"ftypavis"


def _what_it_is(encoded: bytes) -> str:
    """What a file that is not an image seems to be, and what to do."""
    head = encoded[:200].lstrip()
    if head.startswith(b"version https://git-lfs"):
        return " but a Git LFS pointer: run `git lfs pull`"
    if head[:15].lower().startswith((b"<!doctype", b"<html")):
        return " but a web page: download the image itself"
    if encoded.startswith(b"\xff\xd8") and b"\xff\xc1" in encoded[:4096]:
        return ", because it is a JPEG of 12 bits: convert it to a 16-bit PNG"
    if is_tiff(encoded) and (channels := channels_of_tiff(encoded)) > 4:
        return f", because it has {channels} channels: save one, three or four of them"
    return ": copy or download it again, or convert it to PNG"

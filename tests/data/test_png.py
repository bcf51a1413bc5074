from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from pspnet_edge.data.image_file import is_cut_short
from pspnet_edge.data.png import decoded, has_palette, indexed_image
from pspnet_edge.labels import voc_palette

from .conftest import indexed_png, png_chunk, some_ids


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_indices_and_palette_come_back_at_every_depth(depth: int) -> None:
    ids = np.random.default_rng(depth).integers(0, 2**depth, (9, 13)).astype(np.uint8)
    encoded = indexed_png(ids, voc_palette(2**depth), depth)

    image = indexed_image(encoded)

    assert has_palette(encoded)
    np.testing.assert_array_equal(image.indices, ids)
    assert [tuple(colour) for colour in image.palette.tolist()] == list(voc_palette(2**depth))


def test_filtered_rows_are_decoded() -> None:
    ids = np.tile(np.arange(250, dtype=np.uint8), (40, 1)) // 7
    encoded = cv2.imencode(".png", ids)[1].tobytes()  # OpenCV chooses filters; only the header says grey
    rows = zlib.decompress(encoded[encoded.index(b"IDAT") + 4 : encoded.index(b"IEND") - 8])
    assert any(rows[:: ids.shape[1] + 1])

    header = b"IHDR" + encoded[16:25] + b"\x03" + encoded[26:29]
    palette = b"PLTE" + bytes(range(256)) * 3
    chunks = b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in (header, palette)
    )

    np.testing.assert_array_equal(indexed_image(encoded[:8] + chunks + encoded[33:]).indices, ids)


def test_an_index_beyond_the_palette_is_an_error() -> None:
    with pytest.raises(ValueError, match="4 colours and a pixel has index 255"):
        indexed_image(indexed_png(some_ids(0, 4), voc_palette(4)))


def test_a_missing_palette_is_an_error() -> None:
    with pytest.raises(ValueError, match="palette is missing"):
        indexed_image(indexed_png(some_ids(0, 4), []))


def test_a_flipped_bit_is_an_error() -> None:
    encoded = bytearray(indexed_png(some_ids(0, 21)))
    encoded[60] ^= 4
    with pytest.raises(ValueError, match="checksum"):
        indexed_image(bytes(encoded))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_cut_files_are_told_from_whole_ones(suffix: str) -> None:
    encoded = cv2.imencode(suffix, np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))[1].tobytes()
    assert not is_cut_short(encoded)
    assert is_cut_short(encoded[: len(encoded) * 2 // 3])


def test_a_chunk_that_claims_more_than_the_file_holds_is_refused_before_opencv_allocates_it() -> None:
    whole = cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1].tobytes()
    assert decoded(whole).shape == (8, 8)
    place = whole.index(b"IDAT") - 4
    claims = whole[:place] + b"\xff\xff\xff\xff" + whole[place + 4 :]
    hidden = whole[:place] + png_chunk(b"tEXt", b"IEND") + b"\xff\xff\xff\xffIDAT"
    for encoded, words in (
        (claims, "checksum"),
        (hidden, "cut short"),
        (whole[:-4], "cut short"),
        (b"GIF89a", "not a PNG"),
    ):
        with pytest.raises(ValueError, match=words):
            decoded(encoded)

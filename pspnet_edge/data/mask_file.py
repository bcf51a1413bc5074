"""One mask file → class ids, by whatever way the file holds them without loss.

Ids may be grey values of 1 to 16 bits, palette indices, or three equal channels; or colours, where the classes have
colours.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..labels import IGNORE
from .exif import webp_chunks
from .image_file import decode_with, read_encoded
from .png import SIGNATURE, grey_values, has_palette, indexed_image

Mask = NDArray[np.uint8]
Colour = tuple[int, int, int]
Colours = Sequence[Colour]
_JPEG = (".jpg", ".jpeg")
_LOSSY = "a JPEG changes the values along edges, so export the masks again as PNG"
_NUMPY = b"\x93NUMPY"
VOC_OUTLINE: Colour = (224, 224, 192)
"""The colour that tools with VOC's colour map give to pixels without a label."""


@dataclass(frozen=True)
class RawMask:
    """What a mask file holds, before it is known what its values mean.

    ``values`` is ``uint8`` or ``uint16 [H, W]``, or ``uint8 [H, W, 3]`` RGB where ``is_colour``; ``palette`` is
    ``uint8 [colours, 3]`` RGB of a palette PNG; ``equal_channels`` says that ``values`` were stored three times.
    """

    values: NDArray[Any]
    is_colour: bool = False
    palette: NDArray[np.uint8] | None = None
    equal_channels: bool = False

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (self.values.shape[0], self.values.shape[1])

    def as_colours(self) -> NDArray[np.uint8] | None:
        """``uint8 [H, W, 3]`` RGB: the colours as one sees them; None where the values have more than 8 bits."""
        if self.is_colour:
            return np.asarray(self.values, np.uint8)
        if self.palette is not None:
            return np.asarray(self.palette[self.values], np.uint8)
        if self.values.dtype != np.uint8:
            return None
        return np.repeat(self.values[..., None], 3, axis=2)

    def greys_are_colours(self, palette: Colours, by_colour: bool = False) -> bool:
        """Whether grey values are colours of a palette and not ids.

        They are where all of them are greys of the palette and the file is one of colours, or the palette has
        nothing but greys. A mask that shows only black and white of a set with other colours is such a file.

        Args:
            palette: the RGB colours of the classes.
            by_colour: the masks of this set are known to hold colours.
        """
        if self.is_colour or self.palette is not None or self.values.dtype != np.uint8:
            return False
        greys = {colour[0] for colour in palette if len(set(colour)) == 1}
        only_greys = len(greys) == len(palette)
        meant = self.equal_channels or only_greys or by_colour
        return meant and set(np.unique(self.values).tolist()) <= greys


def read_raw_mask(path: Path) -> RawMask:
    """Read a mask file without knowing its classes.

    Raises:
        DataError: unreadable, damaged, with transparent pixels, or of a kind that cannot hold ids.
    """
    encoded = read_encoded(path)
    if encoded.startswith(_NUMPY):
        return RawMask(_integers(path, _array(path, encoded)))
    if kind := _lossy(path, encoded):
        raise DataError(f"{path} is a {kind}, which changes the values along edges", "export the masks again as PNG")
    try:
        if has_palette(encoded):
            image = indexed_image(encoded)
            return RawMask(image.indices, palette=image.palette)
        if encoded.startswith(SIGNATURE) and len(encoded) > 24 and encoded[24] < 8:
            return RawMask(grey_values(encoded))
    except (ValueError, cv2.error) as error:
        raise DataError(f"{path} is a damaged PNG ({error})", "copy or download it again") from error
    decoded = decode_with(path, encoded, cv2.IMREAD_UNCHANGED)
    if decoded.ndim == 3:
        decoded = _without_alpha(path, decoded)
    if decoded.ndim == 2:
        return RawMask(_integers(path, decoded))
    if (decoded == decoded[..., :1]).all():
        return RawMask(_integers(path, np.ascontiguousarray(decoded[..., 0])), equal_channels=True)
    if decoded.dtype != np.uint8:
        raise DataError(
            f"{path} is a colour image of {decoded.dtype} values", "save the class ids as an 8-bit grey PNG"
        )
    return RawMask(np.ascontiguousarray(decoded[..., ::-1]), is_colour=True)


def _lossy(path: Path, encoded: bytes) -> str:
    """What a mask is whose compression changes ids; empty for others, and for JPEGs that are called so."""
    if encoded.startswith(b"\xff\xd8"):
        return "" if path.suffix.lower() in _JPEG else "JPEG, whatever its name"
    pixels = next((kind for kind, _ in webp_chunks(encoded) if kind in (b"VP8 ", b"VP8L")), b"")
    return "lossy WebP" if pixels == b"VP8 " else ""


def read_mask(path: Path, classes: int, void_id: int | None = None, palette: Colours | None = None) -> Mask:
    """Read a mask of class ids ``uint8 [H, W]``, 255 where there is no label.

    Args:
        path: the file.
        classes: how many ids there are, from 0; 255 is IGNORE and always allowed.
        void_id: an id in the file that becomes IGNORE.
        palette: the RGB colour of each id. A colour mask is read by it, and a palette PNG must agree with it, by its
            indices or else by its colours. None: there are no colours, and a palette means nothing.

    Raises:
        DataError: unreadable, in colours that no class has, or an id that the label set does not know.
    """
    raw = read_raw_mask(path)
    if raw.is_colour:
        if palette is None:
            raise DataError(
                f"{path} is a colour image, and the classes have no colours to read it by",
                "write each class's colour "
                "in classes.txt (`road, 128, 64, 128`), or convert the set with `pspnet-edge data import`",
            )
        return ids_by_colour(path, raw.values, palette)
    if palette is not None and raw.palette is not None and not _palette_agrees(raw, classes, palette):
        return _ids_by_palette_colour(path, raw, palette)
    if palette is not None and raw.greys_are_colours(palette):
        colours = raw.as_colours()
        assert colours is not None
        return ids_by_colour(path, colours, palette)
    return _known_ids(path, raw.values, classes, void_id)


def ids_by_colour(path: Path, rgb: NDArray[np.uint8], palette: Colours) -> Mask:
    """Turn colours ``uint8 [H, W, 3]`` RGB into ids; VOC's outline colour becomes IGNORE where no class has it.

    Raises:
        DataError: a pixel has a colour that is not in the palette.
    """
    wanted = {_code(colour): index for index, colour in reversed(list(enumerate(palette)))}
    wanted.setdefault(_code(VOC_OUTLINE), IGNORE)
    known = np.array(sorted(wanted), np.int32)
    ids = np.array([wanted[code] for code in known.tolist()], np.uint8)
    codes = (rgb[..., 0].astype(np.int32) << 16) | (rgb[..., 1].astype(np.int32) << 8) | rgb[..., 2]
    places = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    unknown = known[places] != codes
    if unknown.any():
        y, x = (int(axis[0]) for axis in np.nonzero(unknown))
        count = int(unknown.sum())
        raise DataError(
            f"{path} has colour {_triple(rgb[y, x])} at pixel x={x}, y={y}, which no class has ({count} "
            f"{'pixel' if count == 1 else 'pixels'} with such colours)",
            _LOSSY if path.suffix.lower() in _JPEG else "correct the mask or the colours of the classes",
        )
    return np.asarray(ids[places], np.uint8)


def _array(path: Path, encoded: bytes) -> NDArray[Any]:
    """The array of a .npy file; nothing that it may hold beside numbers is read."""
    try:
        values = np.load(io.BytesIO(encoded), allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError, SyntaxError, TypeError) as error:
        raise DataError(
            f"{path} is not an array of numbers ({str(error).splitlines()[0][:80]})", "save it again"
        ) from error
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values.squeeze(0 if values.shape[0] == 1 else 2)
    if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "buif":
        raise DataError(f"{path} holds {values.dtype} {list(values.shape)}, not ids [H, W]", "save one id per pixel")
    return np.asarray(values.astype(np.uint8) if values.dtype.kind == "b" else values)


def _without_alpha(path: Path, decoded: NDArray[Any]) -> NDArray[Any]:
    if decoded.shape[2] != 4:
        return decoded
    alpha = decoded[..., 3]
    full = np.iinfo(decoded.dtype).max if decoded.dtype.kind == "u" else 1
    if (alpha != full).any():
        y, x = (int(axis[0]) for axis in np.nonzero(alpha != full))
        raise DataError(
            f"{path} is transparent at pixel x={x}, y={y}, and a transparent pixel has no class",
            "save it without alpha",
        )
    return decoded[..., :3]


def _integers(path: Path, values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype in (np.uint8, np.uint16):
        return values
    whole = np.asarray(values, np.float64)
    if not (np.isfinite(whole).all() and (whole == np.rint(whole)).all() and whole.min() >= 0 and whole.max() < 65536):
        raise DataError(f"{path} holds {values.dtype} values that are not class ids", "save ids as an 8-bit grey PNG")
    return whole.astype(np.uint16)


def _known_ids(path: Path, values: NDArray[Any], classes: int, void_id: int | None) -> Mask:
    if void_id is not None:
        values = values.copy()
        values[values == void_id] = IGNORE
    counts = np.bincount(values.ravel(), minlength=256)
    counts[IGNORE] = 0
    unknown = np.flatnonzero(counts[classes:]) + classes
    if unknown.size:
        ids = ", ".join(map(str, unknown[:5])) + (", …" if unknown.size > 5 else "")
        y, x = (int(axis[0]) for axis in np.nonzero(values == unknown[0]))
        fix = (
            "correct the mask or the list of classes; `pspnet-edge data import` takes other ids: --map 50=thing, or "
            "--ignore-id 0 where ids begin at 1"
        )
        if path.suffix.lower() in _JPEG:
            fix = _LOSSY
        raise DataError(
            f"{path} holds {'id' if unknown.size == 1 else 'ids'} {ids}, first at pixel x={x}, y={y}, and the label "
            f"set has ids 0 to {classes - 1}, and 255 for ignore",
            fix,
        )
    return np.asarray(values, np.uint8)


def _palette_agrees(raw: RawMask, classes: int, palette: Colours) -> bool:
    assert raw.palette is not None
    used = np.unique(raw.values)
    return all(tuple(raw.palette[index]) == tuple(palette[index]) for index in used if index < classes)


def _ids_by_palette_colour(path: Path, raw: RawMask, palette: Colours) -> Mask:
    """Ids of a palette PNG whose indices are in another order than the classes, as image editors leave it."""
    assert raw.palette is not None
    wanted = {tuple(colour): index for index, colour in reversed(list(enumerate(palette)))}
    wanted.setdefault(VOC_OUTLINE, IGNORE)
    table = np.full(256, IGNORE, np.uint8)
    for index in np.unique(raw.values):
        colour = tuple(int(channel) for channel in raw.palette[index])
        if colour not in wanted and index != IGNORE:
            expected = _triple(palette[index]) if index < len(palette) else "no class's"
            raise DataError(
                f"{path} has another palette than its data set (id {index} is RGB {_triple(colour)}, not {expected}), "
                f"so its indices may not be class ids",
                "restore it, or save the ids as an 8-bit grey PNG",
            )
        table[index] = wanted.get(colour, IGNORE)
    return np.asarray(table[raw.values])


def _code(colour: Sequence[int]) -> int:
    return (int(colour[0]) << 16) | (int(colour[1]) << 8) | int(colour[2])


def _triple(colour: Sequence[int] | NDArray[np.uint8]) -> str:
    return ",".join(str(int(channel)) for channel in colour)

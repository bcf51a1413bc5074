"""Images without labels: one file, or a folder of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np

from ..errors import DataError
from ..pixels import PixelFormat
from .files import Image, is_litter, pixels_of_files
from .image_file import DEFAULT_PIXELS, as_frame, decode, read_encoded
from .reading import reason_of

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v", ".ts", ".mpg", ".mpeg", ".wmv", ".flv"})


def by_number(path: Path) -> tuple[list[str | int], str]:
    """A key that sorts paths by their names, and numbers in them by their size."""
    # Text and numbers alternate, so like is compared with like. Longer numbers are hashes, and slow.
    pieces = re.split(r"(\d{1,18})", str(path))
    return [int(piece) if place % 2 else piece for place, piece in enumerate(pieces)], str(path)


class ImageFiles(Sequence[Image]):
    """The images of a folder in the order of their names, or one image; each is read when it is asked for.

    ``frame2`` comes before ``frame10``.

    Args:
        place: a folder or an image file.
        pixels: the channels to read images with, and the range of deep images; measured on them where it is None.

    Raises:
        DataError: it cannot be read, or holds no image.
    """

    def __init__(self, place: Path, pixels: PixelFormat = DEFAULT_PIXELS) -> None:
        try:
            entries = sorted(place.iterdir(), key=by_number) if place.is_dir() else [place]
            paths = [entry for entry in entries if entry.suffix.lower() in SUFFIXES and entry.is_file()]
        except (OSError, ValueError) as error:
            raise DataError(
                f"the folder {place} cannot be read ({reason_of(error)})", "check its permissions"
            ) from error
        # A hidden file that is named by itself is meant.
        self.paths = [path for path in paths if path == place or not is_litter(path.name)]
        self._wanted = pixels
        if not self.paths:
            below = place / "images"
            fix = f"name its folder {below}" if below.is_dir() else "put PNG or JPEG files there or name another folder"
            films = [entry.name for entry in entries if entry.suffix.lower() in VIDEO_SUFFIXES]
            if films:
                listed = ", ".join(films[:3]) + (", …" if len(films) > 3 else "")
                raise DataError(f"{place} holds videos ({listed}) but no images", f"name one: {place / films[0]}")
            raise DataError(f"{place} holds no image", fix)

    @cached_property
    def pixels(self) -> PixelFormat:
        """See ``ImageSet``."""
        return pixels_of_files(self.paths, self._wanted)

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, index: int) -> Image:
        """See ``ImageSet``."""
        path = self.paths[index]
        decoded = decode(path, read_encoded(path), self._wanted.channels)
        return as_frame(path, decoded, self.pixels if decoded.dtype != np.uint8 else self._wanted)

    def name(self, index: int) -> str:
        """See ``ImageSet``."""
        return self.paths[index].name

    @overload
    def __getitem__(self, index: int) -> Image: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Image]: ...

    def __getitem__(self, index: int | slice) -> Image | Sequence[Image]:
        if isinstance(index, slice):
            return [self.image(position) for position in range(len(self.paths))[index]]
        return self.image(index)

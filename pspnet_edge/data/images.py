"""Images without labels: one file, or a folder of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

from ..errors import DataError
from .files import Image, read_image

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})


class ImageFiles(Sequence[Image]):
    """The images of a folder in the order of their names, or one image; each is read when it is asked for.

    Args:
        place: a folder or an image file.

    Raises:
        DataError: it cannot be read, or holds no image.
    """

    def __init__(self, place: Path) -> None:
        try:
            entries = sorted(place.iterdir()) if place.is_dir() else [place]
        except OSError as error:
            raise DataError(f"the folder {place} cannot be read ({error.strerror}): check its permissions") from error
        self.paths = [entry for entry in entries if entry.suffix.lower() in SUFFIXES and entry.is_file()]
        if not self.paths:
            raise DataError(f"{place} holds no image: put PNG or JPEG files there or name another folder")

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> Image: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Image]: ...

    def __getitem__(self, index: int | slice) -> Image | Sequence[Image]:
        if isinstance(index, slice):
            return [read_image(path) for path in self.paths[index]]
        return read_image(self.paths[index])

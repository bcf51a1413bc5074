"""Masks as PNG files whose palette indices are class ids."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..artifact import atomic_path, ensure_folder_writable
from ..data.geometry import mask_at
from ..errors import OutputError
from ..labels import LabelSet
from .shot import Shot


class MaskFolder:
    """Writes ``00000012.png`` for frame 12, at the frame's size; with several sources ``1-00000012.png``.

    A file is whole or not there. When the disk is full saving stops with a warning and the loop goes on.

    Args:
        folder: made when it is not there.
        label_set: its palette is the files'.
        cameras: how many sources there are.
        warn: told, in one sentence, when saving stops early.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, label_set: LabelSet, cameras: int, warn: Callable[[str], None]) -> None:
        ensure_folder_writable(folder)
        self._folder = folder
        self._palette = np.ascontiguousarray(label_set.bgr_table()[:, ::-1])
        self._several = cameras > 1
        self._warn = warn
        self._works = True

    def show(self, shot: Shot) -> bool:
        """See ``Sink``."""
        if not self._works or shot.banner:
            return True
        name = f"{shot.camera}-{shot.index:08d}.png" if self._several else f"{shot.index:08d}.png"
        mask = mask_at(shot.mask, (shot.frame.shape[0], shot.frame.shape[1]))
        try:
            # Waiting for the disk at every frame would cost an SD card more than the inference.
            with atomic_path(self._folder / name, durable=False) as temporary:
                temporary.write_bytes(indexed_png(mask, self._palette))
        except OutputError as error:
            self._works = False
            self._warn(f"saving masks has stopped: {error.problem}")
        return True


def indexed_png(mask: NDArray[np.uint8], palette: NDArray[np.uint8]) -> bytes:
    """A PNG file of class ids; OpenCV cannot write one with a palette.

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

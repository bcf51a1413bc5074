"""Masks as PNG files whose palette indices are class ids."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..artifact import ensure_writable
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
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder} is a file: give --save-masks the name of a folder")
        ensure_writable(folder / "0.png")
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
            self._write(self._folder / name, indexed_png(mask, self._palette))
        except OSError as error:
            self._works = False
            self._warn(f"saving masks to {self._folder} has stopped ({error.strerror}): free the disk and start again")
        return True

    def _write(self, path: Path, content: bytes) -> None:
        # Not artifact.atomic_path: waiting for the disk at every frame would cost an SD card more than the inference.
        temporary = path.with_name(f".{path.name}.part")
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


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

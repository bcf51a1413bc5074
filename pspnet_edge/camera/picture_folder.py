"""A folder of pictures, one per segmented frame, named after the images they were made from."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from ..artifact import atomic_path, claim, ensure_folder_writable
from ..data.geometry import mask_at
from ..data.png import indexed_png
from ..errors import OutputError
from ..inputs import is_folder, is_there
from ..labels import LabelSet
from ..ownership import InUse
from .shot import Shot
from .sources import Source

_JPEG_QUALITY = 92
_MOST_FOLDERS = 1000


class PictureFolder:
    """Writes a file per frame: ``street.png`` for an image ``street.jpg``, ``00000012.png`` for frame 12 of a video.

    With several sources the number of the source comes first, as in ``1-00000012.png``. A file is whole or not there,
    and no file that was there before is replaced: when a folder holds such names already, ``FOLDER-2`` is taken, and
    so on. When the disk is full saving stops with a warning and the loop continues.

    Args:
        folder: made when it is missing.
        sources: of the loop.
        suffix: of the files, such as ``.png``.
        encode: makes the bytes of a file.
        what: of the warning, such as ``masks``.
        warn: told, in one sentence, when another folder is taken or saving stops early.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        sources: Sequence[Source],
        suffix: str,
        encode: Callable[[Shot], bytes],
        what: str,
        warn: Callable[[str], None],
    ) -> None:
        self._stems = [stems_of(source) for source in sources]
        self._suffix = suffix
        self._encode = encode
        self._what, self._warn = what, warn
        self._claimed = contextlib.ExitStack()
        self.folder = self._claimed_folder(folder)
        """Where the files are written."""
        if self.folder != folder:
            warn(f"{folder} holds files that {what} would replace: these go to {self.folder}")
        ensure_folder_writable(self.folder)
        self.written = 0
        """How many files."""
        self._works = True

    def __enter__(self) -> PictureFolder:
        return self

    def __exit__(self, *exception: object) -> None:
        self._claimed.close()

    def show(self, shot: Shot) -> bool:
        """See ``Sink``."""
        if not self._works or shot.banner:
            return True
        try:
            # Waiting for the disk at every frame would cost an SD card more than the inference.
            with atomic_path(self.folder / self._name(shot), durable=False) as temporary:
                temporary.write_bytes(self._encode(shot))
            self.written += 1
        except OutputError as error:
            self._works = False
            self._warn(f"saving {self._what} has stopped after {self.written}: {error}")
        return True

    def _name(self, shot: Shot) -> str:
        stems = self._stems[shot.camera]
        passes, place = divmod(shot.index, len(stems)) if stems else (0, 0)
        # A folder that is played in a loop has its second pass numbered.
        again = f"-{passes + 1}" if passes else ""
        name = f"{stems[place]}{again}" if stems else f"{shot.index:08d}"
        return f"{shot.camera}-{name}{self._suffix}" if len(self._stems) > 1 else f"{name}{self._suffix}"

    def _claimed_folder(self, folder: Path) -> Path:
        """The folder, or another one where it holds pictures or another process writes some into it."""
        if is_there(folder) and not folder.is_dir():
            raise OutputError(f"{folder} is not a folder", f"give the {self._what} the name of a folder")
        # As it was given, for whoever reads where the files are; "." and ".." have no name to put a number behind.
        named = folder if folder.name not in ("", "..") else folder.resolve()
        for number in range(2, _MOST_FOLDERS):
            here = folder if number == 2 else named.with_name(f"{named.name}-{number - 1}")
            if self._is_taken(here):
                continue
            try:
                self._claimed.enter_context(claim(here / f".{self._what}", wait_s=0))
            except InUse:
                continue
            if not self._is_taken(here):  # the other may have ended since
                return here
            self._claimed.close()
        raise OutputError(f"{folder} and {_MOST_FOLDERS} more hold {self._what}", "give another folder")

    def _is_taken(self, folder: Path) -> bool:
        """Whether a name that this run may write is there already."""
        if not is_folder(folder):
            return os.path.lexists(folder)
        there = {entry.name for entry in folder.iterdir()}
        for camera, stems in enumerate(self._stems):
            prefix = f"{camera}-" if len(self._stems) > 1 else ""
            if stems and any(f"{prefix}{stem}{self._suffix}" in there for stem in stems):
                return True
            numbered = re.compile(rf"{prefix}\d{{8}}{re.escape(self._suffix)}")
            if not stems and any(numbered.fullmatch(name) for name in there):
                return True
        return False


def mask_folder(
    folder: Path, label_set: LabelSet, sources: Sequence[Source], warn: Callable[[str], None]
) -> PictureFolder:
    """A folder of masks at the frames' size, as PNG whose palette indices are class ids.

    Raises:
        OutputError: the folder cannot be written.
    """
    palette = np.ascontiguousarray(label_set.bgr_table()[:, ::-1])

    def encode(shot: Shot) -> bytes:
        return indexed_png(mask_at(shot.mask, (shot.frame.shape[0], shot.frame.shape[1])), palette)

    return PictureFolder(folder, sources, ".png", encode, "masks", warn)


def overlay_folder(folder: Path, sources: Sequence[Source], warn: Callable[[str], None]) -> PictureFolder:
    """A folder of pictures with the classes drawn over the frames, as JPEG.

    Raises:
        OutputError: the folder cannot be written.
    """

    def encode(shot: Shot) -> bytes:
        # Not shot.picture(): a rate has no place on a picture that is kept.
        assert shot.overlay is not None, "shots of a loop have one"
        picture = shot.overlay.draw(shot.frame, shot.mask, "")
        done, content = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
        if not done:
            raise OutputError("this OpenCV cannot encode JPEG", "install another", "pip install opencv-python")
        return content.tobytes()

    return PictureFolder(folder, sources, ".jpg", encode, "overlays", warn)


def stems_of(source: Source) -> list[str]:
    """A name per frame of a source that reads files, each once; empty for another source.

    Files that differ only in their suffix or folder keep the suffix, then a number: ``a-jpg``, ``a-png``, ``a-png-2``.
    """
    paths: Sequence[Path] = getattr(source, "paths", ())
    often = Counter(path.stem for path in paths)
    stems: list[str] = []
    used: set[str] = set()
    for path in paths:
        stem = path.stem if often[path.stem] == 1 else f"{path.stem}-{path.suffix[1:]}"
        name, number = stem, 2
        while name in used:
            name, number = f"{stem}-{number}", number + 1
        used.add(name)
        stems.append(name)
    return stems

"""Lists of calibration images: a text file with one image id per line, and above them how they were chosen.

An id is the image's file name without suffix, and for Cityscapes without ``_leftImg8bit``. Lines with ``#`` are
comments; ``# sha256: …`` is the fingerprint of the ids below, and a list that no longer agrees with its own is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from ..errors import DataError
from ..inputs import read_text
from .datasets import Dataset, ImageSet
from .subset import Subset, some_of

_FINGERPRINT = re.compile(r"#\s*sha256:\s*(\S+)")
_ENDING = re.compile(r"(_leftImg8bit)?\.(bmp|jpe?g|png|tiff?|webp)$", re.IGNORECASE)
_FOLDER = Path(__file__).parent / "calibration"


@dataclass(frozen=True)
class CalibrationList:
    """Ids of images, in order, and the file that they were read from."""

    path: Path
    ids: tuple[str, ...]

    @overload
    def of(self, dataset: Dataset) -> Subset: ...

    @overload
    def of(self, dataset: ImageSet) -> ImageSet: ...

    def of(self, dataset: ImageSet) -> ImageSet:
        """The images of a data set that the list names, in the list's order.

        Raises:
            DataError: the data set lacks an image of the list, or has two of one id.
        """
        places: dict[str, list[int]] = {}
        for index in range(len(dataset)):
            places.setdefault(image_id(dataset.name(index)), []).append(index)
        missing = [name for name in self.ids if name not in places]
        if missing:
            raise DataError(
                f"{len(missing)} of the {len(self.ids)} images that {self.path} names are not in this split of the "
                f"data set, such as {missing[0]}",
                "give its own data set and split, or --images N instead",
            )
        twice = next((name for name in self.ids if len(places[name]) > 1), None)
        if twice:
            raise DataError(f"the data set has {len(places[twice])} images called {twice}", "give them different names")
        return some_of(dataset, tuple(places[name][0] for name in self.ids))


def image_id(name: str) -> str:
    """The id of an image from its file name, or from an id."""
    return _ENDING.sub("", name.rpartition("/")[2])


def ids_fingerprint(ids: Sequence[str]) -> str:
    """SHA-256 of the ids, a line each."""
    return hashlib.sha256("".join(f"{name}\n" for name in ids).encode()).hexdigest()


def list_text(ids: Sequence[str], comments: Sequence[str]) -> str:
    """The content of a list file: comments, fingerprint, ids."""
    head = [f"# {line}" for line in (*comments, f"sha256: {ids_fingerprint(ids)}")]
    return "\n".join([*head, *ids]) + "\n"


def read_list(path: Path) -> CalibrationList:
    """Read a list of calibration images.

    Raises:
        DataError: unreadable, without ids, with an id twice, or changed since its fingerprint was taken.
    """
    text = read_text(path, "calibration list", DataError, "give a text file with one image id per line")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    ids = tuple(image_id(line) for line in lines if not line.startswith("#"))
    if not ids:
        raise DataError(f"the calibration list {path} names no image", "write one id per line")
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise DataError(f"the calibration list {path} names {twice} more than once", "keep it once")
    stated = next((match[1] for line in lines if (match := _FINGERPRINT.match(line))), None)
    if stated not in (None, ids_fingerprint(ids)):
        raise DataError(
            f"the calibration list {path} was changed since its fingerprint was taken",
            "restore it, or remove its line `# sha256:` if the change was meant",
        )
    return CalibrationList(path, ids)


def shipped_list(dataset: str) -> Path | None:
    """The list that comes with the package for a data set's training split; None where there is none."""
    return next((path for path in _FOLDER.glob("*.txt") if path.stem == dataset), None)

"""The images of a folder without lists that training holds out, the same ones every time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..pixels import PixelFormat
from .datasets import Dataset, FileSet, open_dataset, split_or_next
from .split import assign, group_names
from .subset import Subset

HELD_OUT = "held out"
"""What the images that training held out are called where a split is named."""
_PIXELS = PixelFormat()
_SHARE = 0.2
_SEED = 0


@dataclass(frozen=True)
class HeldOut(Subset):
    """The images to validate on."""

    training: Subset
    """The others."""
    grouped_by: str
    """What kept images together, as in ``data split``."""

    @property
    def key(self) -> str:
        """Tells which images were trained on, by their names; a network carries it as the fact ``held_out``."""
        names = sorted(self.training.name(index) for index in range(len(self.training)))
        return hashlib.sha256("\n".join(names).encode()).hexdigest()


def hold_out(whole: Dataset) -> HeldOut:
    """Hold a fifth of the images out, by the rule of ``data split``.

    Raises:
        DataError: there are too few.
    """
    names = _paths(whole)
    groups, grouped_by = group_names(sorted(names), "auto")
    validating = set(assign(groups, {"val": _SHARE}, _SEED)["val"])
    kept, held = (
        tuple(index for index, name in enumerate(names) if (name in validating) == part) for part in (False, True)
    )
    return HeldOut(whole, held, Subset(whole, kept), grouped_by)


def unseen_images(
    name: str, root: Path | None, wanted: str, facts: Mapping[str, Any], pixels: PixelFormat = _PIXELS
) -> tuple[Dataset, str]:
    """The images to measure a network on, and what they are called.

    Args:
        name: of the data set.
        root: its folder.
        wanted: a split. Of a folder without it ``val``; of one without any split those that training held out, where
            the network was trained on that folder; else every image.
        facts: of the network, from its checkpoint or its model file.
        pixels: the channels to read images with.

    Raises:
        OptionError, DataError: as ``open_dataset``.
    """
    split = split_or_next(name, root, wanted)
    images = open_dataset(name, root, split, pixels)
    if split != "all" or wanted == "all" or "held_out" not in facts:
        return images, split
    try:
        found = hold_out(images)
    except DataError:
        return images, split
    return (found, HELD_OUT) if found.key == facts["held_out"] else (images, split)


def _paths(dataset: Dataset) -> list[str]:
    """What tells the images apart: their paths, or their names."""
    if isinstance(dataset, FileSet):
        return [image.with_suffix("").as_posix() for image, _ in dataset.pairs]
    return [dataset.name(index) for index in range(len(dataset))]

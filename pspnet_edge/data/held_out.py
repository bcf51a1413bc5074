"""The images of a folder without lists that training holds out, the same ones every time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..pixels import PixelFormat
from .datasets import Dataset, FileSet, ensure_on_disk, open_dataset, split_or_next
from .folder import stored_splits
from .split import assign, group_names
from .subset import Subset

HELD_OUT = "held out"
"""What the images that training held out are called where a split is named."""
_PARTS = {
    "train": {"train"},
    "val": {"val"},
    "test": {"test"},
    "trainval": {"train", "val"},
    "all": {"train", "val", "test"},
}
_PIXELS = PixelFormat()
_BETTER = "it does better than on new ones"
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


def held_out_of(
    name: str, root: Path | None, facts: Mapping[str, Any], pixels: PixelFormat = _PIXELS
) -> HeldOut | None:
    """What training held out of a folder; None where the folder has a list for that, or was not what it trained on.

    Args:
        name: of the data set.
        root: its folder.
        facts: of the network: from its checkpoint, its model file or the sidecar of its engine.
        pixels: the channels to read images with.
    """
    if facts.get("held_out") is None or name != "folder" or root is None:
        return None
    stored = stored_splits(ensure_on_disk(name, root))
    if "val" in stored:
        return None
    for whole in ("train", "all") if "train" in stored else ("all",):
        try:
            found = hold_out(open_dataset(name, root, whole, pixels))
        except DataError:
            continue
        if found.key == facts["held_out"]:
            return found
    return None


def unseen_images(
    name: str, root: Path | None, wanted: str, facts: Mapping[str, Any], pixels: PixelFormat = _PIXELS
) -> tuple[Dataset, str]:
    """The images to measure a network on, and what they are called.

    Args:
        name: of the data set.
        root: its folder.
        wanted: a split. Of a folder without it ``val``; of one without any split those that training held out, where
            the network was trained on that folder; else every image.
        facts: of the network, as for ``held_out_of``.
        pixels: the channels to read images with.

    Raises:
        OptionError, DataError: as ``open_dataset``.
    """
    split = split_or_next(name, root, wanted)
    if split == "all" and wanted != "all":
        found = held_out_of(name, root, facts, pixels)
        if found is not None:
            return found, HELD_OUT
    return open_dataset(name, root, split, pixels), split


def split_or_unseen(
    name: str,
    root: Path | None,
    split: str | None,
    facts: Mapping[str, Any],
    pixels: PixelFormat = _PIXELS,
    *,
    wanted: str = "test",
) -> tuple[Dataset, str]:
    """The images of a split that was asked for; for None ``unseen_images`` of the wanted one.

    Raises:
        OptionError, DataError: as ``open_dataset``.
    """
    if split is None:
        return unseen_images(name, root, wanted, facts, pixels)
    return open_dataset(name, root, split, pixels), split


def images_of_split(
    name: str, root: Path | None, split: str, facts: Mapping[str, Any], pixels: PixelFormat = _PIXELS
) -> Dataset:
    """The images of a split; where ``train`` is meant and training held images out, those that it left.

    Raises:
        OptionError, DataError: as ``open_dataset``.
    """
    found = held_out_of(name, root, facts, pixels) if split == "train" else None
    return open_dataset(name, root, split, pixels) if found is None else found.training


def trained_on_split(name: str, split: str, facts: Mapping[str, Any]) -> bool | None:
    """Whether a network was trained on images of a split, by its fact ``trained_split``; None where that tells nothing.

    Args:
        name: of the data set.
        split: what is measured on, ``HELD_OUT`` included.
        facts: of the network, as for ``held_out_of``.
    """
    dataset, _, trained = str(facts.get("trained_split") or "").partition(" ")
    if dataset != name or trained not in _PARTS:
        return None
    return not _PARTS[trained].isdisjoint(_PARTS.get(split, ()))


def about_images(
    name: str, root: Path | None, wanted: str, split: str, count: int, facts: Mapping[str, Any]
) -> str | None:
    """What people should know of the images that a network is measured on; None where there is nothing to say.

    They may be of another split than the wanted one, and the network may have been trained on them.
    """
    said = []
    if split != wanted:
        where = {"all": f"all {count} images", HELD_OUT: f"the {count} images that training held out"}
        said.append(f"{root} has no split {wanted}: measured on {where.get(split, split)}")
    trained = trained_on_split(name, split, facts)
    if trained:
        said.append(f"the network was trained on split {facts['trained_split'].split()[-1]}, on whose images {_BETTER}")
    elif trained is None and split in ("train", "all"):
        said.append(f"on images that the network was trained on {_BETTER}")
    return "; ".join(said) or None


def _paths(dataset: Dataset) -> list[str]:
    """What tells the images apart: their paths, or their names."""
    if isinstance(dataset, FileSet):
        return [image.with_suffix("").as_posix() for image, _ in dataset.pairs]
    return [dataset.name(index) for index in range(len(dataset))]

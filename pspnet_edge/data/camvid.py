"""CamVid in the layout of the SegNet tutorial: 11 classes and void, grey masks, three split lists."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError
from ..labels import CAMVID
from .files import FileSet, parts_of, read_lines

SPLITS = ("train", "val", "test")


def camvid(root: Path, split: str) -> FileSet:
    """Open CamVid.

    The lists carry absolute paths of the tutorial's authors (``/SegNet/CamVid/train/x.png /SegNet/…``); their last two
    parts are taken relative to the lists' folder.

    Args:
        root: the folder with the lists ``train.txt``, ``val.txt`` and ``test.txt``, or one that holds it as ``CamVid``.
        split: ``train``, ``val``, ``test`` or ``trainval``, which joins two.

    Raises:
        OptionError: an unknown split.
        DataError: a list that is missing, empty or not in two columns.
    """
    parts = parts_of(split, SPLITS, "CamVid")
    folder = root / "CamVid" if (root / "CamVid").is_dir() else root
    pairs = [pair for part in parts for pair in _listed_pairs(folder / f"{part}.txt")]
    return FileSet(CAMVID, tuple(pairs), void_id=11)


def _listed_pairs(listing: Path) -> list[tuple[Path, Path]]:
    pairs = []
    for line in read_lines(listing):
        columns = line.split()
        if len(columns) != 2:
            raise DataError(
                f"the line {line!r} of {listing} has {len(columns)} columns", "expected an image and a mask path"
            )
        image, mask = (listing.parent.joinpath(*Path(column).parts[-2:]) for column in columns)
        pairs.append((image, mask))
    return pairs

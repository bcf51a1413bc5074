"""Cityscapes, fine annotations: 19 classes out of 34 label ids, splits as folders, one folder a city."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError
from ..labels import CITYSCAPES, IGNORE
from .files import FileSet, files_below, parts_of

SPLITS = ("train", "val", "test")
_IMAGE_END = "_leftImg8bit.png"
_TRAIN_IDS_END, _LABEL_IDS_END = "_gtFine_labelTrainIds.png", "_gtFine_labelIds.png"

# Label ids 0–33 in order → class ids; what Cityscapes leaves out of its evaluation is IGNORE.
# https://github.com/mcordts/cityscapesScripts/blob/master/cityscapesscripts/helpers/labels.py
_EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CLASS_OF_LABEL_ID = tuple(_EVALUATED.index(label) if label in _EVALUATED else IGNORE for label in range(34))


def cityscapes(root: Path, split: str) -> FileSet:
    """Open Cityscapes.

    Masks are read from ``*_labelTrainIds.png`` where every image of the split has one, else from ``*_labelIds.png``.
    The published masks of ``test`` hold no classes, so everything in them is IGNORE.

    Args:
        root: the folder with ``leftImg8bit`` and ``gtFine``.
        split: ``train``, ``val``, ``test`` or ``trainval``, which joins two.

    Raises:
        DataError: unknown split, or a folder that is missing, unreadable or without images.
    """
    images = [path for part in parts_of(split, SPLITS, "Cityscapes") for path in _images(root, part)]
    train_ids = [_mask(root, image, _TRAIN_IDS_END) for image in images]
    if all(path.is_file() for path in train_ids):
        return FileSet(CITYSCAPES, tuple(zip(images, train_ids)))
    label_ids = [_mask(root, image, _LABEL_IDS_END) for image in images]
    return FileSet(CITYSCAPES, tuple(zip(images, label_ids)), id_table=CLASS_OF_LABEL_ID)


def splits_with_masks(root: Path) -> tuple[str, ...]:
    """The splits worth checking: train, val, and test where its masks were unpacked."""
    return SPLITS if (root / "gtFine" / "test").is_dir() else SPLITS[:2]


def _images(root: Path, part: str) -> list[Path]:
    folder = root / "leftImg8bit" / part
    images = [path for path in files_below(folder) if path.name.endswith(_IMAGE_END)]
    if not images:
        raise DataError(f"{folder} holds no *{_IMAGE_END}: unpack leftImg8bit_trainvaltest.zip in {root}")
    return images


def _mask(root: Path, image: Path, end: str) -> Path:
    frame = image.name[: -len(_IMAGE_END)]
    return root / "gtFine" / image.relative_to(root / "leftImg8bit").parent / f"{frame}{end}"

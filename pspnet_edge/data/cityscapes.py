"""Cityscapes, fine annotations: 19 classes out of 34 label ids, splits as folders, one folder per city."""

from __future__ import annotations

import shlex
from pathlib import Path

from ..errors import DataError
from ..labels import CITYSCAPES, IGNORE
from .files import FileSet, files_below, parts_of

SPLITS = ("train", "val", "test")
_IMAGE_END = "_leftImg8bit.png"
_TRAIN_IDS_END, _LABEL_IDS_END = "_gtFine_labelTrainIds.png", "_gtFine_labelIds.png"
LEVEL_IDS_END = "_gtFine_labellevel3Ids.png"
"""Of IDD, which has this layout and other classes."""

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
        OptionError: an unknown split.
        DataError: a folder that is missing, unreadable or without images.
    """
    root = _official_folder(root)
    images = [path for part in parts_of(split, SPLITS, "Cityscapes") for path in _images(root, part)]
    train_ids = [_mask(root, image, _TRAIN_IDS_END) for image in images]
    converted = sum(path.is_file() for path in train_ids)
    if converted == len(images):
        note = f"masks are read from *{_TRAIN_IDS_END}, whose ids are classes"
        return FileSet(CITYSCAPES, tuple(zip(images, train_ids)), note=note)
    label_ids = [_mask(root, image, _LABEL_IDS_END) for image in images]
    note = f"masks are read from *{_LABEL_IDS_END}, whose 34 ids become the 19 classes"
    if converted:
        note += f"; only {converted} of {len(images)} images have *{_TRAIN_IDS_END}"
    # Without any labels the images still calibrate; labels of another kind are a mistake.
    labelled = (root / "gtFine").is_dir() or (root / "gtCoarse").is_dir()
    if labelled and not any(path.is_file() for path in label_ids):
        _ensure_not_idd(root)
        raise DataError(_no_labels(root, images[0]))
    return FileSet(CITYSCAPES, tuple(zip(images, label_ids)), id_table=CLASS_OF_LABEL_ID, note=note)


def _official_folder(root: Path) -> Path:
    """The folder with ``leftImg8bit`` and ``gtFine``, which may be one deeper than it should."""
    if (root / "leftImg8bit").is_dir() or not root.is_dir():
        return root
    inside = [entry for entry in root.iterdir() if (entry / "leftImg8bit").is_dir()]
    return inside[0] if len(inside) == 1 else root


def level_ids(root: Path) -> bool:
    """Whether a folder in Cityscapes' layout holds masks of IDD."""
    folder = root / "gtFine"
    return folder.is_dir() and any(path.name.endswith(LEVEL_IDS_END) for path in files_below(folder))


def _ensure_not_idd(root: Path) -> None:
    if level_ids(root):
        raise DataError(
            f"{root} holds IDD's masks, *{LEVEL_IDS_END}, whose classes are not Cityscapes'",
            f"list them in {root / 'classes.txt'}, one per line in id order, and convert it",
            f"pspnet-edge data import {shlex.quote(str(root))} -o my_data",
        )


def _no_labels(root: Path, image: Path) -> str:
    """The sentence for a split without label ids, with what is there instead."""
    folder = (root / "gtFine" / image.relative_to(root / "leftImg8bit")).parent
    frame = image.name[: -len(_IMAGE_END)]
    fix = f"unpack gtFine_trainvaltest.zip in {root}"
    if (root / "gtFine" / "gtFine").is_dir():
        fix = f"it is in {root / 'gtFine' / 'gtFine'}, one folder too deep: move it up"
    elif (root / "gtCoarse").is_dir() and not (root / "gtFine").is_dir():
        fix = f"{root} has only gtCoarse: {fix}"
    elif (folder / f"{frame}_gtFine_color.png").is_file():
        fix = f"there are only the colour pictures *_gtFine_color.png: {fix}"
    return f"no image of {image.parent} has its *{_LABEL_IDS_END} in {folder}: {fix}"


def splits_with_masks(root: Path) -> tuple[str, ...]:
    """The splits worth checking: those that are there of train, val, and test where its masks were unpacked."""
    root = _official_folder(root)
    return SPLITS if (root / "gtFine" / "test").is_dir() else SPLITS[:2]


def _images(root: Path, part: str) -> list[Path]:
    folder = root / "leftImg8bit" / part
    images = [path for path in files_below(folder) if path.name.endswith(_IMAGE_END)]
    if not images:
        _ensure_not_idd(root)
        raise DataError(f"{folder} holds no *{_IMAGE_END}", f"unpack leftImg8bit_trainvaltest.zip in {root}")
    return images


def _mask(root: Path, image: Path, end: str) -> Path:
    frame = image.name[: -len(_IMAGE_END)]
    return root / "gtFine" / image.relative_to(root / "leftImg8bit").parent / f"{frame}{end}"

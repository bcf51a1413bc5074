"""PASCAL VOC 2012 segmentation: 21 classes, palette masks, 255 on the objects' outlines.

With ``SegmentationClassAug`` beside the official masks (those of the Semantic Boundaries Dataset, as grey PNGs), the
training split is the usual augmented one of 10 582 images.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError
from ..labels import VOC
from .files import FileSet, files_below, parts_of, read_lines

SPLITS = ("train", "val")
_AUGMENTED_LISTS = ("train_aug.txt", "trainaug.txt")


def voc(root: Path, split: str) -> FileSet:
    """Open PASCAL VOC 2012.

    Args:
        root: the folder ``VOC2012``, or one that holds it as ``VOC2012`` or ``VOCdevkit/VOC2012``.
        split: ``train``, ``val`` or ``trainval``, which joins the two. The test split has no public masks.

    Raises:
        OptionError: an unknown split.
        DataError: not the official layout, or a list that is missing or empty.
    """
    parts = parts_of(split, SPLITS, "VOC")
    folder = _official_folder(root)
    pairs = [
        (folder / "JPEGImages" / f"{name}.jpg", folder / masks / f"{name}.png")
        for part in parts
        for masks, names in [_listed(folder, part)]
        for name in names
    ]
    return FileSet(VOC, tuple(pairs), palette=VOC.palette)


def _official_folder(root: Path) -> Path:
    for folder in (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"):
        if (folder / "ImageSets" / "Segmentation").is_dir():
            return folder
    raise DataError(
        f"{root} holds no VOC2012/ImageSets/Segmentation", "give --root the folder VOC2012 or the one with VOCdevkit"
    )


def _listed(folder: Path, part: str) -> tuple[str, list[str]]:
    """The folder of the masks of one stored split, and the names of its images."""
    lists, augmented = folder / "ImageSets" / "Segmentation", folder / "SegmentationClassAug"
    if part != "train" or not augmented.is_dir():
        return "SegmentationClass", read_lines(lists / f"{part}.txt")
    for listing in _AUGMENTED_LISTS:
        if (lists / listing).is_file():
            # Some lists hold ids, others `/JPEGImages/id.jpg /SegmentationClassAug/id.png`.
            return augmented.name, [Path(line.split()[0]).stem for line in read_lines(lists / listing)]
    # The 10 582 are the 12 031 masks without those of the validation split.
    held_out = set(read_lines(lists / "val.txt"))
    names = [path.stem for path in files_below(augmented) if path.suffix == ".png" and path.stem not in held_out]
    if not names:
        raise DataError(
            f"{augmented} holds no PNG masks for training", "restore it, or remove it to use the 1464 images"
        )
    return augmented.name, names

"""Remake the lists of calibration images that ship with the package, byte for byte.

    python calibration/make.py camvid --root CamVid
    python calibration/make.py cityscapes --lists LISTS      or  --root CITYSCAPES
    python calibration/make.py voc --lists LISTS             or  --root VOC2012

LISTS is a folder with the official ids, one a line, in ``cityscapes_train.txt`` and ``voc2012_train_aug.txt``, and with
``voc2012_image_classes.csv``: columns ``image`` and ``class_ids``, the classes 1–20 in each image. From a data root the
same is read off the files and masks; VOC's must have ``SegmentationClassAug``.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from samplers import balanced_by_area, balanced_by_presence, stratified

from pspnet_edge.artifact import write_bytes
from pspnet_edge.cli.output import progress
from pspnet_edge.data.calibration_list import image_id, list_text
from pspnet_edge.data.datasets import FileSet, open_files
from pspnet_edge.data.files import read_lines
from pspnet_edge.errors import DataError, OptionError, PspnetEdgeError

IMAGES = {"camvid": 128, "cityscapes": 500, "voc": 500}
VOC_TRAIN_AUG = 10582


def main() -> None:
    """Parse the command line and write one list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=IMAGES)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--lists", type=Path, metavar="DIR", help="the official ids")
    source.add_argument("--root", type=Path, metavar="DIR", help="the data set")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", default=Path(__file__).parent, help="default: here")
    options = parser.parse_args()
    try:
        text = {"camvid": camvid, "cityscapes": cityscapes, "voc": voc}[options.name](options.lists, options.root)
        write_bytes(options.output / f"{options.name}.txt", text.encode())
    except PspnetEdgeError as error:
        sys.exit(f"make.py: {error}")


def camvid(lists: Path | None, root: Path | None) -> str:
    """The list of CamVid."""
    if lists:
        raise OptionError("CamVid's images are balanced by what their masks hold: give --root, not --lists")
    dataset = open_files("camvid", root, "train")
    shares = {}
    for name, pixels in pixels_by_image(dataset).items():
        known = pixels[: len(dataset.label_set)]
        shares[name] = known / known.sum()
    comments = (
        f"{IMAGES['camvid']} of CamVid's {len(dataset)} training images, balanced by class.",
        "Greedy: each image taken adds the most to the sum over the 11 classes of log(area so far), starting from an",
        "average image; balanced_by_area of calibration/samplers.py. Poles, signs, fences, pedestrians and",
        "bicyclists get 1.4 to 2.1 times their usual share of the pixels.",
        "remake: python calibration/make.py camvid --root CamVid",
    )
    return list_text(balanced_by_area(shares, IMAGES["camvid"]), comments)


def cityscapes(lists: Path | None, root: Path | None) -> str:
    """The list of Cityscapes."""
    if lists:
        ids = read_lines(lists / "cityscapes_train.txt")
    else:
        dataset = open_files("cityscapes", root, "train")
        ids = [image_id(dataset.name(index)) for index in range(len(dataset))]
    comments = (
        f"{IMAGES['cityscapes']} of Cityscapes' {len(ids)} training images (fine annotations), stratified by city.",
        "Each of the 18 cities gives its proportion, evenly spaced over its ids in order;",
        "stratified of calibration/samplers.py.",
        "remake: python calibration/make.py cityscapes --lists LISTS, or --root CITYSCAPES",
    )
    return list_text(stratified({name: name.partition("_")[0] for name in ids}, IMAGES["cityscapes"]), comments)


def voc(lists: Path | None, root: Path | None) -> str:
    """The list of VOC."""
    classes = voc_classes_listed(lists) if lists else voc_classes_seen(root)
    comments = (
        f"{IMAGES['voc']} of the {len(classes)} images of PASCAL VOC 2012's train_aug, balanced by class.",
        "The 20 classes take turns: the one that is in the fewest images so far takes the next image that holds it, in",
        "the order of the ids' SHA-256, but none that would bring another class above 50 images;",
        "balanced_by_presence of calibration/samplers.py.",
        "remake: python calibration/make.py voc --lists LISTS, or --root VOC2012 (with SegmentationClassAug)",
    )
    return list_text(balanced_by_presence(classes, IMAGES["voc"]), comments)


def voc_classes_listed(lists: Path) -> dict[str, list[int]]:
    """Image id → the classes 1–20 in it, from the lists."""
    rows = csv.DictReader(read_lines(lists / "voc2012_image_classes.csv"))
    classes = {row["image"]: [int(text) for text in row["class_ids"].split()] for row in rows}
    return {name: classes[name] for name in read_lines(lists / "voc2012_train_aug.txt")}


def voc_classes_seen(root: Path | None) -> dict[str, list[int]]:
    """Image id → the classes 1–20 in it, from the masks."""
    dataset = open_files("voc", root, "train")
    if len(dataset) != VOC_TRAIN_AUG:
        raise DataError(
            f"{root} has {len(dataset)} training images and the augmented split has {VOC_TRAIN_AUG}: "
            "put SegmentationClassAug beside SegmentationClass, or give --lists"
        )
    return {name: (np.flatnonzero(pixels[1:21]) + 1).tolist() for name, pixels in pixels_by_image(dataset).items()}


def pixels_by_image(dataset: FileSet) -> dict[str, np.ndarray]:
    """Image id → ``int64 [256]``, how many pixels of its mask have each id."""
    found = {}
    with progress("masks", len(dataset)) as advance:
        for index in range(len(dataset)):
            found[image_id(dataset.name(index))] = np.bincount(dataset.mask(index).ravel(), minlength=256)
            advance(index + 1)
    return found


if __name__ == "__main__":
    main()

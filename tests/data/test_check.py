"""Ten ways to break a data set: each is one clear sentence when the set is used, and one defect when it is checked."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pspnet_edge.data.check import Findings, check_dataset
from pspnet_edge.data.datasets import iterate, open_dataset
from pspnet_edge.errors import DataError
from pspnet_edge.labels import voc_palette

from .conftest import HEIGHT, WIDTH, indexed_png, some_ids, write_grey, write_image


class Voc:
    """Where things stand in the folder VOC2012."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lists = folder / "ImageSets" / "Segmentation"
        self.val = self.lists / "val.txt"
        self.mask = folder / "SegmentationClass" / "v0.png"


def bad_palette(voc: Voc) -> None:
    voc.mask.write_bytes(indexed_png(some_ids(0, 21), voc_palette(256)[::-1]))


def coloured_mask(voc: Voc) -> None:
    write_image(voc.mask)


def truncated_png(voc: Voc) -> None:
    voc.mask.write_bytes(voc.mask.read_bytes()[:150])


def missing_split_file(voc: Voc) -> None:
    voc.val.unlink()


def id_out_of_range(voc: Voc) -> None:
    ids = some_ids(0, 21)
    ids[3, 3] = 21
    voc.mask.write_bytes(indexed_png(ids))


def size_mismatch(voc: Voc) -> None:
    voc.mask.write_bytes(indexed_png(some_ids(0, 21)[:-1]))


def empty_split(voc: Voc) -> None:
    voc.val.write_text("\n \n")


def unreadable_folder(voc: Voc) -> None:
    (voc.folder / "SegmentationClassAug").mkdir()  # the test makes the system refuse it


def duplicate_name(voc: Voc) -> None:
    voc.val.write_text("v0\nv1\nv0\n")


def mask_of_16_bits(voc: Voc) -> None:
    write_grey(voc.mask, np.full((HEIGHT, WIDTH), 300, np.uint16))


BROKEN: list[tuple[Callable[[Voc], None], str, str]] = [
    (bad_palette, "v0.png", "has another palette than its data set"),
    (coloured_mask, "v0.png", "which no class has"),
    (truncated_png, "v0.png", "is cut short after 150 bytes"),
    (missing_split_file, "val.txt", "cannot be read (No such file or directory)"),
    (id_out_of_range, "v0.png", "holds id 21, first at pixel x=3, y=3, and the label set has ids 0 to 20"),
    (size_mismatch, "v0.png", "is 17×11 and its image v0.jpg is 17×12"),
    (empty_split, "val.txt", "is empty"),
    (unreadable_folder, "SegmentationClassAug", "cannot be read (Permission denied)"),
    (duplicate_name, "v0.jpg", "is in split val more than once"),
    (mask_of_16_bits, "v0.png", "holds id 300, first at pixel x=0, y=0"),
]


@pytest.mark.parametrize(("broken", "file", "sentence"), BROKEN, ids=[case[0].__name__ for case in BROKEN])
def test_a_broken_data_set_is_one_sentence_in_use_and_one_defect_when_checked(
    broken: Callable[[Voc], None],
    file: str,
    sentence: str,
    voc_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    broken(Voc(voc_root / "VOCdevkit" / "VOC2012"))
    _refuse(monkeypatch, "SegmentationClassAug")

    with pytest.raises(DataError) as caught:
        _use(voc_root)
    findings = check_dataset("voc", voc_root)

    message = str(caught.value)
    assert file in message
    assert sentence in message
    assert ": " in message
    assert "\n" not in message
    assert [message] == list(dict.fromkeys(defect.problem for defect in findings.defects))
    assert capfd.readouterr().err == ""  # OpenCV prints no warnings of its own


def _use(voc_root: Path) -> None:
    for split in ("val", "train"):
        list(iterate(open_dataset("voc", voc_root, split)))


def _refuse(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    """Permissions as the tests' user meets them, whoever that is: root may read everything."""
    scandir = os.scandir

    def refusing(path: str) -> object:
        if Path(path).name == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)


def test_a_whole_data_set_has_counts_and_no_defects(voc_root: Path) -> None:
    findings = check_dataset("voc", voc_root)

    assert findings.defects == ()
    assert {split: count.images for split, count in findings.splits.items()} == {"train": 2, "val": 2}
    train = findings.splits["train"]
    labelled = np.concatenate([some_ids(0, 21).ravel(), some_ids(1, 21).ravel()])
    labelled = labelled[labelled != 255]
    assert train.class_frequencies()["person"] == pytest.approx((labelled == 15).mean())
    assert sum(train.class_frequencies().values()) == pytest.approx(1)
    assert train.ignored_fraction() == pytest.approx(1 / HEIGHT)


def test_every_defect_is_listed_and_the_rest_is_counted(folder_root: Path) -> None:
    masks, images = folder_root / "masks", folder_root / "images"
    (images / "train" / "a.jpg").write_bytes(b"not an image")
    write_grey(masks / "train" / "a.png", np.full((HEIGHT, WIDTH), 7, np.uint8))
    (masks / "train" / "b.png").unlink()
    (images / "val" / "a.jpg").unlink()
    write_image(images / "val" / "b.png")

    findings = check_dataset("folder", folder_root)

    assert _files(findings, folder_root) == {
        ("train", "images/train/a.jpg"),  # not an image
        ("train", "masks/train/a.png"),  # id 7, although its image is broken too
        ("train", "masks/train/b.png"),  # missing
        ("val", "masks/val/b.png"),  # of b.jpg and b.png
        ("", "masks/val/a.png"),  # without image
    }
    assert all(str(defect.file) in defect.problem for defect in findings.defects)
    assert findings.splits["val"].images == 2


def _files(findings: Findings, root: Path) -> set[tuple[str, str]]:
    return {(defect.split, defect.file.relative_to(root).as_posix()) for defect in findings.defects}


def test_an_image_in_two_splits_is_a_defect(folder_root: Path) -> None:
    (folder_root / "train.txt").write_text("train/a\ntrain/b\n")
    (folder_root / "val.txt").write_text("train/b\nval/a\n")
    findings = check_dataset("folder", folder_root)
    assert _files(findings, folder_root) == {("val", "images/train/b.jpg")}
    assert "is in split train and in split val" in findings.defects[0].problem


def test_what_breaks_every_split_is_said_once(folder_root: Path, tmp_path: Path) -> None:
    (folder_root / "classes.txt").write_text("road\nroad\n")
    assert len(check_dataset("folder", folder_root).defects) == 1
    assert len(check_dataset("cityscapes", tmp_path).defects) == 2  # two folders are missing
    assert len(check_dataset("voc", tmp_path).defects) == 1


def test_a_folder_that_the_system_refuses_is_one_sentence(folder_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _refuse(monkeypatch, "val")
    findings = check_dataset("folder", folder_root)
    assert len(findings.defects) == 1
    assert "images/val cannot be read (Permission denied)" in findings.defects[0].problem


def test_test_masks_of_cityscapes_are_checked_only_where_unpacked(cityscapes_root: Path) -> None:
    write_image(cityscapes_root / "leftImg8bit" / "test" / "bonn" / "bonn_000000_000019_leftImg8bit.png")
    assert list(check_dataset("cityscapes", cityscapes_root).splits) == ["train", "val"]
    (cityscapes_root / "gtFine" / "test").mkdir()
    findings = check_dataset("cityscapes", cityscapes_root)
    assert [defect.file.name for defect in findings.defects] == ["bonn_000000_000019_gtFine_labelIds.png"]


def test_a_data_set_that_is_not_on_disk_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to check"):
        check_dataset("scenes", tmp_path)
    with pytest.raises(DataError, match="choose one of"):
        check_dataset("coco", tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        check_dataset("voc", tmp_path / "nowhere")

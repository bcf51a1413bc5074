from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pspnet_edge.data.cityscapes import CLASS_OF_LABEL_ID
from pspnet_edge.data.datasets import NAMES, class_frequencies, open_dataset
from pspnet_edge.errors import DataError, OptionError
from pspnet_edge.labels import CITYSCAPES, IGNORE

from .conftest import some_ids, write_grey, write_image


def test_voc_masks_are_the_indices_of_their_palette(voc_root: Path) -> None:
    dataset = open_dataset("voc", voc_root, "train")

    image, mask = dataset[1]

    assert (len(dataset), dataset.name(1), image.shape) == (2, "t1.jpg", (12, 17, 3))
    np.testing.assert_array_equal(mask, some_ids(1, 21))


@pytest.mark.parametrize("below", [".", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_voc_is_found_from_any_of_its_folders(voc_root: Path, below: str) -> None:
    assert len(open_dataset("voc", voc_root / below, "trainval")) == 4


def _augment(voc_root: Path, names: tuple[str, ...]) -> Path:
    folder = voc_root / "VOCdevkit" / "VOC2012"
    for name in names:
        write_image(folder / "JPEGImages" / f"{name}.jpg")
        write_grey(folder / "SegmentationClassAug" / f"{name}.png", some_ids(5, 21))
    return folder / "ImageSets" / "Segmentation"


def test_augmented_voc_trains_on_every_mask_outside_val(voc_root: Path) -> None:
    _augment(voc_root, ("t0", "t1", "x0", "v0", "v1"))
    train, val = open_dataset("voc", voc_root, "train"), open_dataset("voc", voc_root, "val")

    assert [train.name(index) for index in range(len(train))] == ["t0.jpg", "t1.jpg", "x0.jpg"]
    np.testing.assert_array_equal(train[0][1], some_ids(5, 21))
    np.testing.assert_array_equal(val[0][1], some_ids(0, 21))


def test_augmented_voc_keeps_to_a_list_in_either_form(voc_root: Path) -> None:
    lists = _augment(voc_root, ("t0", "t1", "x0", "x1"))
    (lists / "train_aug.txt").write_text("t0\n/JPEGImages/x1.jpg /SegmentationClassAug/x1.png\n")
    train = open_dataset("voc", voc_root, "train")
    assert [train.name(index) for index in range(len(train))] == ["t0.jpg", "x1.jpg"]
    assert train[1][1].shape == (12, 17)


def test_cityscapes_label_ids_become_class_ids(cityscapes_root: Path) -> None:
    _, mask = open_dataset("cityscapes", cityscapes_root, "train")[0]
    label_ids = some_ids(3, 34)
    # Checked against the published table: label id and class id of its first, some middle and its last class.
    for label, class_name in ((7, "road"), (17, "pole"), (23, "sky"), (28, "bus"), (31, "train"), (33, "bicycle")):
        assert set(mask[label_ids == label]) <= {CITYSCAPES.classes.index(class_name)}
    for label in (*range(7), 9, 10, 14, 15, 16, 18, 29, 30, 255):
        assert set(mask[label_ids == label]) <= {IGNORE}
    assert sorted(set(CLASS_OF_LABEL_ID)) == [*range(19), IGNORE]


def test_cityscapes_train_ids_are_read_as_they_are(cityscapes_root: Path) -> None:
    for path in (cityscapes_root / "gtFine").rglob("*_labelIds.png"):
        write_grey(path.with_name(path.name.replace("labelIds", "labelTrainIds")), some_ids(4, 19))
    dataset = open_dataset("cityscapes", cityscapes_root, "trainval")
    assert len(dataset) == 4
    np.testing.assert_array_equal(dataset[3][1], some_ids(4, 19))


def test_cityscapes_label_ids_beyond_33_are_an_error(cityscapes_root: Path) -> None:
    path = min((cityscapes_root / "gtFine" / "val").rglob("*.png"))
    write_grey(path, np.full((12, 17), 34, np.uint8))
    with pytest.raises(DataError, match=r"holds id 34, first at pixel x=0, y=0, and the label set has ids 0 to 33"):
        open_dataset("cityscapes", cityscapes_root, "val")[0]


def test_folder_splits_come_from_subfolders(folder_root: Path) -> None:
    dataset = open_dataset("folder", folder_root, "val")
    assert dataset.label_set.classes == ("road", "traffic light", "sky")
    assert [dataset.name(index) for index in range(len(dataset))] == ["a.jpg", "b.jpg"]
    np.testing.assert_array_equal(dataset[0][1], some_ids(1, 3))
    assert len(open_dataset("folder", folder_root, "trainval")) == len(open_dataset("folder", folder_root, "all")) == 4


def test_folder_lists_go_before_subfolders(folder_root: Path) -> None:
    (folder_root / "train.txt").write_text("train/a\nval/b.jpg\n\n")
    dataset = open_dataset("folder", folder_root, "train")
    assert [dataset.name(index) for index in range(len(dataset))] == ["a.jpg", "b.jpg"]
    assert dataset[1][1].shape == (12, 17)


def test_folder_without_splits_has_only_all(folder_root: Path) -> None:
    for name in ("images", "masks"):
        (folder_root / name / "train").rename(folder_root / name / "one")
        (folder_root / name / "val").rename(folder_root / name / "two")
    assert len(open_dataset("folder", folder_root, "all")) == 4
    with pytest.raises(DataError, match=r"no split 'train' \(it has no lists\)"):
        open_dataset("folder", folder_root, "train")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.txt", "road, 1, 2, 3\nbus, 4,5,6\n\nsky,7,8,9\n"),
        ("classes.json", '{"classes": ["road", "bus", "sky"], "palette": [[1, 2, 3], [4, 5, 6], [7, 8, 9]]}'),
    ],
)
def test_folder_classes_may_have_colours(folder_root: Path, name: str, content: str) -> None:
    (folder_root / "classes.txt").unlink()
    (folder_root / name).write_text(content)
    label_set = open_dataset("folder", folder_root, "train").label_set
    assert label_set.classes == ("road", "bus", "sky")
    assert label_set.palette == ((1, 2, 3), (4, 5, 6), (7, 8, 9))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.txt", ""),
        ("classes.txt", "road\nroad\n"),
        ("classes.txt", "road\nsky, 1, 2, 3\n"),
        ("classes.txt", "road, 1, 2\n"),
        ("classes.txt", "road, 1, 2, 256\n"),
        ("classes.txt", "road, red, 2, 3\n"),
        ("classes.txt", f"road\n{'s' * 201}\n"),
        ("classes.json", "{"),
        ("classes.json", '{"names": []}'),
        ("classes.json", "[1, 2]"),
        ("classes.json", '{"classes": ["road"], "palette": 3}'),
    ],
)
def test_folder_with_a_damaged_classes_file_says_so(folder_root: Path, name: str, content: str) -> None:
    (folder_root / "classes.txt").unlink()
    (folder_root / name).write_text(content)
    with pytest.raises(DataError, match=rf"{name} is not a list of classes"):
        open_dataset("folder", folder_root, "train")


def test_folder_needs_exactly_one_classes_file(folder_root: Path) -> None:
    (folder_root / "classes.json").write_text('["road"]')
    with pytest.raises(DataError, match="both"):
        open_dataset("folder", folder_root, "train")
    (folder_root / "classes.json").unlink()
    (folder_root / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"no classes\.txt"):
        open_dataset("folder", folder_root, "train")


def test_folder_list_does_not_leave_the_folder(folder_root: Path) -> None:
    (folder_root / "train.txt").write_text("../masks/train/a.png\n")
    with pytest.raises(DataError, match="leaves the folder"):
        open_dataset("folder", folder_root, "train")


def test_an_image_that_a_list_names_and_that_is_missing_is_named(folder_root: Path) -> None:
    (folder_root / "train.txt").write_text("train/gone\n")
    with pytest.raises(DataError, match=r"images/train/gone cannot be read"):
        open_dataset("folder", folder_root, "train")[0]


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_split_is_one_sentence(name: str, voc_root: Path, cityscapes_root: Path, folder_root: Path) -> None:
    root = {"voc": voc_root, "cityscapes": cityscapes_root}.get(name, folder_root)
    with pytest.raises(OptionError, match="no split 'nonsense'"):
        open_dataset(name, root, "nonsense")


def test_a_name_or_root_that_is_wrong_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"choose one of camvid, voc, cityscapes, folder, scenes"):
        open_dataset("coco", tmp_path, "train")
    with pytest.raises(OptionError, match="--root"):
        open_dataset("voc", None, "train")
    with pytest.raises(DataError, match="there is no data set"):
        open_dataset("voc", tmp_path / "nowhere", "train")
    with pytest.raises(DataError, match="is empty"):
        open_dataset("voc", tmp_path, "train")
    (tmp_path / "JPEGImages").mkdir()
    with pytest.raises(DataError, match="ImageSets/Segmentation"):
        open_dataset("voc", tmp_path, "train")


def test_camvid_void_is_ignored(tmp_path: Path) -> None:
    ids = np.where(some_ids(0, 11) == 255, 11, some_ids(0, 11)).astype(np.uint8)
    for split in ("train", "val"):
        write_image(tmp_path / "CamVid" / split / "x.png")
        write_grey(tmp_path / "CamVid" / f"{split}annot" / "x.png", ids)
        listed = f"/SegNet/CamVid/{split}/x.png /SegNet/CamVid/{split}annot/x.png\n"
        (tmp_path / "CamVid" / f"{split}.txt").write_text(listed)

    for root in (tmp_path, tmp_path / "CamVid"):
        np.testing.assert_array_equal(open_dataset("camvid", root, "trainval")[1][1], some_ids(0, 11))


def test_camvid_list_with_one_column_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("val/x.png\n")
    with pytest.raises(DataError, match="has 1 columns"):
        open_dataset("camvid", tmp_path, "val")


def test_real_camvid_has_its_published_counts(camvid_root: Path) -> None:
    sizes = {split: len(open_dataset("camvid", camvid_root, split)) for split in ("train", "val", "test")}
    assert sizes == {"train": 367, "val": 101, "test": 233}
    image, mask = open_dataset("camvid", camvid_root, "val")[0]
    assert image.shape == (360, 480, 3)
    assert set(np.unique(mask)) <= {*range(11), IGNORE}


def test_class_frequencies_leave_ignore_out(folder_root: Path) -> None:
    ids = np.full((12, 17), IGNORE, np.uint8)
    ids[1, :4], ids[2, :12] = 0, 2
    for path in (folder_root / "masks" / "val").iterdir():
        assert cv2.imwrite(str(path), ids)
    np.testing.assert_allclose(class_frequencies(open_dataset("folder", folder_root, "val")), [0.25, 0, 0.75])

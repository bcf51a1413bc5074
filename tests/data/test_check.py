"""Ten ways to break a data set: each is one clear sentence when the set is used, and one defect when it is checked."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pspnet_edge.data.check import Findings, check_dataset, quick_check, write_page
from pspnet_edge.data.datasets import iterate, open_dataset
from pspnet_edge.errors import DataError, OptionError
from pspnet_edge.labels import voc_palette

from . import drawn, planted
from .conftest import HEIGHT, WIDTH, indexed_png, some_ids, write_grey, write_image


class Voc:
    """Where things are in the folder VOC2012."""

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
    (size_mismatch, "v0.png", "is 11×17 and its image v0.jpg is 12×17, off by a pixel or two"),
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
    assert capfd.readouterr().err == ""  # OpenCV prints no warnings itself


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

    assert _files(findings, folder_root) >= {
        ("train", "images/train/a.jpg"),  # not an image
        ("train", "masks/train/a.png"),  # id 7, although its image is broken too
        ("train", "masks/train/b.png"),  # missing
        ("val", "masks/val/b.png"),  # of b.jpg and b.png
        ("", "masks/val/a.png"),  # without image
    }
    assert all(
        {str(defect.file), str(defect.image)} & set(re.findall(r"/[^ :]+", defect.problem))
        for defect in findings.defects
    )
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
    assert [defect.split for defect in findings.defects] == ["test"]


def test_a_data_set_that_is_not_on_disk_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="nothing to check"):
        check_dataset("scenes", tmp_path)
    with pytest.raises(OptionError, match="choose one of"):
        check_dataset("coco", tmp_path)
    with pytest.raises(DataError, match="nowhere"):
        check_dataset("voc", tmp_path / "nowhere")


@pytest.mark.parametrize(("plant", "kind", "file"), planted.FAULTS, ids=[fault[0].__name__ for fault in planted.FAULTS])
def test_a_planted_fault_is_found_and_named_by_file(
    plant: Callable[[Path], None], kind: str, file: str, tmp_path: Path
) -> None:
    plant(planted.make_clean(tmp_path))
    named = [
        finding
        for finding in check_dataset("folder", tmp_path).found
        if finding.kind == kind and finding.file.relative_to(tmp_path).as_posix().startswith(file)
    ]
    assert named
    assert all(": " in finding.problem and "\n" not in finding.problem for finding in named)


@pytest.mark.parametrize("size_hw", [(96, 128), (128, 128), (360, 480)])
def test_a_clean_set_raises_no_alarm(size_hw: tuple[int, int], tmp_path: Path) -> None:
    assert check_dataset("folder", planted.make_clean(tmp_path, size_hw=size_hw)).found == ()


def test_a_drawn_street_raises_no_alarm(tmp_path: Path) -> None:
    scenes = open_dataset("scenes", None, "train")
    (tmp_path / "classes.txt").write_text("\n".join(scenes.label_set.classes) + "\n")
    for index in range(16):
        image, mask = scenes[index * 5]
        planted.write(tmp_path / "images" / f"{index}.png", image)
        planted.write(tmp_path / "masks" / f"{index}.png", mask)
    assert check_dataset("folder", tmp_path).defects == ()


@pytest.mark.slow
def test_camvid_raises_no_alarm(camvid_root: Path) -> None:
    assert check_dataset("camvid", camvid_root).found == ()


def test_all_masks_off_by_one_pixel_are_one_finding(tmp_path: Path) -> None:
    planted.make_clean(tmp_path)
    for path in (tmp_path / "masks").iterdir():
        planted.write(path, np.roll(planted.read(path), 1, 1))
    [finding] = check_dataset("folder", tmp_path).found
    assert finding.kind == "all-shifted"
    assert "1 px left" in finding.problem


def test_a_transposed_mask_of_a_square_image_is_found(tmp_path: Path) -> None:
    planted.make_clean(tmp_path, size_hw=(128, 128))
    path = tmp_path / "masks" / "006.png"
    planted.write(path, planted.read(path).T)
    [finding] = check_dataset("folder", tmp_path).found
    assert (finding.kind, finding.file) == ("turned", path)
    assert "transposed" in finding.problem


def test_missing_masks_are_one_line_that_says_what_is_there(tmp_path: Path) -> None:
    planted.make_clean(tmp_path)
    (tmp_path / "masks").rename(tmp_path / "polygons")
    problems = [finding.problem for finding in check_dataset("folder", tmp_path).found]
    assert len(problems) == 2  # one for each split
    assert "polygons" in problems[0]


def test_a_deep_set_is_no_defect_and_its_range_is_told(tmp_path: Path) -> None:
    planted.make_clean(tmp_path)
    for path in sorted((tmp_path / "images").iterdir()):
        grey = planted.read(path).mean(axis=2)
        path.unlink()
        planted.write(path.with_suffix(".png"), np.asarray(grey * 16, np.uint16))
    findings = check_dataset("folder", tmp_path)
    assert findings.found == ()
    assert "become 0 to 255" in findings.notes[0]


def test_the_fast_check_before_training_finds_a_binary_mask_of_0_and_255(tmp_path: Path) -> None:
    planted.FAULTS[0][0](planted.make_clean(tmp_path))
    train, val = (open_dataset("folder", tmp_path, split) for split in ("train", "val"))
    [finding] = quick_check(train, val)
    assert (finding.kind, finding.severity) == ("ignore-is-class", "defect")
    assert "--map 255=thing" in finding.problem


@pytest.mark.parametrize("split", ["train", "val"])
def test_masks_without_a_label_are_found(split: str, tmp_path: Path) -> None:
    planted.make_clean(tmp_path)
    dataset = open_dataset("folder", tmp_path, split)
    for index in range(len(dataset)):
        path = dataset.pairs[index][1]  # type: ignore[attr-defined]
        cv2.imwrite(str(path), np.full_like(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), 255))
    found = quick_check(open_dataset("folder", tmp_path, "train"), open_dataset("folder", tmp_path, "val"))
    assert (found[0].kind, found[0].split, found[0].severity) == ("nothing-labelled", split, "defect")
    assert "nothing-labelled" in [finding.kind for finding in check_dataset("folder", tmp_path).defects]
    if split == "train":
        pytest.importorskip("torch", reason="the train extra is not installed")
        from pspnet_edge import Recipe, train

        with pytest.raises(DataError, match="nothing to learn from"):
            train(root=tmp_path, recipe=Recipe(batch=1), output=tmp_path / "run", backbone_weights="none")


def test_the_fast_check_is_silent_on_a_clean_set(tmp_path: Path) -> None:
    planted.make_clean(tmp_path)
    assert quick_check(open_dataset("folder", tmp_path, "train"), open_dataset("folder", tmp_path, "val")) == ()


def test_the_page_shows_each_kind_with_a_picture_and_needs_no_other_file(tmp_path: Path) -> None:
    root = planted.make_clean(tmp_path / "set")
    (root / "images" / "005.jpg").write_bytes(b"")
    planted.write(root / "masks" / "006.png", planted.read(root / "masks" / "006.png")[:, ::-1])
    write_page(tmp_path / "check.html", "folder", root, check_dataset("folder", root), None)
    page = (tmp_path / "check.html").read_text()
    assert "Turned masks" in page
    assert "Images that cannot be read" in page
    assert page.count("data:image/jpeg;base64,") >= 2
    assert 'src="http' not in page


def test_a_picture_whose_edges_are_only_in_colour_is_no_wrong_image(tmp_path: Path) -> None:
    """Red on green of the same brightness has no edge in grey."""
    planted.make_clean(tmp_path)
    mask = planted.read(tmp_path / "masks" / "006.png")
    colours = np.asarray([(112, 201, 54), (161, 119, 184), (180, 120, 175)], np.float32)  # BGR, equally bright
    noisy = colours[mask] + np.random.default_rng(0).normal(0, 10, (*mask.shape, 3))
    planted.write(tmp_path / "images" / "006.jpg", np.clip(noisy, 0, 255).astype(np.uint8))
    assert check_dataset("folder", tmp_path).found == ()


def test_the_page_fits_a_phone_and_counts_in_english(tmp_path: Path) -> None:
    root = planted.make_clean(tmp_path / "set")
    (root / "images" / "005.jpg").write_bytes(b"")
    write_page(tmp_path / "check.html", "folder", root, check_dataset("folder", root), None)
    page = (tmp_path / "check.html").read_text()
    assert f"<h1>Check of {root}</h1>" in page
    assert "1 defect, 0 warnings." in page
    assert "<div class=wide><table>" in page, "a wide table scrolls by itself and not the page"


@pytest.mark.parametrize("shape", drawn.SHAPES)
def test_drawn_shapes_are_clean(shape: str, tmp_path: Path) -> None:
    """Poles, letters and outlines are thin, and are no traces of interpolation."""
    for seed in range(list(drawn.SHAPES).index(shape), 4 * len(drawn.SHAPES), len(drawn.SHAPES)):
        found = check_dataset("folder", drawn.draw_set(tmp_path / str(seed), shape, seed)).found
        # In four images not every class need occur.
        assert {finding.kind for finding in found} <= {"class-never-occurs", "small-objects"}, (seed, found)

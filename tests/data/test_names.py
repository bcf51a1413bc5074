"""Which mask belongs to which image, by the names that people and tools give them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pspnet_edge.camera.sources import ImageSource, Settings, open_sources
from pspnet_edge.data.check import check_dataset
from pspnet_edge.data.datasets import open_dataset
from pspnet_edge.data.images import ImageFiles
from pspnet_edge.data.importing import import_dataset
from pspnet_edge.data.recognize import recognized
from pspnet_edge.errors import DataError, SourceError

from .planted import scene, write

PAIRS = {
    "with the image's suffix": ("{}.jpg", "{}.jpg.png"),
    "two words": ("image_{}.jpg", "label_{}.png"),
    "words without separator": ("img{}.jpg", "mask{}.png"),
    "a word behind": ("{}.jpg", "{}_gt.png"),
    "cityscapes": ("{}_leftImg8bit.png", "{}_gtFine_labelIds.png"),
    "label ids": ("{}.jpg", "{}_labelIds.png"),
    "a dash": ("{}.jpg", "{}-seg.png"),
    "upper case": ("IMG_{}.JPG", "img_{}_GT.png"),
    "satellite": ("{}_sat.jpg", "{}_mask.png"),
    "a word in front": ("frame{}.jpg", "mask_frame{}.png"),
    "another word": ("frame_{}.png", "GT_{}.png"),
    "animation": ("{}.jpg", "{}_mask.gif"),
}


def make(
    root: Path, image: str, mask: str, images: str = "images", masks: str = "masks", more: tuple[str, ...] = ()
) -> Path:
    for index, number in enumerate(("1", "2", "10", *more)):
        picture, ids = scene(index)
        write(root / images / image.format(number), picture)
        path = root / masks / mask.format(number)
        if path.suffix == ".gif":
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(ids).save(path)  # OpenCV would dither
        else:
            write(path, ids)
    (root / "classes.txt").write_text("background\nthing\nsky\n")
    return root


@pytest.mark.parametrize(("image", "mask"), PAIRS.values(), ids=PAIRS)
def test_masks_are_found_by_name(image: str, mask: str, tmp_path: Path) -> None:
    make(tmp_path, image, mask)
    dataset = open_dataset("folder", tmp_path, "all")
    for index in range(3):
        number = int("".join(filter(str.isdigit, dataset.name(index).replace("8bit", ""))))
        np.testing.assert_array_equal(dataset.mask(index), scene((1, 2, 10).index(number))[1])
    assert check_dataset("folder", tmp_path).defects == ()


def test_numbers_with_and_without_zeros_are_equal(tmp_path: Path) -> None:
    make(tmp_path, "{}.jpg", "mask_000{}.png")
    dataset = open_dataset("folder", tmp_path, "all")
    assert [dataset[index][1].shape for index in range(3)] == [(96, 128)] * 3


def test_colours_beside_ids_do_not_make_names_ambiguous(tmp_path: Path) -> None:
    make(tmp_path, "{}_leftImg8bit.png", "{}_gtFine_labelIds.png")
    for number in ("1", "2", "10"):
        write(tmp_path / "masks" / f"{number}_gtFine_color.png", np.full((96, 128, 3), 7, np.uint8))
    dataset = open_dataset("folder", tmp_path, "all")
    assert [path.name for _, path in dataset.pairs] == [f"{n}_gtFine_labelIds.png" for n in ("10", "1", "2")]


def test_a_mask_that_fits_two_images_goes_to_neither(tmp_path: Path) -> None:
    make(tmp_path, "img_{}.jpg", "mask_{}.png")
    write(tmp_path / "images" / "1.jpg", scene(7)[0])
    found = check_dataset("folder", tmp_path).found
    assert [(finding.kind, finding.file.name) for finding in found] == [
        ("missing-mask", "1.png"), ("missing-mask", "img_1.png"), ("mask-without-image", "mask_1.png"),
    ]  # fmt: skip


def test_names_that_do_not_match_are_told_with_those_that_are_looked_for(tmp_path: Path) -> None:
    make(tmp_path, "a{}.jpg", "b{}.png")
    finding = next(finding for finding in check_dataset("folder", tmp_path).found if finding.kind == "missing-mask")
    assert "masks holds no a1.png, a1.jpg.png, a1_mask.png or the like" in finding.problem


@pytest.mark.parametrize(
    ("image", "mask"), [("{}.jpg", "{}.png"), ("{}_sat.jpg", "{}_mask.png"), ("{}.jpg", "gt-{}.png")]
)
def test_images_and_masks_side_by_side_are_imported(image: str, mask: str, tmp_path: Path) -> None:
    make(tmp_path / "in", image, mask, ".", ".")
    (tmp_path / "in" / "classes.txt").rename(tmp_path / "in" / "labels.txt")
    with pytest.raises(DataError, match=r"side by side.*--format pairs"):
        recognized(tmp_path / "in")
    done = import_dataset(tmp_path / "in", tmp_path / "own")
    assert (done.format, done.images, done.dropped) == ("pairs", 3, ())


def test_masks_of_import_find_images_of_another_word(tmp_path: Path) -> None:
    make(tmp_path / "in", "image_{}.jpg", "label_{}.png", "JPEGImages", "SegmentationClass")
    done = import_dataset(tmp_path / "in", tmp_path / "own", format="voc")
    assert (done.images, done.dropped) == (3, ())


def test_frames_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (1, 2, 10, 0):
        write(tmp_path / f"frame{number}.png", np.full((4, 5, 3), number, np.uint8))
    write(tmp_path / "other.png", np.zeros((4, 5, 3), np.uint8))
    names = [f"frame{number}.png" for number in (0, 1, 2, 10)]
    assert [path.name for path in ImageFiles(tmp_path).paths] == [*names, "other.png"]
    for pattern in ("frame%d.png", "frame%04d.png", "frame*.png"):
        (source,) = open_sources([], [str(tmp_path / pattern)], Settings())
        assert isinstance(source, ImageSource)
        assert [path.name for path in source.paths] == names
    with pytest.raises(SourceError, match=r"no image is at .*picture%d\.png"):
        open_sources([], [str(tmp_path / "picture%d.png")], Settings())


def test_a_folder_of_videos_is_named(tmp_path: Path) -> None:
    (tmp_path / "drive.mp4").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"holds videos \(drive\.mp4\) but no images: name one: .*drive\.mp4"):
        open_sources([], [str(tmp_path)], Settings())


def test_a_black_and_white_animation_is_read_by_its_colours(tmp_path: Path) -> None:
    """As the masks of Carvana are stored."""
    picture, ids = scene(0)
    write(tmp_path / "images" / "a.jpg", picture)
    (tmp_path / "masks").mkdir()
    image = Image.fromarray((ids == 1).astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.save(tmp_path / "masks" / "a_mask.gif")
    assert cv2.imread(str(tmp_path / "masks" / "a_mask.gif")) is not None
    (tmp_path / "classes.txt").write_text("background, 0, 0, 0\nthing, 255, 255, 255\n")
    np.testing.assert_array_equal(open_dataset("folder", tmp_path, "all").mask(0), ids == 1)
    (tmp_path / "classes.txt").write_text("background\nthing\n")
    assert [finding.kind for finding in check_dataset("folder", tmp_path).defects] == ["ignore-is-class"]


TREES = {
    "carvana": ("train/c{}.jpg", "train_masks/c{}_mask.png"),
    "kitti": ("training/image_2/{}_10.png", "training/semantic/{}_10.png"),
    "bdd100k": ("images/10k/train/a{}.jpg", "labels/sem_seg/masks/train/a{}.png"),
    "loveda": ("Train/Urban/images_png/{}.png", "Train/Urban/masks_png/{}.png"),
    "rellis": ("00000/pylon_camera_node/frame{}.jpg", "00000/pylon_camera_node_label_id/frame{}.png"),
    "pets": ("images/cat_{}.jpg", "annotations/trimaps/cat_{}.png"),
    "floodnet": ("train/train-org-img/{}.jpg", "train/train-label-img/{}_lab.png"),
    "isic": ("Training_Input/ISIC_{}.jpg", "Training_GroundTruth/ISIC_{}_segmentation.png"),
}


@pytest.mark.parametrize(("image", "mask"), TREES.values(), ids=TREES)
def test_public_sets_in_trees_of_their_own_are_converted(image: str, mask: str, tmp_path: Path) -> None:
    make(tmp_path / "in", image, mask, ".", ".", more=("11", "12", "13"))
    problems = " ".join(finding.problem for finding in check_dataset("folder", tmp_path / "in").defects)
    assert "--format pairs -o my_data" in problems

    done = import_dataset(tmp_path / "in", tmp_path / "own")

    assert (done.format, done.images, done.dropped) == ("pairs", 6, ())
    dataset = open_dataset("folder", tmp_path / "own", "all")
    for index in range(6):
        assert any(np.array_equal(dataset.mask(index), scene(number)[1]) for number in range(6))


@pytest.mark.parametrize("drawn", ["labels/sem_seg/colormaps/train/a{}.png", "labels/sem_seg/semantic_rgb/a{}.png"])
def test_copies_in_colours_in_a_folder_of_their_own_do_not_hide_the_masks(drawn: str, tmp_path: Path) -> None:
    image, mask = TREES["bdd100k"]
    make(tmp_path / "in", image, mask, ".", ".", more=("11", "12", "13"))
    for path in sorted((tmp_path / "in").rglob("sem_seg/masks/train/*.png")):
        target = tmp_path / "in" / drawn.format(path.stem[1:])
        target.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target), np.zeros((48, 64, 3), np.uint8))
    done = import_dataset(tmp_path / "in", tmp_path / "own")
    assert (done.format, done.images, done.dropped) == ("pairs", 6, ())


def test_masks_and_images_without_a_common_name_are_shown(tmp_path: Path) -> None:
    make(tmp_path / "in", "images/train/front_{}_a.jpg", "gt/train/{}_b.png", ".", ".")
    with pytest.raises(DataError, match=r"masks and 3 images, and none of one name, such as \d+_b.png"):
        import_dataset(tmp_path / "in", tmp_path / "own", format="pairs")


def test_masks_of_single_classes_are_named_as_such(tmp_path: Path) -> None:
    make(tmp_path, "a{}.jpg", "car/a{}.png", more=("11", "12", "13"))
    make(tmp_path, "a{}.jpg", "sky/a{}.png", more=("11", "12", "13"))
    finding = next(finding for finding in check_dataset("folder", tmp_path).found if finding.kind == "missing-mask")
    assert "holds folders (car, sky), and a mask holds all classes of its image" in finding.problem


def test_jpeg_masks_in_black_and_white_are_imported(tmp_path: Path) -> None:
    for index in range(3):
        picture, ids = scene(index)
        write(tmp_path / "in" / "images" / f"{index}.jpg", picture)
        write(tmp_path / "in" / "masks" / f"{index}.jpg", np.asarray(ids == 1, np.uint8) * 255)
    (tmp_path / "in" / "classes.txt").write_text("background\nthing\n")
    done = import_dataset(tmp_path / "in", tmp_path / "own", mapping="255=thing")
    dataset = open_dataset("folder", tmp_path / "own", "all")
    assert done.dropped == ()
    for index in range(3):
        np.testing.assert_array_equal(dataset.mask(index), scene(index)[1] == 1)


def test_images_of_one_name_are_listed_as_dropped(tmp_path: Path) -> None:
    make(tmp_path / "in", "{}.jpg", "{}.png")
    write(tmp_path / "in" / "images" / "1.png", scene(9)[0])
    done = import_dataset(tmp_path / "in", tmp_path / "own")
    assert [Path(entry.item).name for entry in done.dropped] == ["1.png"]


def test_remarks_in_a_list_and_labels_of_cvat_are_read(tmp_path: Path) -> None:
    make(tmp_path, "{}.jpg", "{}.png")
    (tmp_path / "train.txt").write_text("# of Monday\n1.jpg\n2.jpg\n")
    (tmp_path / "classes.txt").unlink()
    colours = {"background": "#000000", "thing": "#ff0010", "sky": "#00ff00"}
    labels = json.dumps([{"name": name, "color": colour} for name, colour in colours.items()])
    (tmp_path / "classes.json").write_text(labels)
    dataset = open_dataset("folder", tmp_path, "train")
    assert (len(dataset), dataset.label_set.classes) == (2, ("background", "thing", "sky"))
    assert dataset.label_set.palette[1] == (255, 0, 16)


def test_boxes_in_a_folder_of_annotations_are_named(tmp_path: Path) -> None:
    write(tmp_path / "JPEGImages" / "a.jpg", scene(0)[0])
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "a.xml").write_text("<annotation><object><bndbox></bndbox></object></annotation>")
    with pytest.raises(DataError, match="VOC file of boxes"):
        recognized(tmp_path)

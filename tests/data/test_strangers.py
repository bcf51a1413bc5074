"""What people bring beside the usual: each in the form in which public reports show it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pspnet_edge.data.check import check_dataset
from pspnet_edge.data.datasets import open_dataset
from pspnet_edge.data.importing import import_dataset
from pspnet_edge.data.mask_file import read_mask
from pspnet_edge.errors import DataError

HEIGHT, WIDTH = 48, 64
THING = (slice(10, 30), slice(8, 40))


def mask() -> np.ndarray:
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[THING] = 1
    return ids


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Three images with masks of 0 and 1, in lists."""
    root = tmp_path / "own"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    random = np.random.default_rng(0)
    for index in range(3):
        image = random.integers(0, 60, (HEIGHT, WIDTH, 3)).astype(np.uint8) + mask()[..., None] * np.uint8(120)
        assert cv2.imwrite(str(root / "images" / f"{index}.png"), image)
        assert cv2.imwrite(str(root / "masks" / f"{index}.png"), mask())
    (root / "classes.txt").write_text("background\nthing\n")
    (root / "train.txt").write_text("0\n1\n")
    (root / "val.txt").write_text("2\n")
    return root


@pytest.mark.parametrize(
    "text",
    [
        "id,name\n0,background\n1,thing\n",
        "name,r,g,b\nbackground,0,0,0\nthing,255,0,0\n",
        "background,\nthing,\n",
        '"background",0,0,0\n"thing",255,0,0\n',
        "background: [0, 0, 0]\nthing: [255, 0, 0]\n",
        "background #000000\nthing #ff0000\n",
        "background, thing\n",
        "1: thing\n0: background\n",
    ],
)
def test_a_list_of_classes_is_read_in_the_forms_of_other_tools(text: str, own: Path) -> None:
    (own / "classes.txt").write_text(text)
    if text.startswith("1"):
        with pytest.raises(DataError, match="numbers its classes 1, 0"):
            open_dataset("folder", own, "train")
        return
    label_set = open_dataset("folder", own, "train").label_set
    assert label_set.classes == ("background", "thing")
    if "255" in text or "#" in text:
        assert label_set.palette == ((0, 0, 0), (255, 0, 0))


@pytest.mark.parametrize(("ids", "text"), [((0, 50), "0 background\n50 thing\n"), ((1, 2), "1,background\n2,thing\n")])
def test_ids_with_gaps_are_renumbered_by_an_import(ids: tuple[int, int], text: str, own: Path, tmp_path: Path) -> None:
    for path in (own / "masks").iterdir():
        assert cv2.imwrite(str(path), np.array(ids, np.uint8)[mask()])
    (own / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=r"numbers its classes .*data import"):
        open_dataset("folder", own, "train")
    imported = import_dataset(own, tmp_path / "out")
    assert (imported.classes, imported.splits) == (("background", "thing"), {"train": 2, "val": 1})
    assert (open_dataset("folder", tmp_path / "out", "train").mask(0) == mask()).all()


def test_an_id_without_a_class_is_named_with_the_option_that_maps_it(own: Path, tmp_path: Path) -> None:
    for path in (own / "masks").iterdir():
        assert cv2.imwrite(str(path), mask() * 50)
    with pytest.raises(DataError, match=r"id 50 .*--map 50=NAME"):
        import_dataset(own, tmp_path / "out")


@pytest.mark.parametrize("name", ["labels.txt", "Classes.TXT"])
def test_a_list_of_classes_under_another_name_is_pointed_to(name: str, own: Path) -> None:
    (own / "classes.txt").rename(own / name)
    with pytest.raises(DataError, match=f"rename {name} to classes.txt"):
        open_dataset("folder", own, "train")


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("{}.csv", "image,mask\nimages/{0}.png,masks/{0}.png\n"),
        ("{}_list.txt", "images/{0}.png masks/{0}.png\n"),
        ("splits/{}.txt", "{0}\n"),
        ("ImageSets/Segmentation/{}.txt", "{0}\n"),
    ],
)
def test_lists_are_found_under_their_usual_names(place: str, text: str, own: Path) -> None:
    for split, index in (("train", 1), ("val", 2)):
        (own / f"{split}.txt").unlink()
        path = own / place.format(split)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(index))
    assert [path.stem for path, _ in open_dataset("folder", own, "train").pairs] == ["1"]  # type: ignore[attr-defined]


def as_array(path: Path) -> Path:
    np.save(path.with_suffix(".npy"), mask().astype(np.int64))
    return path.with_suffix(".npy")


def as_batch(path: Path) -> Path:
    np.save(path.with_suffix(".npy"), mask()[None].astype(np.float32))
    return path.with_suffix(".npy")


def as_bool(path: Path) -> Path:
    np.save(path.with_suffix(".npy"), mask() > 0)
    return path.with_suffix(".npy")


@pytest.mark.parametrize("make", [as_array, as_batch, as_bool])
def test_masks_may_be_arrays_of_numpy(make: Callable[[Path], Path], tmp_path: Path) -> None:
    assert (read_mask(make(tmp_path / "a"), 2) == mask()).all()


@pytest.mark.parametrize(
    "content", [np.zeros((4, 4, 3), np.uint8), np.array([{"a": 1}], object), np.zeros((2, 2), "U3")]
)
def test_arrays_that_hold_no_ids_are_one_sentence(content: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", content, allow_pickle=True)
    with pytest.raises(DataError, match=r"array of numbers|not ids"):
        read_mask(tmp_path / "a.npy", 2)


def test_a_mask_of_another_kind_of_file_is_named(own: Path) -> None:
    (own / "masks" / "1.png").rename(own / "masks" / "1.pgm")
    problems = [finding.problem for finding in check_dataset("folder", own).found]
    assert any("1.pgm is there; masks end in .png" in problem for problem in problems)


def test_jpeg_masks_are_warned_of_even_where_their_ids_survive(own: Path) -> None:
    for path in list((own / "masks").iterdir()):
        path.unlink()
        assert cv2.imwrite(str(path.with_suffix(".jpg")), mask())
    kinds = {(finding.kind, finding.severity) for finding in check_dataset("folder", own).found}
    assert ("jpeg-mask", "warning") in kinds


def test_lists_of_colour_masks_stay_splits(own: Path, tmp_path: Path) -> None:
    for path in (own / "masks").iterdir():
        assert cv2.imwrite(str(path), np.array([(0, 0, 0), (0, 0, 255)], np.uint8)[mask()])
    (own / "classes.txt").unlink()
    (own / "colors.txt").write_text("background 0 0 0\nthing 255 0 0\n")
    (own / "val.txt").write_text("images/2.png masks/2.png\n")
    assert import_dataset(own, tmp_path / "out").splits == {"train": 2, "val": 1}


BOX = [[8, 10, 40, 10, 40, 30, 8, 30]]


def coco(root: Path, name: str, annotations: list[dict], categories: list[dict], count: int = 2) -> None:
    images = [{"id": i, "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH} for i in range(count)]
    for index in range(count):
        (root / "train2017").mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(root / "train2017" / f"{index}.jpg"), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    (root / "annotations").mkdir(exist_ok=True)
    document = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / f"{name}.json").write_text(json.dumps(document))


def masks_below(root: Path) -> list[np.ndarray]:
    dataset = open_dataset("folder", root, "train")
    return [dataset.mask(index) for index in range(len(dataset))]


def shape_of(number: int, image: int, category: int, **more: object) -> dict:
    return {"id": number, "image_id": image, "category_id": category, "segmentation": BOX, "area": 640, **more}


def test_the_joints_of_coco_do_not_hide_its_objects(tmp_path: Path) -> None:
    root = tmp_path / "coco"
    coco(root, "instances_train2017", [shape_of(1, 0, 7)], [{"id": 1, "name": "person"}, {"id": 7, "name": "dog"}])
    person = {"id": 1, "name": "human", "keypoints": ["nose"]}
    coco(root, "person_keypoints_train2017", [shape_of(1, 1, 1, keypoints=[1, 1, 2])], [person])
    imported = import_dataset(root, tmp_path / "out")
    assert (imported.classes, imported.dropped) == (("background", "person", "dog"), ())
    first, second = masks_below(tmp_path / "out")
    assert ((first == 2) == (mask() > 0)).all()
    assert not second.any()


def test_files_that_label_the_same_images_add_up(tmp_path: Path) -> None:
    root = tmp_path / "coco"
    coco(root, "cars_train", [shape_of(1, 0, 1)], [{"id": 1, "name": "car"}])
    coco(root, "dogs_train", [shape_of(1, 1, 1)], [{"id": 1, "name": "dog"}])
    imported = import_dataset(root, tmp_path / "out")
    assert (imported.images, imported.classes, imported.dropped) == (2, ("background", "car", "dog"), ())
    first, second = masks_below(tmp_path / "out")
    assert (set(np.unique(first)), set(np.unique(second))) == ({0, 1}, {0, 2})


def test_panoptic_segments_are_classes_and_the_rest_has_no_label(tmp_path: Path) -> None:
    root = tmp_path / "coco"
    segments = [{"id": 300, "category_id": 9}, {"id": 5, "category_id": 2}]
    annotation = {"image_id": 0, "file_name": "0.png", "segments_info": segments}
    coco(root, "panoptic_train2017", [annotation], [{"id": 2, "name": "sky"}, {"id": 9, "name": "road"}])
    numbers = np.zeros((HEIGHT, WIDTH), np.int64)
    numbers[:10], numbers[THING] = 5, 300
    bgr = np.stack([numbers >> 16, (numbers >> 8) & 255, numbers & 255], -1).astype(np.uint8)
    (root / "annotations" / "panoptic_train2017").mkdir()
    assert cv2.imwrite(str(root / "annotations" / "panoptic_train2017" / "0.png"), bgr)
    assert import_dataset(root, tmp_path / "out").classes == ("sky", "road")
    first, second = masks_below(tmp_path / "out")
    expected = np.full((HEIGHT, WIDTH), 255)
    expected[:10], expected[THING] = 0, 1
    assert (first == expected).all()
    assert (second == 255).all()


def test_boxes_alone_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    root = tmp_path / "coco"
    box = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25}
    coco(root, "instances_train", [box], [{"id": 1, "name": "car"}])
    with pytest.raises(DataError, match=r"no object could be drawn.*a box and no segmentation"):
        import_dataset(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


CVAT_XML = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><labels>
<label><name>car</name><color>#c80032</color></label><label><name>road</name><color>#0a78f0</color></label>
</labels></task></meta>
<image id="0" name="a.png" subset="Train" width="64" height="48">
<mask label="car" source="manual" rle="1, 2, 3, 2" left="40" top="5" width="4" height="2" z_order="1"></mask>
<polygon label="road" occluded="0" points="8.00,10.00;40.00,10.00;40.00,30.00;8.00,30.00" z_order="0"></polygon>
<box label="car" occluded="0" xtl="10" ytl="12" xbr="20" ybr="16" z_order="2"></box>
<polyline label="road" points="1,1;5,5" z_order="0"></polyline><tag label="car"></tag>
</image></annotations>"""


def test_cvats_xml_of_images_is_read_with_its_masks(tmp_path: Path) -> None:
    root = tmp_path / "cvat"
    (root / "images" / "Train").mkdir(parents=True)
    assert cv2.imwrite(str(root / "images" / "Train" / "a.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    (root / "annotations.xml").write_text(CVAT_XML)
    imported = import_dataset(root, tmp_path / "out")
    assert (imported.format, imported.classes, imported.splits) == (
        "cvat-images",
        ("background", "car", "road"),
        {"train": 1},
    )
    assert [entry.reason for entry in imported.dropped] == ["a polyline is not an area"]
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[THING] = 2
    expected[12:16, 10:20] = 1
    expected[5, 41:43], expected[6, 42:44] = 1, 1
    assert (masks_below(tmp_path / "out")[0] == expected).all()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("<image ", "<track ", "XML of a video"),
        ("<annotations>", "<!DOCTYPE x [<!ENTITY a 'b'>]><annotations>", "declares entities"),
        ("</annotations>", "", "not valid XML"),
    ],
)
def test_cvats_other_xml_is_one_sentence(old: str, new: str, problem: str, tmp_path: Path) -> None:
    root = tmp_path / "cvat"
    root.mkdir()
    (root / "annotations.xml").write_text(CVAT_XML.replace(old, new).replace("</image>", f"</{new[1:6] or 'image'}>"
                                          if "track" in new else "</image>"))  # fmt: skip
    with pytest.raises(DataError, match=problem):
        import_dataset(root, tmp_path / "out", format="cvat-images")


def test_semantic_sets_of_ultralytics_keep_their_ids(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for split in ("train", "val"):
        for folder in ("images", "masks"):
            (root / folder / split).mkdir(parents=True)
        assert cv2.imwrite(str(root / "images" / split / f"{split}.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        assert cv2.imwrite(str(root / "masks" / split / f"{split}.png"), mask())
    (root / "data.yaml").write_text(
        "train: images/train\nval: images/val\nmasks_dir: masks\nnames:\n  0: road\n  1: car\n"
    )
    imported = import_dataset(root, tmp_path / "out")
    assert (imported.classes, imported.splits) == (("road", "car"), {"train": 1, "val": 1})
    assert (masks_below(tmp_path / "out")[0] == mask()).all()


@pytest.mark.parametrize("copies", [False, True])
def test_a_tiff_of_several_pages_is_refused_and_one_with_smaller_copies_is_read(copies: bool, tmp_path: Path) -> None:
    from pspnet_edge.data.exif import pages_of_tiff
    from pspnet_edge.data.image_file import read_image

    pages = [np.full((HEIGHT, WIDTH, 3), value, np.uint8) for value in (10, 20, 30)]
    path = tmp_path / "a.tif"
    assert cv2.imwritemulti(str(path), pages)
    if not copies:
        with pytest.raises(DataError, match="has 3 pages"):
            read_image(path)
        return
    content = bytearray(path.read_bytes())
    places, directory = [], int.from_bytes(content[4:8], "little")
    while directory:
        places.append(directory)
        count = int.from_bytes(content[directory : directory + 2], "little")
        directory = int.from_bytes(content[directory + 2 + 12 * count :][:4], "little")
    for place in places[1:]:  # the first tag becomes NewSubfileType: a reduced copy
        content[place + 2 : place + 14] = (254).to_bytes(2, "little") + b"\4\0\1\0\0\0\1\0\0\0"
    assert pages_of_tiff(bytes(content)) == 1

"""Class lists, layouts and mistakes of public data sets, in the forms in which they are published."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from pspnet_edge.cli.main import app
from pspnet_edge.data.check import check_dataset, quick_check
from pspnet_edge.data.class_list import read_class_list
from pspnet_edge.data.datasets import open_dataset
from pspnet_edge.data.importing import import_dataset
from pspnet_edge.data.recognize import recognized
from pspnet_edge.errors import DataError

RED, BLUE = (255, 0, 0), (0, 0, 255)
NUMBERED = '[{0: "void",\n  1: "dirt",\n  3: "grass"},\n {0: [0, 0, 0],\n  1: [255, 0, 0],\n  3: [0, 0, 255]}]\n'
VISTAS = [{"name": "a--dirt", "readable": "dirt", "color": [255, 0, 0], "evaluate": True},
          {"name": "a--grass", "readable": "grass", "color": [0, 0, 255], "evaluate": True}]  # fmt: skip
LISTS = {
    "id2label.json": json.dumps({"0": "dirt", "1": "grass"}),
    "config.json": json.dumps({"architectures": ["SegformerFor"], "id2label": {"1": "grass", "0": "dirt"}}),
    "config_v1.2.json": json.dumps({"labels": VISTAS, "version": "1.2"}),
    "config_v2.0.json": json.dumps({"labels": VISTAS, "mapping": "public", "version": "2.0"}),
    "class_list.json": json.dumps({"#ff0000": "dirt", "#0000ff": "grass"}),
    "RUGD_annotation-colormap.txt": "0 dirt 255 0 0\n1 grass 0 0 255\n",
    "ontology.yaml": NUMBERED.replace('0: "void",', "")
    .replace("0: [0, 0, 0],", "")
    .replace("1:", "0:")
    .replace("3:", "1:"),
}


def ids() -> np.ndarray:
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 8:40] = 1
    return mask


def coloured(mask: np.ndarray) -> np.ndarray:
    return np.array([RED, BLUE], np.uint8)[mask][..., ::-1]


def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    for index in range(3):
        write(tmp_path / "own" / "images" / f"{index}.png", photo())
        write(tmp_path / "own" / "masks" / f"{index}.png", ids())
    return tmp_path / "own"


@pytest.mark.parametrize("name", LISTS)
def test_a_published_list_is_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(LISTS[name])
    classes = read_class_list(tmp_path / name)
    assert (classes.names, classes.numbers) == (("dirt", "grass"), None)
    assert classes.colours == (None if LISTS[name].find("id2label") >= 0 or name == "id2label.json" else (RED, BLUE))


@pytest.mark.parametrize("name", sorted(LISTS.keys() - {"config.json"}))
def test_a_published_list_beside_the_data_is_used(name: str, own: Path, tmp_path: Path) -> None:
    (own / name).write_text(LISTS[name])
    assert open_dataset(recognized(own), own, "all").label_set.classes == ("dirt", "grass")
    imported = import_dataset(own, tmp_path / "out")
    assert (imported.classes, imported.class_list) == (("dirt", "grass"), str(own / name))


@pytest.mark.parametrize("given", [False, True])
def test_a_split_is_not_taken_for_the_class_list(given: bool, own: Path, tmp_path: Path) -> None:
    listing = (tmp_path if given else own) / "id2label.json"
    listing.write_text(LISTS[listing.name])
    imported = import_dataset(own, tmp_path / "out", classes=listing if given else None, val=0.3)
    assert imported.splits == {"train": 2, "val": 1}
    assert imported.class_list == (None if given else str(listing))


def test_two_published_lists_are_not_guessed_between(own: Path, tmp_path: Path) -> None:
    for name in ("config_v1.2.json", "config_v2.0.json"):
        (own / name).write_text(LISTS[name])
    with pytest.raises(DataError, match=r"config_v1.2.json, config_v2.0.json.*--classes"):
        open_dataset("folder", own, "all")
    imported = import_dataset(own, tmp_path / "out", classes=own / "config_v2.0.json")
    assert (imported.classes, imported.class_list) == (("dirt", "grass"), None)


@pytest.mark.parametrize("in_colours", [False, True])
def test_an_ontology_with_gaps_is_renumbered(in_colours: bool, own: Path, tmp_path: Path) -> None:
    for path in (own / "masks").iterdir():
        write(path, coloured(ids()) if in_colours else np.array([1, 3], np.uint8)[ids()])
    (own / "ontology.yaml").write_text(NUMBERED)
    assert import_dataset(own, tmp_path / "beside").classes == ("dirt", "grass")
    listing = (own / "ontology.yaml").rename(tmp_path / "ontology.yaml")
    assert import_dataset(own, tmp_path / "given", classes=listing).classes == ("dirt", "grass")
    for out in ("beside", "given"):
        opened = open_dataset("folder", tmp_path / out, "all")
        assert (opened.mask(0) == ids()).all()
        assert opened.label_set.palette == (RED, BLUE)
    with pytest.raises(DataError, match="numbers its classes 0, 1, 3"):
        import_dataset(own, tmp_path / "not", format="labelme", classes=listing)


def test_rugd_is_read_with_the_list_among_its_masks(tmp_path: Path) -> None:
    root = tmp_path / "RUGD"
    for index in range(2):
        write(root / "RUGD_frames-with-annotations" / "creek" / f"creek_{index}.png", photo())
        write(root / "RUGD_annotations" / "creek" / f"creek_{index}.png", coloured(ids()))
    (root / "RUGD_annotations" / "RUGD_annotation-colormap.txt").write_text(LISTS["RUGD_annotation-colormap.txt"])
    imported = import_dataset(root, tmp_path / "out")
    assert (imported.format, imported.images, imported.classes) == ("pairs", 2, ("dirt", "grass"))


@pytest.mark.parametrize("layout", ["pairs", "voc"])
def test_colours_of_a_list_beside_colour_masks_are_used_and_said(layout: str, tmp_path: Path) -> None:
    images, masks = {"pairs": ("2_Ortho_RGB/x_{}_RGB.tif", "5_Labels_all/x_{}_label.tif"),
                     "voc": ("JPEGImages/{}.jpg", "SegmentationClass/{}.png")}[layout]  # fmt: skip
    for index in range(2):
        write(tmp_path / "set" / images.format(index), photo())
        write(tmp_path / "set" / masks.format(index), coloured(ids()))
    (tmp_path / "set" / "classes.txt").write_text("dirt, 255, 0, 0\ngrass, 0, 0, 255\n")
    done = CliRunner().invoke(app, ["data", "import", str(tmp_path / "set"), "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert f"read from {tmp_path / 'set' / 'classes.txt'}" in done.output.replace("\n", "")
    assert (open_dataset("folder", tmp_path / "out", "all").mask(0) == ids()).all()


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_idd_is_read_with_a_list_and_says_what_it_needs_without(suffix: str, tmp_path: Path) -> None:
    root = tmp_path / "IDD"
    for drive in ("0", "1"):
        write(root / "leftImg8bit" / "train" / drive / f"frame7_leftImg8bit.{suffix}", photo())
        write(root / "gtFine" / "train" / drive / "frame7_gtFine_labellevel3Ids.png", ids())
        (root / "gtFine" / "train" / drive / "frame7_gtFine_polygons.json").write_text('{"objects": []}')
    for use in (lambda: open_dataset("cityscapes", root, "train"), lambda: import_dataset(root, tmp_path / "no")):
        with pytest.raises(DataError, match=r"IDD's masks.*classes\.txt.*data import"):
            use()
    (tmp_path / "list.txt").write_text("road\ncar\n")
    given = import_dataset(root, tmp_path / "given", classes=tmp_path / "list.txt")
    (tmp_path / "list.txt").rename(root / "classes.txt")
    beside = import_dataset(root, tmp_path / "beside")
    for imported in (given, beside):
        assert (imported.format, imported.images, imported.splits) == ("cityscapes", 2, {"train": 2})
        assert (open_dataset("folder", imported.root, "train").mask(1) == ids()).all()


@pytest.mark.parametrize("part", ["images", "masks", "images/train"])
def test_a_part_of_a_data_set_points_to_the_folder_above(part: str, own: Path) -> None:
    (own / "images" / "train").mkdir()
    write(own / "images" / "train" / "9.png", photo())
    with pytest.raises(DataError, match=f"is a part of the data set {own}: give that folder"):
        recognized(own / part)


@pytest.mark.parametrize("grey", [False, True])
def test_swapped_folders_are_one_sentence(grey: bool, own: Path) -> None:
    (own / "classes.txt").write_text("dirt, 255, 0, 0\ngrass, 0, 0, 255\n")
    assert not [finding for finding in check_dataset("folder", own).found if "swapped" in finding.problem]
    for path in (own / "images").iterdir():
        write(path, photo()[..., 0] if grey else photo())
    (own / "images").rename(own / "x")
    (own / "masks").rename(own / "images")
    (own / "x").rename(own / "masks")
    defects = check_dataset("folder", own).defects
    assert [finding.problem for finding in defects if finding.kind in ("layout", "bad-mask")] == [
        f"{own / 'images' / '0.png'} is a label map and {own / 'masks' / '0.png'} a photograph: the two folders are "
        "swapped, so exchange their names"
    ]
    assert ["swapped" in finding.problem for finding in quick_check(open_dataset("folder", own, "all"))] == [True]

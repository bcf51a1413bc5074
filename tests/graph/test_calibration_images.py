"""Which images a model is calibrated on, and which table a new one replaces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import pspnet_edge
from pspnet_edge.engine.model import Model, prepare_model, table_beside
from pspnet_edge.errors import DataError, OptionError
from pspnet_edge.graph.calibration_images import calibration_images
from pspnet_edge.graph.calibration_table import LEARNED, read_table, write_table
from pspnet_edge.graph.onnx_file import ModelFile, model_file, write_model
from pspnet_edge.labels import CAMVID, LabelSet, bright_palette

from ..small_model import small_model


def of_classes(*names: str) -> ModelFile:
    return model_file(small_model().proto, "small", LabelSet("own", names, bright_palette(names)), {})


def images_in(folder: Path, count: int = 3, suffix: str = ".png") -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        cv2.imwrite(str(folder / f"{index}{suffix}"), rng.integers(0, 255, (32, 48, 3), np.uint8))
    return folder


def labelled(root: Path, *classes: str) -> Path:
    images_in(root / "images", 10)
    (root / "masks").mkdir()
    for index in range(10):
        cv2.imwrite(str(root / "masks" / f"{index}.png"), np.zeros((32, 48), np.uint8))
    (root / "classes.txt").write_text("\n".join(classes))
    (root / "train.txt").write_text("".join(f"{index}\n" for index in range(8)))
    return root


def test_streets_are_refused_for_other_classes() -> None:
    with pytest.raises(
        OptionError, match=r"the classes of scenes .* are not the model's \(weed, crop\).*give --root DIR"
    ):
        calibration_images(of_classes("weed", "crop"), "scenes", None, "train")
    images, named, kind = calibration_images(small_model(), "scenes", None, "train")
    assert (len(images), named, kind) == (2000, "scenes train", "scenes")
    numbered = of_classes(*(f"class {index}" for index in range(11)))
    assert calibration_images(numbered, "scenes", None, "train")[1] == "scenes train"


def test_other_classes_of_a_folder_are_said(tmp_path: Path) -> None:
    root, said = labelled(tmp_path / "field", "weed", "crop"), []
    images, named, _ = calibration_images(of_classes("crop", "weed"), None, root, "train", said.append)
    assert (len(images), named) == (8, "folder train in field")
    assert not any("not the model's" in words for words in said)
    calibration_images(small_model(), None, root, "train", said.append)
    assert "(weed, crop) are not the model's" in said[-1]


@pytest.mark.parametrize("dataset", [None, "folder"])
def test_images_without_labels_are_enough(tmp_path: Path, dataset: str | None) -> None:
    photos = images_in(tmp_path / "photos", suffix=".jpg")
    images, named, kind = calibration_images(small_model(), dataset, photos, "train")
    assert (len(images), named, kind) == (3, "images in photos", None)
    images_in(tmp_path / "unl" / "images")
    (tmp_path / "unl" / "classes.txt").write_text("weed\ncrop\n")
    assert len(calibration_images(small_model(), dataset, tmp_path / "unl", "train")[0]) == 3


def test_masks_are_never_taken_for_images(tmp_path: Path) -> None:
    beside = images_in(tmp_path / "beside", suffix=".jpg")
    for index in range(3):
        cv2.imwrite(str(beside / f"{index}.png"), np.zeros((32, 48), np.uint8))
    with pytest.raises(DataError, match="images and masks side by side"):
        calibration_images(small_model(), None, beside, "train")
    root = labelled(tmp_path / "field", "weed", "crop")
    with pytest.raises(DataError, match="is a part of the data set"):
        calibration_images(small_model(), None, root / "masks", "train")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_model(tmp_path / "m.onnx", small_model())
    return tmp_path / "m.onnx"


def test_a_table_is_beside_its_model_where_builds_look(model: Path, tmp_path: Path) -> None:
    made = pspnet_edge.calibrate(model, root=images_in(tmp_path / "photos"))
    assert made.calibration == tmp_path / "m.calib.json" == prepare_model(model).table_path
    checkpoint = tmp_path / "runs" / "mine" / "best.pt"
    exported = Model("mine", tmp_path / "cache.onnx", None, checkpoint)
    assert exported.table_place == checkpoint.with_name("best.calib.json")
    checkpoint.parent.mkdir(parents=True)
    exported.table_place.write_text("{}")
    assert table_beside(checkpoint) == exported.table_place


def test_a_table_is_made_again_from_the_same_images(model: Path, tmp_path: Path) -> None:
    photos = images_in(tmp_path / "photos")
    first = pspnet_edge.calibrate(model, root=photos)
    again = pspnet_edge.calibrate(model, root=photos, method="minmax", images=2)
    assert (first.calibration, again.method) == (again.calibration, "minmax")
    root = labelled(tmp_path / "field", *CAMVID.classes)
    table = pspnet_edge.calibrate(model, tmp_path / "f.json", root=root).calibration
    write_table(table, replace(read_table(table), dataset="folder train"))  # as 0.1 did
    assert pspnet_edge.calibrate(model, table, root=root).images == 8


def test_a_decision_is_not_replaced_unasked(model: Path, tmp_path: Path) -> None:
    photos = images_in(tmp_path / "photos")
    place = pspnet_edge.calibrate(model, root=photos).calibration
    made = read_table(place)
    for table, words in (
        (replace(made, kept_float=("conv_0",)), "holds which layers stay unquantized"),
        (replace(made, dataset="folder train in field"), r"made from other images \(folder train in field\)"),
        (replace(made, dataset="training", method=LEARNED), "holds the ranges that training learned"),
    ):
        write_table(place, table)
        before = place.read_bytes()
        with pytest.raises(OptionError, match=words):
            pspnet_edge.calibrate(model, root=photos)
        assert place.read_bytes() == before
        assert pspnet_edge.calibrate(model, root=photos, overwrite=True).calibration == place
        assert read_table(place) == made


def test_a_table_of_former_weights_is_replaced(model: Path, tmp_path: Path) -> None:
    photos = images_in(tmp_path / "photos")
    place = pspnet_edge.calibrate(model, root=photos).calibration
    write_table(place, replace(read_table(place), kept_float=("conv_0",)))
    write_model(model, small_model(seed=1))
    assert pspnet_edge.calibrate(model, root=photos).calibration == place
    assert read_table(place).kept_float == ()

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pspnet_edge.data.datasets import open_dataset
from pspnet_edge.errors import DataError, OptionError
from pspnet_edge.pixels import PixelFormat
from pspnet_edge.train.opening import open_training_data, shape_note


def draw(root: Path, names: list[str], depth: type = np.uint8) -> Path:
    for name in names:
        for folder, content in (("images", np.full((8, 8), 200, depth)), ("masks", np.zeros((8, 8), np.uint8))):
            path = root / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), content)
    (root / "classes.txt").write_text("background\nthing\n")
    return root


def names_of(dataset) -> set[str]:
    return {dataset.name(index) for index in range(len(dataset))}


def test_a_folder_without_splits_is_divided_the_same_way_every_time(tmp_path: Path) -> None:
    root = draw(tmp_path, [f"cat{chr(97 + index)}" for index in range(10)])
    first, again = (open_training_data(None, root, "train") for _ in range(2))
    assert first.name == "folder"
    assert (len(first.training_set), len(first.validation_set)) == (8, 2)
    assert not names_of(first.training_set) & names_of(first.validation_set)
    assert names_of(first.validation_set) == names_of(again.validation_set)
    assert any("8 images for training and 2 for validation" in note and "data split" in note for note in first.notes)


def test_pictures_of_one_sequence_stay_together(tmp_path: Path) -> None:
    root = draw(tmp_path, [f"{street}_{frame}" for street in "abcde" for frame in range(4)])
    data = open_training_data("folder", root, "train")
    streets = [{name[0] for name in names_of(part)} for part in (data.training_set, data.validation_set)]
    assert not streets[0] & streets[1]


def test_only_a_missing_validation_list_is_made_up_for(tmp_path: Path) -> None:
    root = draw(tmp_path, [f"img{chr(97 + index)}" for index in range(10)])
    (root / "train.txt").write_text("".join(f"img{chr(97 + index)}\n" for index in range(5)))
    data = open_training_data("folder", root, "train")
    assert names_of(data.training_set) | names_of(data.validation_set) == {f"img{letter}.png" for letter in "abcde"}
    (root / "val.txt").write_text("imgj\n")
    data = open_training_data("folder", root, "train")
    assert (len(data.training_set), names_of(data.validation_set)) == (5, {"imgj.png"})
    assert data.notes == ()


@pytest.mark.parametrize("split", ["all", "trainval", "val"])
def test_some_splits_leave_nothing_to_validate_on(tmp_path: Path, split: str) -> None:
    root = draw(tmp_path, ["a", "b"])
    (root / "train.txt").write_text("a\n")
    (root / "val.txt").write_text("b\n")
    data = open_training_data("folder", root, split)
    assert data.validation_set is None
    assert len(data.training_set) == (1 if split == "val" else 2)
    said = "with --split val the images for validation are trained on: nothing is validated"
    assert data.notes == ((said,) if split == "val" else ())


def test_validation_images_are_scaled_as_the_training_images_are(tmp_path: Path) -> None:
    root = draw(tmp_path, ["a", "b"], np.uint16)
    (root / "train.txt").write_text("a\n")
    (root / "val.txt").write_text("b\n")
    data = open_training_data("folder", root, "train", PixelFormat(1))
    assert data.training_set.pixels.pixel_range is not None
    assert data.validation_set.pixels == data.training_set.pixels
    assert data.training_set.image(0).shape == (8, 8, 1)


def test_what_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no training data: give --root DIR"):
        open_training_data(None, None, "train")
    with pytest.raises(DataError, match="has 1 image: add images"):
        open_training_data("folder", draw(tmp_path, ["a"]), "train")


@pytest.mark.parametrize(
    ("image_hw", "size_hw", "says"),
    [
        ((400, 640), (384, 480), "--size 352x576"),
        ((720, 1280), (384, 480), "--size 320x576"),
        ((640, 400), (384, 480), "--size 544x352"),
        ((360, 480), (384, 480), ""),
        ((400, 640), (352, 576), ""),
    ],
)
def test_a_size_that_stretches_the_images_is_said(
    image_hw: tuple[int, int], size_hw: tuple[int, int], says: str, tmp_path: Path
) -> None:
    root = draw(tmp_path, ["a", "b"])
    cv2.imwrite(str(root / "images" / "a.png"), np.zeros((*image_hw, 3), np.uint8))
    notes = shape_note(open_dataset("folder", root, "all"), size_hw)
    assert says in notes[0] if says else notes == ()


def test_images_of_many_shapes_are_judged_by_most_of_them(tmp_path: Path) -> None:
    root = draw(tmp_path, ["a", "b", "c", "d"])

    def note(*sizes: tuple[int, int]) -> tuple[str, ...]:
        for name, size_hw in zip("abcd", sizes):
            cv2.imwrite(str(root / "images" / f"{name}.png"), np.zeros((*size_hw, 3), np.uint8))
        return shape_note(open_dataset("folder", root, "all"), (384, 480))

    assert note((405, 720), (480, 640), (600, 800), (390, 480)) == ()
    (said,) = note((480, 640), (405, 720), (405, 720), (360, 640))
    assert said.startswith("most of the images have another shape, such as 405x720; ")
    assert "--size 320x576" in said

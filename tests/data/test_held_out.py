from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from pspnet_edge.data.datasets import Dataset, open_dataset
from pspnet_edge.data.held_out import (
    HELD_OUT,
    about_images,
    held_out_of,
    hold_out,
    images_of_split,
    trained_on_split,
    unseen_images,
)
from pspnet_edge.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten images without lists."""
    for folder, value in (("images", 200), ("masks", 0)):
        (tmp_path / "own" / folder).mkdir(parents=True)
        for letter in "abcdefghij":
            cv2.imwrite(str(tmp_path / "own" / folder / f"{letter}.png"), np.full((8, 8), value, np.uint8))
    (tmp_path / "own/classes.txt").write_text("background\nthing\n")
    return tmp_path / "own"


def names_of(images: Dataset) -> set[str]:
    return {images.name(index) for index in range(len(images))}


def test_a_network_is_measured_on_what_its_training_held_out(root: Path, tmp_path: Path) -> None:
    found = hold_out(open_dataset("folder", root, "all"))
    assert (len(found), len(found.training)) == (2, 8)
    assert not names_of(found) & names_of(found.training)
    copied = shutil.copytree(root, tmp_path / "on another machine")
    for place in (root, copied):
        images, split = unseen_images("folder", place, "test", {"held_out": found.key})
        assert (names_of(images), split) == (names_of(found), "held out")


def test_every_image_is_measured_where_training_is_not_known_to_have_seen_them(root: Path) -> None:
    key = hold_out(open_dataset("folder", root, "all")).key
    for facts in ({}, {"held_out": None}, {"held_out": "of other images"}):
        assert unseen_images("folder", root, "test", facts)[1] == "all"
    (root / "images/k.png").write_bytes((root / "images/a.png").read_bytes())
    (root / "masks/k.png").write_bytes((root / "masks/a.png").read_bytes())
    assert unseen_images("folder", root, "test", {"held_out": key})[1] == "all", "images came that moved the choice"


def test_lists_come_before_what_was_held_out(root: Path) -> None:
    key = hold_out(open_dataset("folder", root, "all")).key
    (root / "val.txt").write_text("a\n")
    images, split = unseen_images("folder", root, "test", {"held_out": key})
    assert (names_of(images), split) == ({"a.png"}, "val")


def test_calibration_sees_only_what_training_saw(root: Path) -> None:
    found = hold_out(open_dataset("folder", root, "all"))
    assert names_of(images_of_split("folder", root, "train", {"held_out": found.key})) == names_of(found.training)
    with pytest.raises(DataError, match="has no split 'train'"):
        images_of_split("folder", root, "train", {"held_out": "of other images"})
    assert len(images_of_split("folder", root, "all", {"held_out": found.key})) == 10


def test_what_is_held_out_of_a_list_of_training_images_is_measured(root: Path) -> None:
    (root / "train.txt").write_text("".join(f"{letter}\n" for letter in "abcdefgh"))
    found = hold_out(open_dataset("folder", root, "train"))
    images, split = unseen_images("folder", root, "test", {"held_out": found.key})
    assert (names_of(images), split) == (names_of(found), "held out")
    assert names_of(images_of_split("folder", root, "train", {"held_out": found.key})) == names_of(found.training)
    (root / "val.txt").write_text("i\nj\n")
    assert held_out_of("folder", root, {"held_out": found.key}) is None
    assert len(images_of_split("folder", root, "train", {"held_out": found.key})) == 8


@pytest.mark.parametrize(
    ("trained", "seen"),
    [
        ("train", {"train", "all"}),
        ("val", {"val", "all"}),
        ("trainval", {"train", "val", "all"}),
        ("all", {"train", "val", "test", "all"}),
    ],
)
def test_a_network_tells_on_which_splits_it_was_trained(trained: str, seen: set[str]) -> None:
    facts = {"trained_split": f"folder {trained}"}
    splits = ("train", "val", "test", "all", HELD_OUT)
    assert {split for split in splits if trained_on_split("folder", split, facts)} == seen
    assert [trained_on_split("camvid", split, facts) for split in splits] == [None] * 5
    for split in splits:
        said = about_images("folder", Path("set"), split, split, 3, facts)
        sentence = f"the network was trained on split {trained}, on whose images it does better than on new ones"
        assert said == (sentence if split in seen else None)


@pytest.mark.parametrize(
    "facts", [{}, {"trained_split": None}, {"trained_split": "camvid train"}, {"trained_split": 5}]
)
def test_of_a_network_that_does_not_tell_only_usual_training_images_are_suspected(facts: dict[str, object]) -> None:
    said = [about_images("folder", Path("set"), split, split, 3, facts) for split in ("train", "all", "val", "test")]
    assert said == ["on images that the network was trained on it does better than on new ones"] * 2 + [None] * 2
    assert about_images("folder", Path("set"), "test", "val", 3, facts) == "set has no split test: measured on val"

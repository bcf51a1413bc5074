from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from pspnet_edge import bundled  # noqa: E402
from pspnet_edge.data.datasets import open_dataset  # noqa: E402
from pspnet_edge.errors import OptionError  # noqa: E402
from pspnet_edge.labels import CAMVID, LabelSet  # noqa: E402
from pspnet_edge.model.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from pspnet_edge.model.pspnet import PSPNet  # noqa: E402
from pspnet_edge.train.distil import place, soft_labels  # noqa: E402

BUNDLED = bundled.checkpoint_path(bundled.DEFAULT)


@pytest.fixture
def scenes(small_scenes: Path):
    """The two validation images, under CamVid's name for the classes."""
    return open_dataset("folder", small_scenes, "val")


@pytest.fixture
def made(scenes, tmp_path: Path) -> Path:
    """A folder with the bundled model's labels, each file marked as old."""
    folder = tmp_path / "teacher"
    soft_labels(BUNDLED, scenes, folder, 1.5)
    for index in range(len(scenes)):
        os.utime(place(folder, index), (1, 1))
    return folder


def is_old(folder: Path) -> list[bool]:
    return [place(folder, index).stat().st_mtime == 1 for index in range(2)]


def test_soft_labels_are_what_the_teacher_says(scenes, made: Path) -> None:
    kept = soft_labels(BUNDLED, scenes, made, 1.5)
    probabilities = kept[0]
    assert probabilities.shape == (45, 60, 11)  # 1.5 times 120×160, at stride 4
    assert np.abs(probabilities.sum(-1, dtype=int) - 255).max() <= 6
    _, mask = scenes[0]
    said = cv2.resize(probabilities.argmax(-1).astype(np.uint8), (160, 120), interpolation=cv2.INTER_NEAREST)
    assert (said == mask)[mask != 255].mean() > 0.8


def test_soft_labels_are_computed_once(scenes, made: Path) -> None:
    soft_labels(BUNDLED, scenes, made, 1.5)
    assert is_old(made) == [True, True]
    place(made, 1).unlink()  # as after a kill
    soft_labels(BUNDLED, scenes, made, 1.5)
    assert is_old(made) == [True, False]


def test_another_scale_or_teacher_makes_them_anew(scenes, made: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    torch.manual_seed(0)
    save_checkpoint(other, PSPNet("pspnet_lite0", 11), load_checkpoint(BUNDLED).label_set, {})
    before = np.load(place(made, 0))
    soft_labels(other, scenes, made, 1.5)
    assert is_old(made) == [False, False]
    assert np.abs(np.load(place(made, 0)).astype(int) - before).mean() > 10
    soft_labels(other, scenes, made, 1.0)
    assert np.load(place(made, 0)).shape == (30, 40, 11)


def test_a_teacher_of_other_classes_is_refused(scenes, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.pt"
    save_checkpoint(stranger, PSPNet("pspnet_lite0", 2), LabelSet("two", ("a", "b"), CAMVID.palette[:2]), {})
    with pytest.raises(OptionError, match="has other classes than"):
        soft_labels(stranger, scenes, tmp_path / "teacher")

"""Which data set and split a command means where it is not told."""

from __future__ import annotations

from pathlib import Path

import pytest

from pspnet_edge.cli.options import chosen_dataset, images_to_measure, labelled_name
from pspnet_edge.data.datasets import split_or_next
from pspnet_edge.errors import DataError

from .planted import make_clean


def test_a_folder_is_read_for_what_it_is_and_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_clean(tmp_path)
    assert chosen_dataset(None, tmp_path) == "folder"
    assert ": data set of layout folder" in capsys.readouterr().err
    assert chosen_dataset(None, None) == "scenes"
    assert chosen_dataset("voc", tmp_path) == "voc"
    with pytest.raises(DataError, match="is a part of the data set"):
        chosen_dataset(None, tmp_path / "images")
    assert labelled_name(None, tmp_path / "images") is None


def test_without_a_test_split_val_is_measured_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_clean(tmp_path)
    assert images_to_measure("folder", tmp_path, "test", {})[1] == "val"
    assert "no split test: measured on val" in capsys.readouterr().err
    assert split_or_next("folder", tmp_path, "train") == "train"
    for name in ("train", "val"):
        (tmp_path / f"{name}.txt").unlink()
    assert split_or_next("folder", tmp_path, "test") == "all"
    images, split = images_to_measure("folder", tmp_path, "test", {})
    assert split == "all"
    assert f"measured on all {len(images)} images; on images that the network was trained on" in capsys.readouterr().err
    assert split_or_next("scenes", None, "test") == "test"

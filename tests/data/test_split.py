from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from pspnet_edge.cli.main import app
from pspnet_edge.data.datasets import open_dataset
from pspnet_edge.data.split import group_names, sequences_cut, split_folder
from pspnet_edge.errors import DataError, OptionError, OutputError

from . import planted


@pytest.fixture
def own(tmp_path: Path) -> Path:
    planted.make_clean(tmp_path, images=20)
    (tmp_path / "train.txt").unlink()
    (tmp_path / "val.txt").unlink()
    return tmp_path


def test_lists_name_every_image_once_and_are_the_same_for_a_seed(own: Path) -> None:
    done = split_folder(own, val=0.2, test=0.1)
    assert (done.train, done.val, done.test) == (14, 4, 2)
    first = [(own / f"{name}.txt").read_bytes() for name in ("train", "val", "test")]
    listed = b"".join(first).decode().split()
    assert sorted(listed) == sorted(path.name for path in (own / "images").iterdir())
    split_folder(own, val=0.2, test=0.1, overwrite=True)
    assert [(own / f"{name}.txt").read_bytes() for name in ("train", "val", "test")] == first
    split_folder(own, val=0.2, test=0.1, seed=1, overwrite=True)
    assert [(own / f"{name}.txt").read_bytes() for name in ("train", "val", "test")] != first
    assert len(open_dataset("folder", own, "val")) == 4


def test_lists_that_are_there_are_kept(own: Path) -> None:
    (own / "valid.txt").write_text("003\n")
    with pytest.raises(OutputError, match="--overwrite"):
        split_folder(own)
    assert (own / "valid.txt").read_text() == "003\n"
    assert not (own / "train.txt").exists()


def test_a_list_of_a_split_that_is_not_asked_for_does_not_stay_beside_new_ones(own: Path) -> None:
    split_folder(own, val=0.2, test=0.1)
    before = (own / "train.txt").read_bytes()
    with pytest.raises(OutputError, match=r"test.txt would stay, and its images would be in train .* --test SHARE"):
        split_folder(own, val=0.3, overwrite=True)
    assert (own / "train.txt").read_bytes() == before
    (own / "test.txt").unlink()
    assert split_folder(own, val=0.3, overwrite=True).test == 0


def test_a_split_that_was_killed_between_two_lists_is_done_again(own: Path) -> None:
    split_folder(own, val=0.2, test=0.1)
    whole = {name: (own / f"{name}.txt").read_bytes() for name in ("train", "val", "test")}
    (own / "val.txt").unlink()
    split_folder(own, val=0.2, test=0.1)
    assert {name: (own / f"{name}.txt").read_bytes() for name in whole} == whole
    with pytest.raises(OutputError, match="--overwrite"):
        split_folder(own, val=0.2, test=0.1, seed=1)
    with pytest.raises(OutputError, match=r"has lists already \(.*test.txt\)"):
        split_folder(own, val=0.3)


@pytest.mark.parametrize("name", ["train", "val"])
def test_no_list_is_written_where_another_cannot_be(own: Path, name: str) -> None:
    os.mkfifo(own / f"{name}.txt")
    with pytest.raises(OutputError, match="FIFO"):
        split_folder(own, overwrite=True)
    assert sorted(path.name for path in own.glob("*.txt")) == ["classes.txt", f"{name}.txt"]
    assert (own / f"{name}.txt").is_fifo()


def test_sequences_that_file_names_show_are_kept_together() -> None:
    names = [f"drive{drive}_{frame:04d}" for drive in range(6) for frame in range(10)]
    groups, by = group_names(names, "auto")
    assert by == "name"
    assert sorted(map(len, groups)) == [10] * 6


def test_one_long_sequence_is_cut_into_runs_of_neighbours() -> None:
    groups, by = group_names([f"frame_{frame}" for frame in range(100)], "auto")
    assert by == "runs of consecutive names"
    assert groups[1] == [f"frame_{frame}" for frame in range(5, 10)]  # 10 comes after 9


def test_two_sequences_that_are_cut_are_told(own: Path, tmp_path: Path) -> None:
    """Neither of two could be left out without a split far from the one that was asked for."""
    for folder in ("images", "masks"):
        for path in sorted((own / folder).iterdir()):
            path.unlink()
        for sequence in ("a", "b"):
            for frame in range(20):
                picture = np.zeros((8, 8, 3) if folder == "images" else (8, 8), np.uint8)
                cv2.imwrite(str(own / folder / f"{sequence}_{frame:03d}.png"), picture)
    outcome = CliRunner().invoke(app, ["data", "split", str(own)])
    assert "there are images in train and in val: if they are videos" in " ".join(outcome.stderr.split())
    outcome = CliRunner().invoke(app, ["data", "split", str(own), "--group", "name", "--overwrite", "--json"])
    assert json.loads(outcome.stdout)["sequences_cut"] == 0
    assert "val has 50% of the images in place of 20%" in " ".join(outcome.stderr.split())
    assert split_folder(own, group="none", overwrite=True).sequences_cut == 2


def test_one_image_with_another_name_is_no_sequence_and_images_without_a_mask_are_counted(own: Path) -> None:
    (own / "images" / "alone.png").write_bytes(b"")
    outcome = CliRunner().invoke(app, ["data", "split", str(own)])
    assert "1 image without a mask: in none of the lists" in outcome.stderr, outcome.stderr
    assert sequences_cut({"train": [f"frame_{frame}" for frame in range(40)], "val": ["frame_40", "odd"]}) == 0


@pytest.mark.parametrize("split", ["test", "val"])
def test_the_command_for_a_split_that_is_not_there_makes_it(own: Path, split: str) -> None:
    for _ in range(2):
        with pytest.raises(DataError, match=f"has no split '{split}'") as caught:
            open_dataset("folder", own, split)
        command = re.search(r"`pspnet-edge ([^`]*)`", str(caught.value))
        assert command
        if split == "test":  # also beside lists of the others
            split_folder(own, overwrite=True)
    assert CliRunner().invoke(app, shlex.split(command[1])).exit_code == 0
    assert len(open_dataset("folder", own, split)) > 0
    with pytest.raises(OptionError, match=r"has no split 'tst' .*choose one of "):
        open_dataset("folder", own, "tst")


def test_a_pattern_names_the_group() -> None:
    groups, _ = group_names(["a-1-x", "b-1-y", "a-2-z"], "^[ab]")
    assert sorted(map(sorted, groups)) == [["a-1-x", "a-2-z"], ["b-1-y"]]
    with pytest.raises(OptionError, match="regular expression"):
        group_names(["a"], "(")


def test_shares_and_sets_that_make_no_split_are_one_sentence(own: Path) -> None:
    with pytest.raises(OptionError, match="leave nothing"):
        split_folder(own, val=0.6, test=0.5)
    for path in list((own / "images").iterdir())[1:]:
        path.unlink()
    with pytest.raises(DataError, match="1 labelled image"):
        split_folder(own)


def test_the_command_gives_counts_as_json(own: Path) -> None:
    outcome = CliRunner().invoke(app, ["data", "split", str(own), "--val", "0.25", "--json"])
    facts = json.loads(outcome.stdout)
    assert (facts["train"], facts["val"]) == (15, 5)
    again = CliRunner().invoke(app, ["data", "split", "folder", "--root", str(own), "--overwrite"])
    assert again.exit_code == 0

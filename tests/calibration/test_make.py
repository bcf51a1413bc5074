"""The shipped lists are remade byte for byte."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LISTS = Path(os.environ.get("SPLIT_LISTS", ROOT.parent / "shared" / "facts" / "lists"))


def make(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "calibration" / "make.py", *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


def same(name: str, folder: Path) -> bool:
    return (folder / f"{name}.txt").read_bytes() == (ROOT / "pspnet_edge/data/calibration" / f"{name}.txt").read_bytes()


@pytest.mark.parametrize("name", ["cityscapes", "voc"])
def test_from_the_official_lists(tmp_path: Path, name: str) -> None:
    if not LISTS.is_dir():
        pytest.skip(f"the official ids are not at {LISTS}: set SPLIT_LISTS to their folder")
    done = make(name, "--lists", LISTS, "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    assert same(name, tmp_path)


def test_cityscapes_from_a_data_root(tmp_path: Path) -> None:
    if not LISTS.is_dir():
        pytest.skip(f"the official ids are not at {LISTS}: set SPLIT_LISTS to their folder")
    for name in (LISTS / "cityscapes_train.txt").read_text().split():
        path = tmp_path / "leftImg8bit" / "train" / name.partition("_")[0] / f"{name}_leftImg8bit.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    done = make("cityscapes", "--root", tmp_path, "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    assert same("cityscapes", tmp_path)


def test_camvid_from_a_data_root(tmp_path: Path, camvid_root: Path) -> None:
    done = make("camvid", "--root", camvid_root, "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    assert same("camvid", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("camvid", "--lists", "."), "give --root, not --lists"),
        (("voc", "--lists", "."), "cannot be read"),
        (("cityscapes", "--root", "absent"), "there is no data set absent"),
    ],
)
def test_what_cannot_be_made_is_one_sentence(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = make(*arguments, "-o", tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []

from __future__ import annotations

from pathlib import Path

import pytest

from pspnet_edge.data.calibration_list import image_id, list_text, read_list, shipped_list
from pspnet_edge.data.datasets import SceneSet, open_dataset
from pspnet_edge.errors import DataError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("2007_000032.jpg", "2007_000032"),
        ("aachen_000000_000019_leftImg8bit.png", "aachen_000000_000019"),
        ("aachen_000000_000019", "aachen_000000_000019"),
        ("train/frame.0001.PNG", "frame.0001"),
    ],
)
def test_an_id_is_the_name_without_its_ending(name: str, expected: str) -> None:
    assert image_id(name) == expected


def test_a_list_survives_writing_and_reading(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(list_text(["a", "b"], ["chosen by hand"]))
    assert path.read_text().startswith("# chosen by hand\n# sha256: ")
    assert read_list(path).ids == ("a", "b")


def test_a_list_names_pairs_in_its_own_order(tmp_path: Path) -> None:
    scenes = SceneSet("test")
    path = tmp_path / "list.txt"
    path.write_text(f"{scenes.name(7)}\n\n# two streets\n{scenes.name(2)}.png\n")
    assert read_list(path).of(scenes).indices == (7, 2)


def test_cityscapes_ids_find_their_images(tmp_path: Path, cityscapes_root: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("aachen_000001_000019\n")
    chosen = read_list(path).of(open_dataset("cityscapes", cityscapes_root, "train"))
    assert chosen.name(0) == "aachen_000001_000019_leftImg8bit.png"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("# nothing\n", "names no image"),
        ("a\nb\na.png\n", "names a more than once"),
        (list_text(["a", "b"], []).replace("b\n", "c\n"), "was changed since its fingerprint"),
        (b"\xff\xfe\x00", "cannot be read"),
        (None, "there is no calibration list"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused(tmp_path: Path, content: str | bytes | None, message: str) -> None:
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        read_list(path)


def test_images_that_the_split_lacks_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("2007_000032\n2007_000039\n")
    with pytest.raises(DataError, match=r"2 of the 2 images .* such as 2007_000032"):
        read_list(path).of(SceneSet("test"))


@pytest.mark.parametrize(("name", "count"), [("camvid", 128), ("cityscapes", 500), ("voc", 500)])
def test_the_shipped_lists_agree_with_their_fingerprints(name: str, count: int) -> None:
    path = shipped_list(name)
    assert path is not None
    assert len(read_list(path).ids) == count
    assert f"# remake: python calibration/make.py {name} " in path.read_text()


def test_data_sets_of_your_own_have_no_shipped_list() -> None:
    assert shipped_list("folder") is None


def test_the_camvid_list_names_training_images(camvid_root: Path) -> None:
    path = shipped_list("camvid")
    assert path is not None
    assert len(read_list(path).of(open_dataset("camvid", camvid_root, "train"))) == 128

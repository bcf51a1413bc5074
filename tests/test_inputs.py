from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from pspnet_edge.errors import DataError, ModelError
from pspnet_edge.inputs import check_file, check_folder, read_text


def test_a_file_and_a_link_to_one_are_taken(tmp_path: Path) -> None:
    file, link = tmp_path / "a.txt", tmp_path / "link"
    file.write_text("x", encoding="utf-8-sig")
    link.symlink_to(file)
    check_file(file, "list")
    check_file(link, "list")
    assert read_text(link, "list") == "x"
    check_folder(tmp_path, "data set")


def test_what_is_not_a_file_is_refused_before_it_is_read(tmp_path: Path, full_device: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(tmp_path / "socket"))
    (tmp_path / "link").symlink_to(full_device)
    for place in (tmp_path / "fifo", tmp_path / "socket", tmp_path / "link", full_device):
        with pytest.raises(ModelError, match="device, FIFO or socket, not a checkpoint"):
            check_file(place, "checkpoint", ModelError)
        with pytest.raises(DataError, match="not a folder"):
            check_folder(place, "data set")
    with pytest.raises(ModelError, match="is a folder, not a checkpoint"):
        check_file(tmp_path, "checkpoint", ModelError)


@pytest.mark.parametrize("what", ["checkpoint", "model", "engine"])
def test_the_folder_of_a_run_is_refused_with_the_checkpoint_in_it(tmp_path: Path, what: str) -> None:
    fixes = []
    for name in ("notes.txt", "last.pt", "final.pt", "best.pt"):
        (tmp_path / name).write_text("")
        with pytest.raises(ModelError, match=rf"is a folder, not an? {what}") as caught:
            check_file(tmp_path, what, ModelError)
        fixes.append(caught.value.fix)
    a_folder = f"and a data set's folder as --root {tmp_path}"
    assert (
        fixes[0]
        == {
            "checkpoint": "give the file of a checkpoint",
            "model": f"give a model, {a_folder}",
            "engine": f"give an engine, {a_folder}",
        }[what]
    )
    assert fixes[1:] == [f"give {tmp_path / name}" for name in ("last.pt", "final.pt", "best.pt")]
    with pytest.raises(DataError, match="give the file of an image"):
        check_file(tmp_path, "image")


@pytest.mark.parametrize("name", ["absent", "n" * 300, "nul\0", "a\udcff", "file/below", "loop"])
def test_a_path_that_cannot_be_is_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DataError) as caught:
        check_file(tmp_path / name, "list", fix="write one", command="do it")
    str(caught.value).encode()
    assert (caught.value.fix, caught.value.command) == ("write one", "do it")


def test_text_is_limited_and_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for content in (b"\xff\xfe", b"a\0b"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="list"):
            read_text(path, "list")
    path.write_bytes(b"x" * 11)
    with pytest.raises(DataError, match="larger than"):
        read_text(path, "list", most_bytes=10)

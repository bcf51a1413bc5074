from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from pspnet_edge.data.unpack import unpack
from pspnet_edge.errors import DataError, OutputError

from .conftest import names_in


def _tar(path: Path, *members: tarfile.TarInfo, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def _file(name: str, size: int = 3) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o4777
    return member


def _special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def test_one_folder_is_taken_and_the_rest_left(tmp_path: Path) -> None:
    archive = _tar(tmp_path / "a.tar", _file("set/x/1.txt"), _file("set/2.txt"), _file("README"))
    assert unpack(archive, "set", tmp_path) == 2
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["1.txt", "2.txt", "a.tar"]
    assert (tmp_path / "set" / "x" / "1.txt").read_bytes() == b"xxx"


def test_a_folder_below_the_top_is_taken_and_a_compressed_tar_read(tmp_path: Path) -> None:
    archive = _tar(tmp_path / "a.bin", _file("project-main/set/1.txt"), mode="w:gz")
    assert unpack(archive, "set", tmp_path) == 1
    assert (tmp_path / "set" / "1.txt").is_file()


def test_permissions_of_the_archive_are_not_taken(tmp_path: Path) -> None:
    unpack(_tar(tmp_path / "a.tar", _file("set/1.txt")), "set", tmp_path)
    assert (tmp_path / "set" / "1.txt").stat().st_mode & (stat.S_ISUID | 0o111) == 0


@pytest.mark.parametrize(
    "evil",
    [
        _file("/etc/evil"),
        _file("../evil"),
        _file("set/../../evil"),
        _file("set\\..\\..\\evil"),
        _special("set/link", tarfile.SYMTYPE, "/etc"),
        _special("set/hard", tarfile.LNKTYPE, "set/1.txt"),
        _special("elsewhere", tarfile.SYMTYPE, ".."),
        _special("set/device", tarfile.CHRTYPE),
        _special("set/pipe", tarfile.FIFOTYPE),
        _file("set/1.txt"),
    ],
    ids=lambda member: member.name,
)
def test_an_evil_tar_writes_nothing(tmp_path: Path, evil: tarfile.TarInfo) -> None:
    root = tmp_path / "deep" / "root"
    root.mkdir(parents=True)
    archive = _tar(root / "a.tar", _file("set/1.txt"), evil)
    with pytest.raises(DataError, match="is not safe to unpack, because its member"):
        unpack(archive, "set", root)
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == [archive]


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    archive, link = tmp_path / "a.zip", zipfile.ZipInfo("set/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("set/1.txt", "x")
        opened.writestr(link, "/etc")
    with pytest.raises(DataError, match="is a link"):
        unpack(archive, "set", tmp_path)
    assert names_in(tmp_path) == ["a.zip"]


def test_damaged_archives_leave_nothing(tmp_path: Path) -> None:
    tar = _tar(tmp_path / "a.tar", _file("set/1.txt", 5000))
    tar.write_bytes(tar.read_bytes()[:2000])
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as opened:
        opened.writestr("set/1.txt", "content")
    damaged = (tmp_path / "b.zip").read_bytes().replace(b"content", b"CONTENT")
    (tmp_path / "b.zip").write_bytes(damaged)
    (tmp_path / "c.zip").write_bytes(b"<html>not found</html>")
    for name in ("a.tar", "b.zip", "c.zip"):
        with pytest.raises(DataError, match="is damaged"):
            unpack(tmp_path / name, "set", tmp_path)
    assert names_in(tmp_path) == ["a.tar", "b.zip", "c.zip"]


def test_another_archive_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no folder set"):
        unpack(_tar(tmp_path / "a.tar", _file("other/1.txt")), "set", tmp_path)


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = _tar(tmp_path / "a.tar", _file("set/1.txt"))
    monkeypatch.setattr("shutil.disk_usage", lambda path: _Usage())
    with pytest.raises(OutputError, match=r"0\.0 GB free"):
        unpack(archive, "set", tmp_path)
    assert names_in(tmp_path) == ["a.tar"]


class _Usage:
    free = 2


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = _tar(tmp_path / "a.tar", _file("set/1.txt"), _file("set/2.txt"))

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(OutputError, match=r"No space left on device"):
        unpack(archive, "set", tmp_path)
    assert names_in(tmp_path) == ["a.tar"]


def test_what_a_killed_run_left_is_cleared(tmp_path: Path) -> None:
    archive = _tar(tmp_path / "a.tar", _file("set/1.txt"))
    (tmp_path / ".a.tar.unpacking" / "set").mkdir(parents=True)
    (tmp_path / ".a.tar.unpacking" / "set" / "1.txt").write_text("half")
    unpack(archive, "set", tmp_path)
    assert (tmp_path / "set" / "1.txt").read_text() == "xxx"

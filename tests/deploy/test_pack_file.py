from __future__ import annotations

import hashlib
import io
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pspnet_edge.errors import PackError
from pspnet_edge.pack_file import MANIFEST, MODEL, NAME_PATTERN, manifest_bytes, plain_name, read_pack, write_pack

from .conftest import parts_of

SEAL = b"pspnet-edge pack sha256:"


def test_a_pack_is_a_plain_zip_that_says_what_is_in_it(pack_path: Path) -> None:
    pack = read_pack(pack_path)
    assert pack.name == "road"
    assert pack.sha256 == hashlib.sha256(pack_path.read_bytes()).hexdigest()
    with zipfile.ZipFile(pack_path) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names == sorted(names)
        assert {MANIFEST, MODEL, "model.calib.json", "licence.txt", "golden/00.png", "golden/01.int8.png"} <= set(names)
        for name, facts in pack.manifest["parts"].items():
            assert hashlib.sha256(archive.read(name)).hexdigest() == facts["sha256"]


def test_equal_parts_give_equal_bytes(pack_path: Path, tmp_path: Path) -> None:
    manifest, parts = parts_of(pack_path)
    shuffled = dict(sorted(parts.items(), reverse=True))
    write_pack(tmp_path / "again.pspnet", dict(reversed(manifest.items())), shuffled, None)
    assert (tmp_path / "again.pspnet").read_bytes() == pack_path.read_bytes()


def test_any_altered_byte_is_refused(pack_path: Path, tmp_path: Path) -> None:
    content = pack_path.read_bytes()
    altered = tmp_path / "altered.pspnet"
    altered.write_bytes(content)
    generator = random.Random(7)
    # Anywhere, and often in the parts that are not weights: header, manifest, directory, seal.
    places = [generator.randrange(len(content)) for _ in range(150)]
    places += [generator.randrange(len(content) - 3000, len(content)) for _ in range(40)]
    places += [generator.randrange(100) for _ in range(10)]
    with altered.open("r+b") as stream:
        for place in places:
            stream.seek(place)
            stream.write(bytes([content[place] ^ generator.randrange(1, 256)]))
            stream.flush()
            with pytest.raises(PackError) as caught:
                read_pack(altered)
            assert caught.value.fix, place
            stream.seek(place)
            stream.write(content[place : place + 1])
            stream.flush()
    assert read_pack(altered).name == "road"


@pytest.mark.parametrize("length", [0, 1, 100, 1000, 1_000_000, -1])
def test_a_pack_that_was_cut_off_is_refused(pack_path: Path, tmp_path: Path, length: int) -> None:
    cut = tmp_path / "cut.pspnet"
    cut.write_bytes(pack_path.read_bytes()[:length])
    with pytest.raises(PackError, match=r"seal|not a pack"):
        read_pack(cut)


def forged(path: Path, parts: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED, twice: str = "") -> Path:
    """A zip with a seal that fits, as an attacker would make it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        archive.comment = SEAL + b"0" * 64
        for name, part in parts.items():
            archive.writestr(name, part)
        if twice:
            with pytest.warns(UserWarning, match="Duplicate"):
                archive.writestr(twice, b"other")
    unsealed = content.getvalue()[:-64]
    path.write_bytes(unsealed + hashlib.sha256(unsealed).hexdigest().encode())
    return path


def stored(pack_path: Path) -> dict[str, bytes]:
    manifest, parts = parts_of(pack_path)
    return {MANIFEST: manifest_bytes(manifest, parts), **parts}


def test_an_honest_forgery_is_read(pack_path: Path, tmp_path: Path) -> None:
    """So that the refusals below are for their own reasons."""
    assert read_pack(forged(tmp_path / "same.pspnet", stored(pack_path))).name == "road"


@pytest.mark.parametrize(
    "name",
    [
        "../outside",
        "/etc/passwd",
        "golden/../../outside.png",
        "golden/00.png/x",
        "golden\\..\\x",
        "C:\\x",
        "extra",
        "ä",
    ],
)
def test_a_path_that_climbs_or_is_unknown_is_refused(pack_path: Path, tmp_path: Path, name: str) -> None:
    path = forged(tmp_path / "climbs.pspnet", stored(pack_path) | {name: b"x"})
    with pytest.raises(PackError, match="part named"):
        read_pack(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["climbs.pspnet"]


def test_a_zip_bomb_is_refused(pack_path: Path, tmp_path: Path) -> None:
    bomb = stored(pack_path) | {"golden/05.png": bytes(200 << 20)}
    path = forged(tmp_path / "bomb.pspnet", bomb, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 30 << 20
    with pytest.raises(PackError, match="is compressed"):
        read_pack(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda parts: parts | {MODEL: parts[MODEL][:-1] + b"x"}, "model.onnx is not the part"),
        (lambda parts: parts | {MODEL: parts[MODEL] + b"x"}, "bytes and its manifest says"),
        (lambda parts: {name: part for name, part in parts.items() if name != MODEL}, "model.onnx"),
        (lambda parts: {name: part for name, part in parts.items() if name != MANIFEST}, "holds no manifest"),
        (lambda parts: {name: part for name, part in parts.items() if name != "golden/00.png"}, "golden/00.png"),
        (lambda parts: parts | {"golden/07.png": b"x"}, "golden/07.png"),
        (lambda parts: parts | {MANIFEST: b"[]"}, "not a pack"),
        (lambda parts: parts | {MANIFEST: b"{"}, "cannot be read"),
        (lambda parts: parts | {MANIFEST: b"[" * 100_000}, "cannot be read"),
        (
            lambda parts: parts | {MANIFEST: parts[MANIFEST].replace(b'"format_version": 1', b'"format_version": 9')},
            "9",
        ),
        (lambda parts: parts | {MANIFEST: parts[MANIFEST].replace(b'"road"', b'"../x"')}, "name"),
        (lambda parts: parts | {MANIFEST: parts[MANIFEST].replace(b'"channels": 3', b'"channels": 1e9')}, "channels"),
        (lambda parts: parts | {MANIFEST: parts[MANIFEST].replace(b'"run": {}', b'"run": {"record": "/x"}')}, "record"),
        (lambda parts: parts | {f"golden/{n:02d}{p}.png": b"" for n in range(99) for p in ("", ".fp16")}, "more than"),
    ],
)
def test_what_its_manifest_does_not_describe_is_refused(
    pack_path: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], dict[str, bytes]], reason: str
) -> None:
    with pytest.raises(PackError, match=reason):
        read_pack(forged(tmp_path / "wrong.pspnet", change(stored(pack_path))))


def test_a_part_that_is_there_twice_is_refused(pack_path: Path, tmp_path: Path) -> None:
    with pytest.raises(PackError, match="twice"):
        read_pack(forged(tmp_path / "twice.pspnet", stored(pack_path), twice="licence.txt"))


def sealed(path: Path, unsealed: bytes) -> Path:
    path.write_bytes(unsealed + hashlib.sha256(unsealed).hexdigest().encode())
    return path


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: b"#!/bin/sh\n" + content, "does not follow"),
        (lambda content: replaced(content, b"licence.txt", b"licence.TXT"), "header of licence.txt"),
        (lambda content: with_local(content, 14, b"\0\0\0\0"), "header of"),
        (lambda content: with_local(content, 22, b"\1\0\0\0"), "header of"),
        (lambda content: with_local(content, 8, b"\x08\0"), "header of"),
        (lambda content: in_directory(content, 38, (0o120777 << 16).to_bytes(4, "little")), "not an ordinary file"),
        (lambda content: in_directory(content, 42, b"\1\0\0\0"), "does not follow|valid zip"),
        (lambda content: between_parts_and_directory(content, b"hidden"), "directory does not follow"),
        (lambda content: with_longer_comment(content, b"hidden"), "more than the seal"),
    ],
)
def test_what_two_readers_would_read_differently_is_refused(
    pack_path: Path, tmp_path: Path, change: Callable[[bytes], bytes], reason: str
) -> None:
    """Each with a seal that fits."""
    unsealed = pack_path.read_bytes()[:-64]
    assert read_pack(sealed(tmp_path / "same.pspnet", unsealed)).name == "road"
    with pytest.raises(PackError, match=reason):
        read_pack(sealed(tmp_path / "other.pspnet", change(unsealed)))


def test_what_is_appended_is_refused(pack_path: Path, tmp_path: Path) -> None:
    longer = tmp_path / "longer.pspnet"
    for more in (b"\0", b"x" * 1000, pack_path.read_bytes()):
        longer.write_bytes(pack_path.read_bytes() + more)
        with pytest.raises(PackError, match="seal"):
            read_pack(longer)


def replaced(content: bytes, first: bytes, second: bytes) -> bytes:
    return content.replace(first, second, 1)


def with_local(content: bytes, offset: int, value: bytes) -> bytes:
    """The first part's own header, changed."""
    return content[:offset] + value + content[offset + len(value) :]


def in_directory(content: bytes, offset: int, value: bytes) -> bytes:
    """The directory's first entry, changed."""
    place = content.index(b"PK\1\2") + offset
    return content[:place] + value + content[place + len(value) :]


def between_parts_and_directory(content: bytes, hidden: bytes) -> bytes:
    place, end = content.index(b"PK\1\2"), content.rindex(b"PK\5\6")
    moved = (place + len(hidden)).to_bytes(4, "little")
    return content[:place] + hidden + content[place : end + 16] + moved + content[end + 20 :]


def with_longer_comment(content: bytes, hidden: bytes) -> bytes:
    end = content.rindex(b"PK\5\6")
    length = (len(content) + 64 - end - 22 + len(hidden)).to_bytes(2, "little")
    return content[: end + 20] + length + hidden + content[end + 22 :]


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="folder"):
        read_pack(tmp_path)
    with pytest.raises(PackError, match="there is no pack"):
        read_pack(tmp_path / "absent.pspnet")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("mine", "mine"),
        ("förder band", "forder-band"),
        ("v1.2_b", "v1.2_b"),
        ("模型", "model"),
        ("-a", "a"),
        ("x" * 99, "x" * 80),
    ],
)
def test_a_pack_has_a_name_whatever_the_model_is_called(model: str, name: str) -> None:
    assert plain_name(model) == name
    assert re.fullmatch(NAME_PATTERN, name)

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pspnet_edge.deploy.signature import check_signature, sign
from pspnet_edge.errors import PackError
from pspnet_edge.pack_file import manifest_bytes, read_pack, write_pack

from .conftest import Board, Refusal, parts_of


def make_key(path: Path, kind: str = "ed25519") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path)], check=True)
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return make_key(tmp_path / "key")


@pytest.fixture
def signed(pack_path: Path, key: Path, tmp_path: Path) -> Path:
    manifest, parts = parts_of(pack_path)
    path = tmp_path / "signed.pspnet"
    write_pack(path, manifest, parts, sign(manifest_bytes(manifest, parts), key))
    return path


def test_a_signature_is_accepted_and_reproducible(signed: Path, key: Path, pack_path: Path, tmp_path: Path) -> None:
    check_signature(read_pack(signed), key.with_suffix(".pub"))
    manifest, parts = parts_of(pack_path)
    again = tmp_path / "again.pspnet"
    write_pack(again, manifest, parts, sign(manifest_bytes(manifest, parts), key))
    assert again.read_bytes() == signed.read_bytes()


def test_another_key_is_refused(signed: Path, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other")
    with pytest.raises(PackError, match="is not signed with the key"):
        check_signature(read_pack(signed), other.with_suffix(".pub"))


def test_a_signature_of_another_manifest_is_refused(signed: Path, key: Path, pack_path: Path, tmp_path: Path) -> None:
    manifest, parts = parts_of(pack_path)
    moved = tmp_path / "moved.pspnet"
    write_pack(moved, {**manifest, "name": "evil"}, parts, read_pack(signed).read("manifest.sig"))
    with pytest.raises(PackError, match="is not signed with the key"):
        check_signature(read_pack(moved), key.with_suffix(".pub"))


def test_an_unsigned_pack_and_a_file_that_is_not_a_key_are_refused(
    pack_path: Path, signed: Path, key: Path, tmp_path: Path
) -> None:
    with pytest.raises(PackError, match="is not signed: sign it"):
        check_signature(read_pack(pack_path), key.with_suffix(".pub"))
    rsa = make_key(tmp_path / "rsa", "rsa")
    for wrong in (key, rsa.with_suffix(".pub"), signed.parent / "absent"):
        with pytest.raises(PackError):
            check_signature(read_pack(signed), wrong)
    other_text = tmp_path / "text"
    other_text.write_text("not a key")
    with pytest.raises(PackError, match="cannot be used to sign"):
        sign(b"x", other_text)


def test_deploy_writes_nothing_where_the_signature_is_wrong(
    signed: Path, board: Board, refusal: Refusal, tmp_path: Path
) -> None:
    other = make_key(tmp_path / "other")
    assert "is not signed with" in refusal(board.deploy(signed, "--key", other.with_suffix(".pub")))
    assert not board.home.exists()

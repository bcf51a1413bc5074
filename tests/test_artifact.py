from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pspnet_edge.artifact import atomic_path, ensure_writable, read_sidecar, sidecar_path, write_bytes, write_sidecar
from pspnet_edge.errors import ModelError, OutputError


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    def fail_half_way() -> None:
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"ne")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        fail_half_way()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_write_honours_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a.bin", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o640


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        ensure_writable(tmp_path / "file" / "below.engine")
    with pytest.raises(OutputError, match="is a folder"):
        ensure_writable(tmp_path)


def test_sidecars_of_neighbours_do_not_collide(tmp_path: Path) -> None:
    assert sidecar_path(tmp_path / "m.onnx") != sidecar_path(tmp_path / "m.engine")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda artefact, sidecar: sidecar.unlink(), "has no sidecar"),
        (lambda artefact, sidecar: sidecar.write_text("{"), "cannot be read"),
        (lambda artefact, sidecar: sidecar.write_text("[]"), "is not the sidecar"),
        (lambda artefact, sidecar: artefact.write_bytes(b"other"), "is not the file"),
        (
            lambda artefact, sidecar: sidecar.write_text(json.dumps({"kind": "engine", "format_version": 99})),
            "format version 99",
        ),
    ],
)
def test_a_sidecar_that_does_not_fit_is_refused_with_the_mend(tmp_path: Path, damage, message: str) -> None:
    artefact = tmp_path / "m.engine"
    artefact.write_bytes(b"content")
    write_sidecar(artefact, "engine", {"runtime": "x"})
    assert read_sidecar(artefact, "engine", "remake")["runtime"] == "x"
    damage(artefact, sidecar_path(artefact))
    with pytest.raises(ModelError, match=message) as caught:
        read_sidecar(artefact, "engine", "remake")
    assert "`remake`" in str(caught.value)

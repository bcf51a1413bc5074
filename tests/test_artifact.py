from __future__ import annotations

import errno
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pspnet_edge import artifact, ownership
from pspnet_edge.artifact import (
    atomic_path,
    claim,
    ensure_folder_writable,
    ensure_writable,
    open_for_append,
    replace,
    scratch_folder,
    sidecar_path,
    write_bytes,
)
from pspnet_edge.errors import ModelError, OutputError
from pspnet_edge.labels import CAMVID
from pspnet_edge.sidecar import read_sidecar, write_sidecar


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
def test_a_sidecar_that_does_not_fit_is_refused_with_the_fix(tmp_path: Path, damage, message: str) -> None:
    artefact = tmp_path / "m.engine"
    artefact.write_bytes(b"content")
    facts = {"precision": "fp32", "shape_nhw": [1, 8, 8], "label_set": CAMVID.facts()}
    write_sidecar(artefact, "engine", {"runtime": "x", **facts})
    assert read_sidecar(artefact, "engine", "remake")["runtime"] == "x"
    damage(artefact, sidecar_path(artefact))
    with pytest.raises(ModelError, match=message) as caught:
        read_sidecar(artefact, "engine", "remake")
    assert "`remake`" in str(caught.value)


def make_node(kind: str, place: Path) -> None:
    if kind in ("null device", "full device"):
        try:
            os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 3 if kind == "null device" else 7))
        except PermissionError:
            pytest.skip("this user may not make device nodes")
    elif kind == "FIFO":
        os.mkfifo(place)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(str(place))
    elif kind == "folder":
        place.mkdir()


KINDS = ("null device", "full device", "FIFO", "socket", "folder")


def state_of(place: Path) -> tuple[int, int, int]:
    status = place.lstat()
    return status.st_mode, status.st_rdev, status.st_ino


@pytest.mark.parametrize("is_link", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_an_ordinary_file_is_never_replaced(tmp_path: Path, kind: str, is_link: bool) -> None:
    node = target = tmp_path / "node"
    make_node(kind, node)
    if is_link:
        target = tmp_path / "link"
        target.symlink_to(node)
    before = state_of(node), state_of(target)
    finished = tmp_path / "finished"
    finished.write_bytes(b"x")
    ways: list[Callable[[], object]] = [
        lambda: ensure_writable(target),
        lambda: write_bytes(target, b"x"),
        lambda: replace(finished, target),
        lambda: open_for_append(target),
    ]
    for way in ways:
        with pytest.raises(OutputError, match="not an ordinary file"):
            way()
    assert (state_of(node), state_of(target)) == before
    assert sorted(tmp_path.iterdir()) == sorted({node, target, finished})


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_that_comes_while_the_work_is_done_is_not_replaced(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"

    def overtaken() -> None:
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"x")
            make_node(kind, target)

    with pytest.raises(OutputError, match="not an ordinary file"):
        overtaken()
    assert list(tmp_path.iterdir()) == [target]
    assert not stat.S_ISREG(target.lstat().st_mode)


def test_a_link_that_comes_while_the_work_is_done_is_not_replaced(tmp_path: Path) -> None:
    target, other = tmp_path / "target", tmp_path / "other"
    other.write_bytes(b"old")

    def overtaken() -> None:
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"x")
            target.symlink_to(other)

    with pytest.raises(OutputError, match="symbolic link"):
        overtaken()
    assert other.read_bytes() == b"old"


def test_a_link_to_a_file_stays_and_the_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    file, link, chain = tmp_path / "elsewhere" / "file", tmp_path / "link", tmp_path / "chain"
    file.write_bytes(b"old")
    link.symlink_to("elsewhere/file")
    chain.symlink_to("link")
    write_bytes(chain, b"new")
    assert file.read_bytes() == b"new"
    assert (link.is_symlink(), chain.is_symlink(), file.is_symlink()) == (True, True, False)
    assert list((tmp_path / "elsewhere").iterdir()) == [file]


def test_a_dangling_link_is_written_through_only_into_a_folder_that_is_there(tmp_path: Path) -> None:
    near, far, loop = tmp_path / "near", tmp_path / "far", tmp_path / "loop"
    near.symlink_to("made")
    far.symlink_to("absent/made")
    loop.symlink_to("loop")
    write_bytes(near, b"x")
    assert (tmp_path / "made").read_bytes() == b"x"
    for refused in (far, loop):
        with pytest.raises(OutputError, match="symbolic link"):
            write_bytes(refused, b"x")
    assert not (tmp_path / "absent").exists()


def test_an_open_file_of_a_process_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as opened:
        link = tmp_path / "link"
        link.symlink_to(f"/proc/self/fd/{opened.fileno()}")
        with pytest.raises(OutputError, match="open file of a process"):
            ensure_writable(link)


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/..", "nul\0", "byte\udcff", "n" * 300, "ä" * 130])
def test_names_that_cannot_be_are_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    for path in (tmp_path / name, Path(name)):
        with pytest.raises(OutputError) as caught:
            write_bytes(path, b"x")
        str(caught.value).encode()
    assert list(tmp_path.iterdir()) == []


def test_the_longest_name_takes_its_sidecar_too(tmp_path: Path) -> None:
    path = tmp_path / ("n" * artifact.LONGEST_NAME_BYTES)
    write_bytes(path, b"x")
    write_sidecar(path, "engine", {})
    assert sorted(tmp_path.iterdir()) == [path, sidecar_path(path)]


def test_a_folder_that_is_something_else_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OutputError, match="is not a folder"):
        ensure_folder_writable(tmp_path / "fifo")


WRITE_AND_WAIT = """
import sys, time
from pathlib import Path
from pspnet_edge.artifact import atomic_path, scratch_folder
with scratch_folder(), atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    print("ready", flush=True)
    sys.stdin.readline()
    temporary.write_bytes(sys.argv[2].encode())
"""


def start_writer(path: Path, content: str, tmp: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITE_AND_WAIT, str(path), content]
    environment = {**os.environ, "TMPDIR": str(tmp)}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def test_the_place_for_temporary_files_is_found_without_writing_a_file_to_try_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact.tempfile, "_get_default_tempdir", lambda: pytest.fail("a kill would leave that file"))
    monkeypatch.setattr(artifact.tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    monkeypatch.setenv("TEMP", str(tmp_path))
    with scratch_folder() as scratch:
        assert scratch.parent == tmp_path
    assert artifact.tempfile.gettempdir() == str(tmp_path)


def test_what_a_killed_process_left_is_removed_by_the_next_that_writes_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, tmp = tmp_path / "out", tmp_path / "tmp"
    out.mkdir()
    tmp.mkdir()
    killed, living = start_writer(out / "a.bin", "a", tmp), start_writer(out / "b.bin", "b", tmp)
    for writer in (killed, living):
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert len(list(out.iterdir())) == 4
    assert len(list(tmp.iterdir())) == 2
    monkeypatch.setattr(ownership, "_cleaned", set())
    monkeypatch.setattr(artifact.tempfile, "tempdir", str(tmp))
    write_bytes(out / "c.bin", b"c")
    with scratch_folder() as scratch:
        assert len(list(tmp.iterdir())) == 2, "the living one's and ours"
        assert list(scratch.iterdir()) == []
    assert len(list(out.iterdir())) == 3, "c.bin, and the file and the lock of the living one"
    living.communicate("go\n")
    assert sorted(path.name for path in out.iterdir()) == ["b.bin", "c.bin"]
    assert list(tmp.iterdir()) == []
    for writer in (killed, living):
        for stream in (writer.stdin, writer.stdout):
            assert stream is not None
            stream.close()


def test_two_processes_on_one_target_take_turns(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    first = start_writer(target, "first", tmp_path)
    assert first.stdout is not None
    assert first.stdout.readline() == "ready\n"
    with (
        pytest.raises(OutputError, match=f"being written by another process \\({first.pid}\\)"),
        claim(target, wait_s=0),
    ):
        pass
    second = threading.Thread(target=write_bytes, args=(target, b"second"))
    second.start()
    first.communicate("go\n")
    second.join(30)
    assert target.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [target]


def test_the_children_of_a_killed_process_are_waited_for(tmp_path: Path) -> None:
    """They inherit its lock, and notice seconds later that it is gone."""
    target = tmp_path / "a.bin"
    code = (
        "import os, sys, time; from pathlib import Path; from pspnet_edge.artifact import claim\n"
        "with claim(Path(sys.argv[1])):\n"
        "    if os.fork() == 0: time.sleep(2); os._exit(0)\n"
        "    print('ready', flush=True); time.sleep(60)"
    )
    killed = subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    with killed.stdout as stdout:
        assert stdout.readline() == "ready\n"
        killed.kill()
        killed.wait()
        with claim(target, wait_s=0):
            write_bytes(target, b"x")
    assert list(tmp_path.iterdir()) == [target]


def test_a_claim_may_be_nested(tmp_path: Path) -> None:
    with claim(tmp_path / "a"), claim(tmp_path / "a", wait_s=0):
        write_bytes(tmp_path / "a", b"x")
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_a_disk_that_is_full_when_the_lock_is_written_keeps_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ownership.os, "write", full)
    with pytest.raises(OutputError, match="No space left"), claim(tmp_path / "a.bin"):
        pass
    assert list(tmp_path.iterdir()) == []

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from pspnet_edge.deploy.install import Demands, deploy_pack
from pspnet_edge.deploy.store import Store
from pspnet_edge.engine.backends import open_engine
from pspnet_edge.errors import DeployError
from pspnet_edge.labels import CAMVID
from pspnet_edge.pack_file import write_pack

from .conftest import Board, Refusal, parts_of


def test_a_pack_becomes_the_active_version_and_the_one_before_can_come_back(
    pack_path: Path, next_pack_path: Path, board: Board
) -> None:
    first = board.facts(pack_path)
    assert {"version", "state", "agreement", "fps", "boards"} <= set(first)
    assert (first["state"], first["before"]) == ("active", None)
    assert first["agreement"] > 0.98
    assert first["fps"] > 0
    second = board.facts(next_pack_path)
    assert second["before"] == first["version"]
    listed = board.facts("--list")
    assert {row["version"]: row["state"] for row in listed["versions"]} == {
        first["version"]: "previous",
        second["version"]: "active",
    }
    back = board.facts("--rollback")
    assert (back["version"], back["state"]) == (first["version"], "rolled_back")
    assert Store(board.home).active() == first["version"]
    with open_engine(Store(board.home).active_engine()) as engine:
        assert engine.info.precision == "int8"


def test_the_same_pack_is_built_once(pack_path: Path, board: Board) -> None:
    board.facts(pack_path)
    engine = Store(board.home).active_engine()
    built = engine.stat().st_mtime_ns
    assert "installed already" in board.deploy(pack_path).stderr
    assert engine.stat().st_mtime_ns == built


def test_masks_that_differ_are_refused_with_how_much_and_which_class(
    pack_path: Path, ruined_pack_path: Path, board: Board, refusal: Refusal
) -> None:
    active = board.facts(pack_path)["version"]
    before = files_in(board.home)
    sentence = refusal(board.deploy(ruined_pack_path))
    assert "below the limit" in sentence
    assert any(name in sentence for name in CAMVID.classes)
    assert Store(board.home).active() == active
    assert files_in(board.home) == before


def test_a_version_that_is_too_slow_is_refused(pack_path: Path, board: Board, refusal: Refusal) -> None:
    assert "below --min-fps 1e+06" in refusal(board.deploy(pack_path, "--min-fps", 1_000_000))
    assert Store(board.home).versions() == []


def test_other_classes_are_refused_unless_allowed(
    pack_path: Path, board: Board, refusal: Refusal, tmp_path: Path
) -> None:
    board.facts(pack_path)
    before = files_in(board.home)
    manifest, parts = parts_of(pack_path)
    other = tmp_path / "other.pspnet"
    classes = ["other", *manifest["label_set"]["classes"][1:]]
    write_pack(other, {**manifest, "label_set": {**manifest["label_set"], "classes": classes}}, parts, None)
    assert "--allow-new-classes" in refusal(board.deploy(other))
    # With leave to change classes, the model itself still says that the manifest lies.
    assert "classes that differ from its model" in refusal(board.deploy(other, "--allow-new-classes"))
    assert files_in(board.home) == before


def test_a_damaged_pack_writes_nothing(pack_path: Path, board: Board, refusal: Refusal, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.pspnet"
    content = bytearray(pack_path.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    assert "damaged or altered" in refusal(board.deploy(damaged))
    assert not board.home.exists()


def test_no_rollback_without_a_version_before(pack_path: Path, board: Board, refusal: Refusal) -> None:
    assert "no version is active" in refusal(board.deploy("--rollback"))
    board.facts(pack_path)
    refused = board.deploy("--rollback")
    assert "no version before" in refusal(refused)
    command = json.loads(refused.stdout)["error"]["command"]
    assert command == f"pspnet-edge deploy --list --home {board.home}", "without --home it lists another folder"


def test_usage_errors(pack_path: Path, board: Board) -> None:
    assert board.deploy().returncode == 2
    assert board.deploy(pack_path, "--list").returncode == 2


def test_old_versions_are_removed_and_the_two_latest_stay(pack_path: Path, board: Board, tmp_path: Path) -> None:
    manifest, parts = parts_of(pack_path)
    versions = []
    for name in ("a", "b", "c", "d"):
        path = tmp_path / f"{name}.pspnet"
        write_pack(path, {**manifest, "name": name}, parts, None)
        versions.append(board.facts(path, "--keep", 2)["version"])
    assert Store(board.home).versions() == versions[-2:]


class FakeService:
    """A service that is healthy with some versions only; what systemd would run."""

    name = "loop"

    def __init__(self, store: Store, bad: set[str]) -> None:
        self._store, self._bad = store, bad
        self.ran: list[str] = []

    def restart(self) -> None:
        self.ran.append(str(self._store.active()).partition("-")[0])

    def problem(self) -> str | None:
        return "it answers 503" if self.ran[-1] in self._bad else None


def test_a_service_that_is_not_healthy_brings_the_version_before_back(
    pack_path: Path, next_pack_path: Path, tmp_path: Path
) -> None:
    store = Store(tmp_path / "home")
    service = FakeService(store, {"next"})
    demands = Demands(measure_s=0.1, watch_s=0.3)
    own_umask = os.umask(0o077)
    try:
        first = deploy_pack(pack_path, store, demands, service=service)
    finally:
        os.umask(own_umask)
    version = store.versions_folder / first.version
    for path in (store.home, store.versions_folder, version, *version.iterdir()):
        assert path.stat().st_mode & 0o044 == 0o044, f"the service's user cannot read {path}"
    with pytest.raises(DeployError, match=r"rolled back to road-.*it answers 503"):
        deploy_pack(next_pack_path, store, demands, service=service)
    assert service.ran == ["road", "next", "road"]
    assert store.active() == first.version
    assert store.pending() is None


def test_a_watch_that_did_not_end_is_held_again(pack_path: Path, next_pack_path: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    demands = Demands(measure_s=0.1, watch_s=0.2)
    first = deploy_pack(pack_path, store, demands)
    second = deploy_pack(next_pack_path, store, demands)
    store.go_back(first.version)
    store.activate(second.version, watched=True)  # and here its process was killed
    service = FakeService(store, {"next"})
    with pytest.raises(DeployError, match="rolled back to road-"):
        deploy_pack(next_pack_path, store, demands, service=service)
    assert store.active() == first.version


def files_in(folder: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(folder)): path.readlink() if path.is_symlink() else path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def kill_while_deploying(board: Board, packs: list[Path], kills: int, longest_s: float, seed: int) -> None:
    generator = random.Random(seed)
    store = Store(board.home)
    for attempt in range(kills):
        process = subprocess.Popen(
            board.command(packs[attempt % len(packs)]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(generator.uniform(0.05, longest_s))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        # Whole, and the process that died holds nothing.
        version = store.active()
        assert version is not None
        store.facts(version)
        with open_engine(store.active_engine()):
            pass


def test_killed_at_any_moment_the_active_version_is_whole(pack_path: Path, next_pack_path: Path, board: Board) -> None:
    board.facts(pack_path)
    begin = time.monotonic()
    fresh = Board(board.home.with_name("fresh"))
    fresh.facts(next_pack_path)
    kill_while_deploying(board, [next_pack_path], 3, time.monotonic() - begin, seed=3)
    assert board.facts(next_pack_path)["version"].startswith("next-")
    assert set(files_in(board.home)) == expected_files(board)


@pytest.mark.slow
def test_fifty_kills_leave_a_whole_version_and_no_rubbish(pack_path: Path, board: Board, tmp_path: Path) -> None:
    manifest, parts = parts_of(pack_path)
    packs = []
    for name in ("a", "b", "c", "d", "e", "f", "g"):
        packs.append(tmp_path / f"{name}.pspnet")
        write_pack(packs[-1], {**manifest, "name": name}, parts, None)
    begin = time.monotonic()
    board.facts(packs[0])
    kill_while_deploying(board, packs[1:], 50, 1.2 * (time.monotonic() - begin), seed=50)
    assert board.facts(packs[-1])["version"].startswith("g-")
    assert set(files_in(board.home)) == expected_files(board)


def expected_files(board: Board) -> set[str]:
    names = ("pack.pspnet", "model.engine", "model.engine.json", "version.json")
    versions = {f"versions/{version}/{name}" for version in Store(board.home).versions() for name in names}
    return versions | {"active", "history.json", "lock"}

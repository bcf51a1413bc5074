"""Every writing option of every command, aimed at what is not an ordinary file: it stays what it was."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import typer

import pspnet_edge
from pspnet_edge import bundled
from pspnet_edge.cli.main import app

from ..foreign_model import theirs

REPORT = {"kind": "benchmark"}


def make(folder: Path, kind: str) -> Path:
    """A node of one kind, or a link to it, in a folder of its own."""
    what, _, via_link = kind.partition(" by link")
    place = folder / "node"
    if what in ("null", "full"):
        try:
            os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 3 if what == "null" else 7))
        except PermissionError:
            pytest.skip("this user may not make device nodes")
    elif what == "fifo":
        os.mkfifo(place)
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(str(place))
    elif what == "file":
        place.write_bytes(b"a user's own")
    elif what == "dangling":
        place.symlink_to(folder / "absent" / "file")
    if via_link or kind.endswith("by link"):
        link = folder / "link"
        link.symlink_to(place)
        return link
    return place


NODES = ("null", "full", "fifo", "socket")
LINKS = tuple(f"{kind} by link" for kind in NODES)

FILES: dict[str, Callable[[Path], tuple[object, ...]]] = {
    "build -o": lambda at: ("build", "-o", at),
    "export -o": lambda at: ("export", bundled.checkpoint_path(bundled.DEFAULT), "-o", at),
    "calibrate -o": lambda at: ("calibrate", "--dataset", "scenes", "--images", 1, "-o", at),
    "run --record": lambda at: ("run", "--input", "demo", "--frames", 2, "--view", "none", "--record", at),
    "run --stats": lambda at: ("run", "--input", "demo", "--frames", 2, "--view", "none", "--stats", at),
    "import -o": lambda at: ("import", bundled.checkpoint_path(bundled.DEFAULT), "-o", at),
    "adapt -o": lambda at: ("adapt", bundled.onnx_path(bundled.DEFAULT), "-o", at),
    "pack -o": lambda at: ("pack", "-o", at),
    "selftest -o": lambda at: ("selftest", "--only", "nothing", "-o", at),
    "data check --html": lambda at: ("data", "check", "scenes", "--html", at),
}
FOLDERS: dict[str, Callable[[Path], tuple[object, ...]]] = {
    "run --save-masks": lambda at: ("run", "--input", "demo", "--frames", 2, "--view", "none", "--save-masks", at),
    "run --save-overlays": lambda at: (
        ("run", "--input", "demo", "--frames", 2, "--view", "none", "--save-overlays", at)
    ),
    "train -o": lambda at: ("train", "--dataset", "scenes", "--epochs", 1, "-o", at),
    "benchmark -o": lambda at: ("benchmark", "--rounds", 2, "--seconds", 0.05, "-o", at),
    "data fetch --root": lambda at: ("data", "fetch", "camvid", "--url", "http://127.0.0.1:9/a.tgz", "--root", at),
    "data import -o": lambda at: ("data", "import", at.parent, "-o", at),
    "deploy --home": lambda at: ("deploy", "missing.pspnet", "--home", at),
}
READ = {
    *(f"{command} --root" for command in ("train", "calibrate", "build", "evaluate", "benchmark", "pack")),
    *("import --classes", "import --reference", "import --config", "import --decoder", "train --recipe"),
    *(
        "build --calibration",
        "benchmark --calibration",
        "pack --calibration",
        "benchmark --input",
        "benchmark --from",
        "benchmark --against",
    ),
    *("pack --images", "pack --licence", "pack --sign", "data import --images", "data import --classes"),
    *("data check --root", "deploy --fleet", "deploy --wheelhouse", "deploy --ssh-config", "deploy --key"),
    *("calibrate --images-from", "plan --report", "run --home"),
    "data split --root",  # its lists have fixed names in a folder that is there: tests/data/test_split.py
}
"""Options that name a place which is only read."""


def takes_a_path(option: Any) -> bool:
    described = getattr(option, "type_descriptor", None)  # of Typer from 0.20 on
    return described.annotation is Path if described else "Path" in type(option.type).__name__


def named_places(command: Any, name: str = "") -> Iterator[str]:
    """Every option of every command that takes a path, by its declaration: ``build -o``, ``data check --html``."""
    for word, below in getattr(command, "commands", {}).items():
        yield from named_places(below, f"{name} {word}".strip())
    for option in [] if hasattr(command, "commands") else command.params:
        named = (option.metavar or "").split(".")[0] in ("FILE", "DIR")
        if option.param_type_name == "option" and (named or takes_a_path(option)):
            yield f"{name} {option.opts[0]}"


def test_every_option_that_names_a_place_is_aimed_at_a_node_or_only_read() -> None:
    found = set(named_places(typer.main.get_command(app)))
    assert found - READ == {*FILES, *FOLDERS}
    assert found >= READ


def state(folder: Path) -> dict[str, tuple[int, int, int, str]]:
    found = {}
    for entry in sorted(folder.iterdir()):
        status = entry.lstat()
        target = str(entry.readlink()) if entry.is_symlink() else ""
        found[entry.name] = (status.st_mode, status.st_rdev, status.st_ino, target)
    return found


def ensure_refused(command_line, folder: Path, arguments: tuple[object, ...]) -> None:
    before = state(folder)
    done = command_line(*arguments, "--json")
    assert done.returncode in (1, 2), done.stderr
    assert "Traceback" not in done.stderr
    assert set(json.loads(done.stdout)["error"]) == {"problem", "fix", "command"}
    assert state(folder) == before


@pytest.mark.parametrize("kind", [*NODES, *LINKS, "dangling"])
@pytest.mark.parametrize("option", FILES)
def test_a_file_is_never_written_over_something_else(command_line, tmp_path: Path, option: str, kind: str) -> None:
    folder = tmp_path / "place"
    folder.mkdir()
    place = make(folder, kind)
    if option == "run --record":  # only names that end in .mp4 are videos
        place = place.rename(place.with_suffix(".mp4"))
    ensure_refused(command_line, folder, FILES[option](place))


@pytest.mark.parametrize("kind", [*NODES, *LINKS, "file", "file by link"])
@pytest.mark.parametrize("option", FOLDERS)
def test_a_folder_is_never_made_in_place_of_something_else(
    command_line, tmp_path: Path, option: str, kind: str
) -> None:
    folder = tmp_path / "place"
    folder.mkdir()
    ensure_refused(command_line, folder, FOLDERS[option](make(folder, kind)))


@pytest.mark.parametrize("name", ["last.pt", "metrics.csv"])
def test_a_file_of_a_training_run_is_checked_before_training(command_line, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    os.mkfifo(folder / name)
    ensure_refused(command_line, folder, ("train", "--dataset", "scenes", "--epochs", 1, "-o", folder))


@pytest.mark.parametrize("name", ["report.json", "report.md", "report.html", "report.png"])
def test_a_file_of_a_report_is_checked_before_measuring(command_line, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "report"
    folder.mkdir()
    os.mkfifo(folder / name)
    ensure_refused(command_line, folder, ("benchmark", "--rounds", 2, "--seconds", 0.05, "-o", folder))


def test_the_sidecar_of_an_engine_is_checked_before_building(command_line, tmp_path: Path) -> None:
    folder = tmp_path / "place"
    folder.mkdir()
    os.mkfifo(folder / "a.engine.json")
    ensure_refused(command_line, folder, ("build", "-o", folder / "a.engine"))


def test_an_engine_in_the_cache_is_not_written_over_a_device(
    command_line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    assert command_line("run", "--input", "demo", "--frames", 1, "--view", "none").returncode == 0
    (engine,) = cache.rglob("*.engine")
    engine.unlink()
    os.mkfifo(engine)
    before = state(engine.parent)
    done = command_line("run", "--input", "demo", "--frames", 1, "--view", "none")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert state(engine.parent) == before


def test_a_link_to_a_file_is_written_through(command_line, tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link.engine"
    file.write_bytes(b"old")
    link.symlink_to(file)
    assert command_line("build", "--precision", "fp32", "-o", link).returncode == 0
    assert link.is_symlink()
    assert file.stat().st_size > 1_000_000
    assert command_line("evaluate", link, "--dataset", "scenes", "--split", "val").returncode == 0


def test_export_takes_the_default_model(command_line, tmp_path: Path) -> None:
    done = command_line("export", "-o", tmp_path / "m.onnx", "--size", "96x96", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["input_hw"] == [96, 96]


INPUTS: dict[str, Callable[[Path], tuple[object, ...]]] = {
    "build of a model": lambda at: ("build", at / "m.onnx", "-o", at / "m.onnx"),
    "build of a checkpoint": lambda at: ("build", at / "m.pt", "-o", at / "m.pt"),
    "build by a link": lambda at: ("build", at / "m.onnx", "-o", at / "link.onnx"),
    "build of a table": lambda at: ("build", at / "m.onnx", "-o", at / "m.calib.json"),
    "build of a sidecar": lambda at: ("build", at / "m.onnx", "--calibration", at / "t.json", "-o", at / "t"),
    "build --search": lambda at: ("build", at / "m.onnx", "--search", "-o", at / "m.onnx"),
    "export": lambda at: ("export", at / "m.pt", "-o", at / "m.pt"),
    "calibrate": lambda at: ("calibrate", at / "m.onnx", "--dataset", "scenes", "-o", at / "m.onnx"),
    "pack": lambda at: ("pack", at / "m.pspnet", "-o", at / "m.pspnet"),
    "import": lambda at: ("import", at / "m.pt", "-o", at / "m.pt"),
    "adapt": lambda at: ("adapt", at / "theirs.onnx", "--classes", 11, "-o", at / "theirs.onnx"),
    "run --record": lambda at: ("run", at / "v.mp4", "--record", at / "v.mp4", "--view", "none"),
    "run --record of a URL": lambda at: ("run", f"file://{at}/v.mp4", "--record", at / "v.mp4", "--view", "none"),
    "run --stats": lambda at: ("run", at / "m.onnx", at / "v.mp4", "--stats", at / "m.onnx", "--view", "none"),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("inputs")
    shutil.copy(bundled.onnx_path(bundled.DEFAULT), place / "m.onnx")
    shutil.copy(bundled.checkpoint_path(bundled.DEFAULT), place / "m.pt")
    shutil.copy(bundled.table_path(bundled.DEFAULT) or "", place / "m.calib.json")
    shutil.copy(place / "m.calib.json", place / "t.json")
    (place / "link.onnx").symlink_to("m.onnx")
    onnx.save(theirs(), place / "theirs.onnx")
    photo = np.zeros((96, 128, 3), np.uint8)
    (place / "photos").mkdir()
    cv2.imwrite(str(place / "photos" / "a.png"), photo)
    pspnet_edge.pack(place / "m.onnx", place / "m.pspnet", images=place / "photos", precisions=["fp32"], golden=1)
    film = cv2.VideoWriter(str(place / "v.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (128, 96))
    for _ in range(3):
        film.write(photo)
    film.release()
    return place


@pytest.mark.parametrize("case", INPUTS)
def test_an_input_is_never_replaced(command_line, inputs: Path, case: str) -> None:
    before = {path: path.read_bytes() for path in inputs.iterdir() if path.is_file()}
    done = command_line(*INPUTS[case](inputs), "--json")
    assert done.returncode == 2, done.stderr
    assert json.loads(done.stdout)["error"]["problem"].endswith("is an input too, and would be replaced")
    assert {path: path.read_bytes() for path in inputs.iterdir() if path.is_file()} == before

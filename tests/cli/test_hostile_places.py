"""Every command where all goes wrong: it is told to end, nobody reads it, the disk is full, its child is killed.

It ends with a documented status and a sentence, without a traceback, and leaves no temporary file and no process.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer

from pspnet_edge.cli.main import app

from .in_processes import Case, Done, run_cases
from .test_outputs import FILES

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
MAY_FAIL = ("doctor", "selftest")  # they say what this machine lacks, in a table
FAST = ("--runtime", "onnxruntime", "--precision", "fp32")


def lines(seeds: Path, server: str) -> dict[str, list[str]]:
    """A quick call of each command that does all that it can do."""
    small, ours = f"{seeds}/small.onnx", ("--root", f"{seeds}/set")
    taught = ("--dataset", "folder", "--root", f"{seeds}/streets", "--epochs", "1", "--crop", "64x64", "--batch", "8")
    outputs = ("--record", "x.mp4", "--save-masks", "masks", "--save-overlays", "overlays", "--stats", "x.jsonl")
    called: dict[str, tuple[str, ...]] = {
        "models": (),
        "data check": ("folder", *ours, "--html", "x.html"),
        "data split": ("folder", "--root", "flat"),
        "data import": (f"{seeds}/exports/coco", "-o", "set"),
        "data fetch": ("camvid", "--root", "root", "--url", f"{server}/camvid.zip"),
        "train": (*taught, "--scenes-share", "0", "--samples", "1", "-o", "run"),
        "import": (f"{seeds}/old.pth", "-o", "x.pt"),
        "adapt": (f"{seeds}/foreign.onnx", "--classes", "4", "-o", "x.onnx"),
        "export": ("pspnet_lite0_camvid", "--size", "32x32", "-o", "x.onnx"),
        "calibrate": (small, *ours, "-o", "x.calib.json"),
        "build": (small, *FAST, "-o", "x.engine"),
        "evaluate": (small, *FAST, *ours),
        "benchmark": (small, *FAST, *ours, "--rounds", "2", "--seconds", "0.05", "-o", "report"),
        "plan": ("--board", "orin-nano", "--fps", "30"),
        "run": (f"{seeds}/onnxruntime.engine", "--input", f"{seeds}/film.avi", "--view", "none", *outputs),
        "pack": (small, "--golden", "1", "--precision", "fp32", "-o", "x.pspnet"),
        "deploy": (f"{seeds}/small.pspnet", "--home", "board", "--service", "none", "--measure", "0.1", *FAST),
        "doctor": (),
        "selftest": ("--only", "facts", "-o", "x.html"),
    }
    return {name: [*name.split(), *words, "--json"] for name, words in called.items()}


def commands_of(tree: Any, name: str = "") -> Iterator[str]:
    for word, below in getattr(tree, "commands", {}).items():
        yield from commands_of(below, f"{name} {word}".strip())
    if not hasattr(tree, "commands"):
        yield name


COMMANDS = list(commands_of(typer.main.get_command(app)))


# Python that a command's process executes before the command, in its working folder.

HOME = """
import os
for name, folder in (("HOME", "home"), ("TMPDIR", "tmp"), ("XDG_CACHE_HOME", "cache"), ("PSPNET_EDGE_HOME", "board")):
    os.environ[name] = os.path.join(root, folder)
os.environ.pop("XDG_DATA_HOME", None)
"""
# The signal comes at a step of the command, as from a terminal to all its processes; 0 counts the steps.
SIGNAL = """
import os, sys
steps = 0
def look(event, arguments):
    global steps
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        name = os.fsdecode(arguments[0])
        if name != counted and (not name.startswith("/") or name.startswith((root, seeds))):
            steps += 1
            if steps == at:
                os.killpg(0, number)
            if not at:
                with open(counted, "w") as file:
                    file.write(str(steps))
sys.addaudithook(look)
"""
UNREAD = "import os; reading, writing = os.pipe(); os.close(reading); os.dup2(writing, 1); os.close(writing)"
FULL_STDOUT = "import os; os.mknod(root + '/full', 0o020666, os.makedev(1, 7)); os.dup2(os.open(root + '/full', 1), 1)"
KILLED_CHILD = "from pspnet_edge import child; child._START = 'import os; os.kill(os.getpid(), 9)'"
POOR = """
import os, resource, sys
os.environ.pop("HOME")
os.environ["TMPDIR"] = os.path.join(root, "nowhere")
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
for descriptor, name in ((0, "stdin"), (1, "stdout")):  # as Python begins where they are closed
    os.close(descriptor)
    setattr(sys, name, None)
"""
GONE = "import os, shutil; shutil.rmtree(os.getcwd())"
SHORT_CHILD = (
    "from pspnet_edge import child; child._START = 'import resource; "
    "resource.setrlimit(resource.RLIMIT_AS, (30 << 20, 30 << 20)); ' + child._START"
)


@dataclass(frozen=True)
class Plight:
    """What is wrong with the place a command runs in.

    ``statuses`` are those that may come of it; ``full`` and ``readonly`` name folders that cannot be written.
    """

    before: str = ""
    statuses: tuple[int, ...] = (0, 1)
    full: tuple[str, ...] = ()
    readonly: tuple[str, ...] = ()
    signal: int = 0
    at: Callable[[int], int] = field(default=lambda steps: 0)
    silent: bool = False
    """Whether it may fail without a sentence."""
    heard: bool = True
    """Whether what it prints can be read."""


PLIGHTS = {
    "SIGINT at its first step": Plight(signal=signal.SIGINT, at=lambda steps: 1),
    "SIGTERM amid its work": Plight(signal=signal.SIGTERM, at=lambda steps: steps // 2 + 1),
    "SIGHUP at its last step": Plight(signal=signal.SIGHUP, at=lambda steps: steps),
    "the reader of its result is gone": Plight(UNREAD, silent=True, heard=False),
    "its result goes to a full device": Plight(FULL_STDOUT, heard=False),
    "a full disk": Plight(full=("work", "home", "tmp", "cache", "board")),
    "a full temporary folder": Plight(full=("tmp",)),
    "nothing may be written": Plight(readonly=("work", "home", "tmp", "cache", "board")),
    "outputs may not be written": Plight(readonly=("work",)),
    "no home, no temporary folder, no input, no output and 64 descriptors": Plight(POOR, heard=False),
    "a deleted working folder": Plight(GONE),
    "children are killed": Plight(KILLED_CHILD),
    "children have no memory": Plight(SHORT_CHILD),
}


@pytest.fixture(scope="module")
def kills() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return importlib.import_module("kills")


@pytest.fixture(scope="module")
def seeds(kills: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("inputs") / "seeds"
    kills.make_inputs(folder)
    make_old_checkpoint(folder)
    return folder


@pytest.fixture(scope="module")
def server(kills: Any, seeds: Path) -> Iterator[str]:
    with kills.serving(seeds / "served") as address:
        yield address


def make_old_checkpoint(folder: Path) -> None:
    """A checkpoint as PyTorch before 1.6 saved it, which is read in a child process."""
    import torch

    content = torch.load(folder / "foreign.pth", weights_only=True)
    torch.save(content, folder / "old.pth", _use_new_zipfile_serialization=False)


PLACES = ("work", "home", "tmp", "cache", "board")


def make_place(root: Path, seeds: Path) -> None:
    for name in PLACES:
        (root / name).mkdir(parents=True)
    for kind in ("images", "masks"):
        shutil.copytree(seeds / "set" / kind / "train", root / "work/flat" / kind)
    shutil.copy(seeds / "set/classes.txt", root / "work/flat/classes.txt")


@contextlib.contextmanager
def made_hostile(plight: Plight, root: Path) -> Iterator[None]:
    """Mount what is full, or cannot be written; what is in a folder is still there."""
    with contextlib.ExitStack() as mounted:
        for name in (*plight.full, *plight.readonly):
            place, kept = root / name, root / "kept"
            place.rename(kept)
            place.mkdir()
            mount("-t", "tmpfs", "-o", "size=64k", "none", place)
            mounted.callback(subprocess.run, ["umount", "-l", place], check=True)
            shutil.copytree(kept, place, dirs_exist_ok=True)
            shutil.rmtree(kept)
            if name in plight.readonly:
                mount("-o", "remount,ro", place)
            else:
                with contextlib.suppress(OSError), (place / "filler").open("wb") as filler:
                    while True:
                        filler.write(bytes(512))
                        filler.flush()
        yield


def mount(*arguments: object) -> None:
    if subprocess.run(["mount", *map(str, arguments)], check=False, capture_output=True).returncode:
        raise PermissionError("mount")


FROM_OTHERS = ("filler", "torchinductor_")
"""What is in a temporary folder by right: what fills it, and PyTorch's cache."""


def left_in(root: Path) -> list[str]:
    """Temporary files, ours or anybody's, that are still there."""
    found = [path for path in root.rglob("*") if "~pspnet-edge" in path.name]
    found += [path for path in (root / "tmp").iterdir() if not path.name.startswith(FROM_OTHERS)]
    return [str(path.relative_to(root)) for path in found]


def processes_of(root: Path) -> list[str]:
    """What still runs of a place."""
    mark, found = f"HOME={root}/home".encode(), []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()[-200:])
    return found


def faults_of(name: str, done: Done, plight: Plight, root: Path) -> list[str]:
    """What is wrong; ``run`` may end as after its last frame when a signal comes between frames."""
    faults = []
    ended = (128 + plight.signal,) if plight.signal else plight.statuses
    if done.returncode not in ended and not (plight.signal and name == "run" and not done.returncode):
        faults.append(f"status {done.returncode}")
    if re.search(r"Traceback|Exception ignored|internal error|the system refused", done.stderr):
        faults.append("a traceback, or a fault behind a sentence")
    lines = done.stderr.splitlines()
    if (
        done.returncode
        and not plight.silent
        and name not in MAY_FAIL
        and not (lines and lines[-1].startswith("pspnet-edge: "))
    ):
        faults.append("no sentence")
    if plight.heard:
        try:
            json.loads(done.stdout)
        except ValueError:
            faults.append(f"not one JSON object: {done.stdout[:100]!r}")
    faults += [f"left: {name}" for name in left_in(root)]
    faults += [f"runs: {words}" for words in processes_of(root)]
    return [f"{fault}; said {done.stderr[-500:]!r}" for fault in faults]


def told(case: str, root: Path, **more: object) -> str:
    """Python to execute before a command, with what it needs filled in."""
    names = {"root": str(root), **more}
    head = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    return head + HOME + case


LOADED = "numpy,cv2,onnx,torch,matplotlib.figure,onnxruntime,av"


@pytest.fixture(scope="module")
def steps(seeds: Path, server: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """How many steps each command has, undisturbed; it succeeds."""
    root, said = tmp_path_factory.mktemp("undisturbed"), tmp_path_factory.mktemp("said")
    cases = []
    for name, line in lines(seeds, server).items():
        place = root / name.replace(" ", "-")
        make_place(place, seeds)
        counting = told(SIGNAL, place, at=0, number=0, seeds=str(seeds), counted=str(place / "steps"))
        cases.append(Case(line, str(place / "work"), counting))
    counted, failed = {}, {}
    ended = run_cases(cases, said, loaded=LOADED, limit_s=300)
    for case, name, done in zip(cases, lines(seeds, server), ended, strict=True):
        place = Path(case.folder).parent
        if done.returncode not in ((0, 1) if name in MAY_FAIL else (0,)) or left_in(place):
            failed[name] = (done, left_in(place))
        counted[name] = int((place / "steps").read_text()) if (place / "steps").exists() else 0
    assert failed == {}
    return counted


def test_every_command_has_a_line(seeds: Path) -> None:
    assert sorted(lines(seeds, "http://127.0.0.1:9")) == sorted(COMMANDS)


COSTLY = ("train", "import", "export", "benchmark")
COSTLY_PLIGHTS = ("SIGTERM amid its work", "a full disk", "outputs may not be written", "children are killed")


@pytest.fixture(scope="module")
def faults(
    steps: dict[str, int], seeds: Path, server: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, list[str]] | None]:
    """What was wrong with each command in each plight; None for a plight that this user may not bring about."""
    cases: dict[tuple[str, str], Case] = {}
    found: dict[str, dict[str, list[str]] | None] = {plight: {} for plight in PLIGHTS}
    base = tmp_path_factory.mktemp("plights")
    with contextlib.ExitStack() as mounted:
        for number, (plight, wrong) in enumerate(PLIGHTS.items()):
            for name, line in lines(seeds, server).items():
                if (name in COSTLY and plight not in COSTLY_PLIGHTS) or (wrong.signal and not steps[name]):
                    continue
                root = base / f"{number}-{name.replace(' ', '-')}"
                make_place(root, seeds)
                try:
                    mounted.enter_context(made_hostile(wrong, root))
                except PermissionError:
                    found[plight] = None
                    break
                before: str = wrong.before
                more: dict[str, object] = {}
                if wrong.signal:
                    at = wrong.at(steps[name])
                    before, more = SIGNAL, {"at": at, "number": int(wrong.signal), "seeds": str(seeds), "counted": ""}
                cases[plight, name] = Case(line, str(root / "work"), told(before, root, **more))
        ended = run_cases(list(cases.values()), tmp_path_factory.mktemp("ended"), loaded=LOADED, limit_s=300)
        for ((plight, name), case), done in zip(cases.items(), ended, strict=True):
            of_plight, wrong = found[plight], PLIGHTS[plight]
            if of_plight is not None and (bad := faults_of(name, done, wrong, Path(case.folder).parent)):
                of_plight[name] = bad
    return found


@pytest.mark.parametrize("plight", PLIGHTS)
def test_no_command_breaks(plight: str, faults: dict[str, dict[str, list[str]] | None]) -> None:
    if faults[plight] is None:
        pytest.skip("mounting a small tmpfs is not allowed here")
    assert faults[plight] == {}, json.dumps(faults[plight], indent=1)


def test_every_output_is_written_through_a_link(seeds: Path, server: str, tmp_path: Path) -> None:
    """The link stays, and the ordinary file that it leads to is replaced, whatever its suffix."""
    cases: dict[str, Case] = {}
    said = tmp_path / "said"
    said.mkdir()
    for option in FILES:
        name, _, flag = option.rpartition(" ")
        line = lines(seeds, server)[name]
        root = tmp_path / option.replace(" ", "")
        make_place(root, seeds)
        given = line[line.index(flag) + 1]
        (root / "home/kept").write_bytes(b"{}\n")
        (root / "work" / given).symlink_to(root / "home/kept")
        cases[option] = Case(line, str(root / "work"), told("", root))
    ended = run_cases(list(cases.values()), said, loaded=LOADED, limit_s=300)
    for (option, case), done in zip(cases.items(), ended, strict=True):
        place = Path(case.folder)
        given = place / case.arguments[case.arguments.index(option.rpartition(" ")[2]) + 1]
        kept = place.parent / "home/kept"
        assert done.returncode == 0, (option, done)
        assert given.is_symlink(), option
        assert given.readlink() == kept, option
        assert kept.is_file(), option
        assert not kept.is_symlink(), option
        assert kept.read_bytes() != b"{}\n", option
        assert left_in(place.parent) == [], option


def test_names_in_any_script_work_where_the_locale_is_ascii(seeds: Path, tmp_path: Path) -> None:
    """In processes of their own, since Python looks at the locale when it starts."""
    folder = tmp_path / "Straße 道路"
    shutil.copytree(seeds / "set", folder / "Bilder für 車")
    shutil.copy(seeds / "small.onnx", folder / "größe.onnx")
    calls = {
        "calibrate": ("größe.onnx", "--root", "Bilder für 車", "-o", "größe.calib.json"),
        "build": ("größe.onnx", *FAST, "-o", "größe.engine"),
        "run": ("größe.engine", "--input", "Bilder für 車/images/val", "--view", "none", "--save-masks", "masken 車"),
        "data check": ("folder", "--root", "Bilder für 車"),
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    for name, words in calls.items():
        done = subprocess.run(
            [sys.executable, "-m", "pspnet_edge", *name.split(), *words, "--json"],
            cwd=folder,
            env={**environment, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, (name, done.stderr)
        json.loads(done.stdout)
    assert len(list((folder / "masken 車").iterdir())) >= 2

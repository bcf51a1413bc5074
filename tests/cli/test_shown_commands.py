"""What README and the pages show works, and so does what README of 0.1 showed."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import cv2
import pytest
import typer

from pspnet_edge import bundled
from pspnet_edge.cli.arguments import command_at
from pspnet_edge.cli.main import app
from pspnet_edge.data.datasets import SceneSet
from pspnet_edge.labels import CAMVID

from .in_processes import Done, run_all
from .shown import FORMER, OF_0_1, arguments_of, mentioned_commands, shown_commands

TREE = typer.main.get_command(app)
SHOWN = shown_commands()


def test_enough_is_found() -> None:
    pages = set(SHOWN.values())
    assert len(SHOWN) > 50
    assert {"README.md", "own_data.md", "deploy.md", "training.md", "web.md"} <= pages
    assert len(mentioned_commands()) > 20


@pytest.mark.parametrize("line", dict.fromkeys([*SHOWN, *OF_0_1, *FORMER]))
def test_a_command_is_parsed(line: str) -> None:
    arguments = arguments_of(line)
    command = command_at(TREE, arguments)
    if command is TREE or "--help" in arguments:
        return
    depth = 2 if arguments[0] in ("data",) else 1
    with command.make_context(command.name, arguments[depth:]) as context:
        assert context.params


@pytest.mark.parametrize("line", mentioned_commands())
def test_a_mention_names_a_command_and_its_options(line: str) -> None:
    words = line.split()[1:]
    command = command_at(TREE, words)
    names = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    options = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert options <= names | {"--help", "-v", "-vv", "--version", "--install-completion"}
    assert command is not TREE or words[0].startswith("-") or words[0] == "COMMAND"


def why_only_parsed(arguments: list[str]) -> str | None:
    """Why a line is not run here; None where it is."""
    command, text = arguments[0], " ".join(arguments)
    if any(word in text for word in ("--camera 0", "csi://", "--active", "--to ", "--fleet", "--runtime tensorrt")):
        return "it needs a camera, a board or a GPU"
    if command == "run" and "--input demo" in text and "--frames" not in arguments:
        return "it runs until it is stopped"
    if command in ("train", "selftest") or (command == "benchmark" and "--estimate" not in arguments):
        return "it takes minutes"
    if command.startswith("-"):
        return "it changes the files of the user's shell"
    if any(word.partition("/")[0] in ("FILE", "DIR", "ENGINE", "CHECKPOINT", "BOARD", "RUN") for word in arguments):
        return "it names no real file"
    if any(word in text for word in ("theirs.pth", "ours.pt", "segformer.", "road.", "-qat/", "-int8/", "255=")):
        return "it begins with what a longer or another training made"
    if "pack_key" in text or "triton" in text or arguments[:2] == ["data", "split"]:
        return "tests of its own do"
    return None


def _shape(arguments: list[str]) -> tuple[str, ...]:
    """Command and options without their values: one line of each shape is run."""
    plain = ("--json", "--dataset", "--size", "--split", "-o")
    options = {word for word in arguments if word.startswith("-") and word not in plain}
    return (*arguments[: 2 if arguments[0] == "data" else 1], *sorted(options))


def lines_to_run() -> list[str]:
    order = ("models", "plan", "data import", "data check", "export", "calibrate", "build", "pack", "evaluate", "run")
    lines = [line for line in [*SHOWN, *OF_0_1] if why_only_parsed(arguments_of(line)) is None]
    shapes = {_shape(arguments_of(line)): line for line in reversed(lines)}
    places = {line: [" ".join(arguments_of(line)).startswith(start) for start in order] for line in shapes.values()}
    return sorted(shapes.values(), key=lambda line: places[line].index(True) if True in places[line] else len(order))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages take for granted."""
    folder = tmp_path_factory.mktemp("work")
    scenes = SceneSet("val")
    camvid, listed = folder / "CamVid", []
    with zipfile.ZipFile(folder / "export.zip", "w") as export:
        export.writestr("classes.txt", "\n".join(CAMVID.classes))
        for index in range(5):
            image, mask = scenes[index * 5]
            for kind, pixels in (("images", image), ("masks", mask)):
                png = cv2.imencode(".png", pixels)[1].tobytes()
                export.writestr(f"{kind}/{index}.png", png)
                (camvid / kind).mkdir(parents=True, exist_ok=True)
                (camvid / kind / f"{index}.png").write_bytes(png)
            listed.append(f"/images/{index}.png /masks/{index}.png")
    for split in ("train", "val", "test"):
        (camvid / f"{split}.txt").write_text("\n".join(listed))
    shutil.copy(folder / "export.zip", folder / "cvat_export.zip")
    for place in ("runs/mine/best.pt", "mine.pt"):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(bundled.checkpoint_path(bundled.DEFAULT), folder / place)
    video = cv2.VideoWriter(str(folder / "video.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 30, (480, 360))
    for index in range(3):
        video.write(scenes[index][0])
    video.release()
    (folder / "LICENSE").write_text("for tests")
    kept = Path(__file__).parents[2] / "benchmarks" / "checkpoints"
    shutil.copytree(kept, folder / "benchmarks" / "checkpoints")
    return folder


@pytest.mark.slow
def test_what_is_shown_does_its_work(work: Path, tmp_path: Path) -> None:
    lines = lines_to_run()
    assert len(lines) > 12
    done = run_all([arguments_of(line) for line in lines], work, tmp_path, limit_s=300)
    failed = {
        line: (one.returncode, one.stderr[-300:])
        for line, one in zip(lines, done)
        if one.returncode not in ((0, 1) if "doctor" in line else (0,)) or "Traceback" in one.stderr
    }
    assert failed == {}
    for name in ("mine.onnx", "mine.calib.json", "mine.engine", "pspnet.engine", "overlay.mp4", "check.html"):
        assert (work / name).exists(), name


@pytest.fixture(scope="module")
def former(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    folder, said = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("said")
    return dict(zip(FORMER, run_all([arguments_of(line) for line in FORMER], folder, said, loaded="numpy,cv2,onnx")))


@pytest.mark.slow
@pytest.mark.parametrize("line", FORMER)
def test_a_former_spelling_is_understood_and_said_to_be_old_in_one_line(former: dict[str, Done], line: str) -> None:
    said = former[line].stderr.strip().splitlines()
    assert sum(FORMER[line] in entry for entry in said) == 1
    assert len(said) == 2, "the warning, and that there is no such file, camera or data set"

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .benchmark_command import benchmark
from .chromium import MEND, chromium_path, headless_chromium
from .processor_cuda import cuda_h, processor_cuda  # noqa: F401

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from torch import nn

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def camvid_root() -> Path:
    root = Path(os.environ.get("CAMVID_ROOT", SHARED / "camvid"))
    if not (root / "test.txt").is_file():
        pytest.skip(f"CamVid is not at {root}: set CAMVID_ROOT to its folder")
    return root


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Engines that tests build by default stay out of the user's cache."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def few_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled folder of four small street scenes; a name and a class try to break out of the page."""
    import cv2

    from pspnet_edge.data.datasets import SceneSet
    from pspnet_edge.labels import CAMVID

    root = tmp_path_factory.mktemp("scenes")
    scenes = SceneSet("test")
    for index in range(4):
        image, mask = scenes[index * 20]
        for kind, content in (("images", image), ("masks", mask)):
            path = root / kind / "test" / f"<b>{index}&.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), content)
    (root / "classes.txt").write_text("\n".join(CAMVID.classes))
    return root


@pytest.fixture(scope="session")
def small_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of layout ``folder``: 30 images to train and 2 to validate, 120×160."""
    import cv2

    from pspnet_edge.data.scenes import Drive
    from pspnet_edge.labels import CAMVID

    root = tmp_path_factory.mktemp("scenes")
    for split, count, first in (("train", 30, 0), ("val", 2, 90)):
        for index in range(count):
            frame = Drive(first + index, (120, 160)).frame(7 * index)
            for folder, content in (("images", frame.image), ("masks", frame.mask)):
                path = root / folder / split / f"{index:02d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), content)
    (root / "classes.txt").write_text("\n".join(CAMVID.classes))
    return root


@pytest.fixture(scope="session")
def small_report(few_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Folder and JSON of a real, short benchmark: FP32 and INT8 in OpenVINO."""
    folder = tmp_path_factory.mktemp("report")
    options = ("--precision", "fp32,int8", "--runtime", "openvino", "--rounds", 2, "--seconds", 0.05)
    data = ("--dataset", "folder", "--root", few_scenes, "--split", "test")
    done = benchmark(*options, *data, "--estimate", "orin-nano", "-o", folder / "out", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "out", json.loads(done.stdout)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A headless browser; ``chromium.new_page()`` gives a page."""
    path = chromium_path()
    if path is None:
        pytest.skip(f"there is no Chromium: {MEND}")
    with headless_chromium(path) as browser:
        yield browser


@pytest.fixture(scope="session")
def randomise_norms() -> Callable[[nn.Module], None]:
    """Give every BatchNorm random statistics and weights, so that one that is lost or misplaced shows."""
    from torch import nn

    def randomise(model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
                nn.init.uniform_(module.weight, 0.2, 0.6)  # residual blocks would blow larger ones up
                nn.init.normal_(module.bias, std=0.1)

    return randomise


@pytest.fixture
def full_device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A device of the test's own on which every write fails for lack of space."""
    path = tmp_path_factory.mktemp("device") / "full"
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 7))
        path.write_bytes(b"")
    except OSError as error:
        pytest.skip(f"this user may not make device nodes: {error}")
    return path


CommandLine = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command_line(tmp_path: Path) -> CommandLine:
    """Run ``pspnet-edge`` as a user does, in an empty folder."""
    folder = tmp_path / "work"
    folder.mkdir()

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pspnet_edge", *map(str, arguments)]
        environment = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)

    return run

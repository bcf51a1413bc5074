from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest

from pspnet_edge.data.datasets import SceneSet
from pspnet_edge.labels import CAMVID


@pytest.fixture(scope="session")
def few_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled folder of four small street scenes; a name and a class try to break out of the page."""
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


def benchmark(*arguments: object, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pspnet_edge", "benchmark", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=600
    )


@pytest.fixture(scope="session")
def small_report(few_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Folder and JSON of a real, short benchmark: FP32 and INT8 in OpenVINO."""
    folder = tmp_path_factory.mktemp("report")
    options = ("--precision", "fp32,int8", "--runtime", "openvino", "--rounds", 2, "--seconds", 0.05)
    data = ("--dataset", "folder", "--root", few_scenes, "--split", "test")
    done = benchmark(*options, *data, "--estimate", "orin-nano", "-o", folder / "out", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "out", json.loads(done.stdout)

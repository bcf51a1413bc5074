"""What is made of the steps of the emulated ARM64 machine. `make arm64` makes it, and fails when a step does."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pspnet_edge import processor
from pspnet_edge.engine import onnxruntime as backend

from ..engine.test_exact_int8 import CHANNELS, quantized_convolution
from .conftest import JETSON, Board

SCRIPT = JETSON / "try_arm64.sh"


@pytest.fixture(scope="module")
def arm64_result() -> ModuleType:
    spec = importlib.util.spec_from_file_location("arm64_result", JETSON / "arm64_result.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_refuses_what_it_cannot_emulate(board: Board) -> None:
    done = board.run("try_arm64.sh", str(board.root / "machine"))
    assert done.returncode == 1
    assert "the computer is aarch64: on ARM64 run jetson/setup.sh" in done.stderr
    board.environment["FAKE_MACHINE"] = "x86_64"
    done = board.run("try_arm64.sh", str(board.root / "machine"))
    assert done.returncode == 1
    assert "run it with sudo" in done.stderr
    assert not (board.root / "machine").exists()


def test_proot_gets_only_calls_that_it_knows(tmp_path: Path) -> None:
    """Under the filter, ``statx`` does not exist, and what falls back to an older call works."""
    found = re.search(r"readonly WITHOUT_NEWER_CALLS='\n(.*?)\n'\n", SCRIPT.read_text(), re.DOTALL)
    assert found
    tried = (
        "import ctypes, os; libc = ctypes.CDLL(None, use_errno=True); "
        "print(libc.syscall(332, 0, b'/', 0, 0, 0), ctypes.get_errno()); "
        "os.rename('old', 'new'); print(os.listdir('.'), os.access('new', os.R_OK, effective_ids=True))"
    )
    (tmp_path / "old").touch()
    command = [sys.executable, "-c", found[1], sys.executable, "-c", tried]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["-1 38", "['new'] True"], done.stderr


@pytest.mark.parametrize("code", [np.uint8, np.int8])
@pytest.mark.parametrize(("kernel", "groups"), [(1, 1), (3, 1), (3, CHANNELS)])
def test_unsigned_weights_have_whole_sums_on_every_processor(
    arm64_result: ModuleType, kernel: int, groups: int, code: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Products of the largest codes: where two of them were added in int16, the sum would be short by a half."""
    content = quantized_convolution(kernel, groups, code)
    values = {one.name: numpy_helper.to_array(one) for one in onnx.load_model_from_string(content).graph.initializer}
    weights = np.rint(values["w"] * 127).astype(int)
    largest = np.iinfo(code).max
    inputs = np.random.default_rng(1).integers(largest - 20, largest + 1, (CHANNELS, 16, 16))
    windows = np.lib.stride_tricks.sliding_window_view(inputs, (kernel, kernel), (1, 2))
    each = "chwij,cij->chw" if groups == CHANNELS else "chwij,ocij->ohw"
    sums = np.einsum(each, windows, weights[:, 0] if groups == CHANNELS else weights)
    expected = np.rint(sums / largest / 127 / values["y_scale"])
    monkeypatch.setattr(backend, "as_computed_here", arm64_result.with_unsigned_weights)
    session = backend.OnnxRuntimeSession(content, "sums", "int8")
    found = session.infer((inputs / largest).astype(np.float32)[None])[0] / values["y_scale"]
    inner = slice(kernel // 2, 16 - kernel // 2)
    # A sum halfway between two codes may become either.
    assert np.abs(found[:, inner, inner] - expected).max() < 1.01
    assert np.mean(np.abs(found[:, inner, inner] - expected) < 0.01) > 0.999


@pytest.mark.parametrize("fits", [True, False])
def test_x86_without_vnni_gets_the_sums_of_arm64(
    arm64_result: ModuleType, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []
    monkeypatch.setattr(processor, "int8_sums_fit", lambda: fits)
    monkeypatch.setattr(arm64_result, "command_line", lambda: called.append((sys.argv[1:], backend.as_computed_here)))
    monkeypatch.setattr(sys, "argv", [])
    own = backend.as_computed_here
    assert arm64_result.main("edge", "run", "an.engine") == 0
    assert called == [(["run", "an.engine"], own if fits else arm64_result.with_unsigned_weights)]
    assert backend.as_computed_here is own


def write_masks(folder: Path, changed_pixels: int = 0, frames: int = 2) -> Path:
    folder.mkdir(parents=True)
    for frame in range(frames):
        mask = np.zeros((100, 100), np.uint8)
        mask.reshape(-1)[:changed_pixels] = 7
        cv2.imwrite(str(folder / f"{frame}.png"), mask)
    return folder


def test_pixels_are_compared_mask_by_mask(arm64_result: ModuleType, tmp_path: Path) -> None:
    first = write_masks(tmp_path / "first")
    assert arm64_result.equal_pixels(first, write_masks(tmp_path / "same")) == 1
    assert arm64_result.equal_pixels(first, write_masks(tmp_path / "other", 50)) == pytest.approx(0.995)
    with pytest.raises(arm64_result.Wrong, match="do not hold the same masks"):
        arm64_result.equal_pixels(first, write_masks(tmp_path / "fewer", frames=1))
    (tmp_path / "empty").mkdir()
    with pytest.raises(arm64_result.Wrong):
        arm64_result.equal_pixels(tmp_path / "empty", tmp_path / "empty")


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    """A folder as the demo and the installation by pip leave it."""
    (tmp_path / "steps").mkdir()
    home = tmp_path / "machine/root/trial"
    write_masks(home / "masks")
    write_masks(tmp_path / "here/masks")
    write_film(home / "demo.mp4", 2)
    leave(tmp_path, "demo", 0, {"frames": 2})
    versions = {
        "numpy": "1.24.2 in /usr/lib/python3/dist-packages/numpy",
        "cv2": "4.6.0 in /usr/lib/python3/dist-packages",
    }
    leave(tmp_path, "pip", 0, versions)
    return tmp_path


def write_film(path: Path, pictures: int) -> None:
    film = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 5, (64, 64))
    for _ in range(pictures):
        film.write(np.zeros((64, 64, 3), np.uint8))
    film.release()


def leave(folder: Path, name: str, status: int, printed: object, error: str = "") -> None:
    (folder / "steps" / f"{name}.status").write_text(f"{status} 12\n")
    (folder / "steps" / f"{name}.out").write_text(json.dumps(printed))
    (folder / "steps" / f"{name}.err").write_text(error)


def test_steps_that_hold_pass(arm64_result: ModuleType, trial: Path) -> None:
    judged = [arm64_result.judge(arm64_result.Trial(trial), name) for name in ("demo", "pip")]
    assert [step["state"] for step in judged] == ["pass", "pass"]
    assert "100.000% of the pixels equal to x86; 2 recorded" in judged[0]["says"]
    assert judged[0]["seconds"] == 12


@pytest.mark.parametrize(
    ("segmented", "recorded", "state"), [(5, 5, "pass"), (5, 6, "pass"), (5, 4, "fail"), (4, 5, "fail")]
)
def test_a_camera_is_recorded_frame_by_frame(
    arm64_result: ModuleType, trial: Path, segmented: int, recorded: int, state: str
) -> None:
    write_film(trial / "machine/root/trial/camera.mp4", recorded)
    leave(trial, "camera", 0, {"frames": segmented})
    assert arm64_result.judge(arm64_result.Trial(trial), "camera")["state"] == state


def test_each_fault_fails_its_step(arm64_result: ModuleType, trial: Path) -> None:
    def says(name: str) -> str:
        judged = arm64_result.judge(arm64_result.Trial(trial), name)
        assert judged["state"] == "fail"
        return str(judged["says"])

    cv2.imwrite(str(trial / "machine/root/trial/masks/0.png"), np.full((100, 100), 3, np.uint8))
    assert "only 50.000% of the pixels are those of x86" in says("demo")
    (trial / "machine/root/trial/demo.mp4").unlink()
    write_masks(trial / "again")
    (trial / "again/0.png").replace(trial / "machine/root/trial/masks/0.png")
    assert "0 of 2 frames were recorded" in says("demo")
    leave(trial, "pip", 1, {}, "ImportError: numpy.core.multiarray failed to import\n")
    assert "exit status 1" in says("pip")
    leave(trial, "pip", 0, {"numpy": "2.4.6 in /root/pip/numpy", "cv2": "5.0.0 in /root/pip/cv2"})
    assert "not the system's" in says("pip")
    (trial / "steps/pip.out").write_text("no JSON")
    says("pip")

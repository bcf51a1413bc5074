"""The set-up script against a faked JetPack."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import PYTHON, Board

DEBIAN = ["python3-venv", "python3-numpy", "python3-libnvinfer", "python3-gi"]
JETPACKS = {
    "JetPack 6": ("36.4.3-20250107174145", "3.10", {"numpy": "1.21.5", "cv2": "4.8.0", "tensorrt": "10.3.0"}),
    "JetPack 7": (
        "38.2.1-20250925224711",
        "3.12",
        {"numpy": "1.26.4", "cv2": "4.6.0", "tensorrt": "10.13.3.9"},
    ),
}


def flashed(board: Board, name: str) -> Board:
    l4t, python, modules = JETPACKS[name]
    board.environment |= {"FAKE_L4T": l4t, "FAKE_PYTHON": python}
    board.stand_in(f"python{python}", PYTHON)
    board.stand_in("python3", PYTHON)
    for module, version in modules.items():
        (board.root / "dist" / f"{module}.py").write_text(f"__version__ = '{version}'\n")
    return board


@pytest.fixture
def orin(board: Board) -> Board:
    return flashed(board, "JetPack 6")


@pytest.mark.parametrize("name", JETPACKS)
def test_it_installs_and_the_second_time_changes_nothing(board: Board, name: str) -> None:
    flashed(board, name)
    modules = JETPACKS[name][2]
    first = board.run("setup.sh", str(board.venv))
    assert first.returncode == 0, first.stderr
    for module, version in modules.items():
        assert f"  {module} {version} {board.root}/dist/{module}.py" in first.stdout
    assert "doctor ran" in first.stdout
    calls = board.calls()
    (added,) = [call for call in calls if call.startswith("apt-get install")]
    assert added.startswith("apt-get install -y --no-upgrade --no-remove --no-install-recommends ")
    assert set(DEBIAN) <= set(added.split())
    assert not any("opencv" in call for call in calls if call.startswith("apt-get"))
    assert [call.split()[1] for call in calls if call.startswith("sudo")] == ["apt-get", "apt-get"]
    pip = [call for call in calls if "-m pip install" in call]
    assert len(pip) == 1
    assert all(f"--constraint {board.venv}/jetpack.constraints.txt" in call for call in pip)
    assert (board.venv / "jetpack.constraints.txt").read_text() == f"numpy=={modules['numpy']}\n"

    before = sorted(path for path in board.venv.rglob("*"))
    again = board.run("setup.sh", str(board.venv))
    assert again.returncode == 0, again.stderr
    calls = board.calls()
    assert not any(word in call for call in calls for word in ("apt-get", "sudo", "-m venv"))
    assert sorted(board.venv.rglob("*")) == before


@pytest.mark.parametrize(("nvidia", "package"), [("", "libopencv-python"), ("none", "python3-opencv")])
def test_opencv_is_added_only_where_there_is_none(orin: Board, nvidia: str, package: str) -> None:
    (orin.root / "dist/cv2.py").unlink()
    done = orin.run("setup.sh", str(orin.venv), FAKE_NO_NVIDIA_OPENCV=nvidia)
    assert done.returncode == 0, done.stderr
    (added,) = [call for call in orin.calls() if call.startswith("apt-get install")]
    assert package in added.split()


def test_pythonpath_does_not_reach_it(orin: Board) -> None:
    (orin.root / "own").mkdir()
    (orin.root / "own/numpy.py").write_text("__version__ = '0.0'")
    done = orin.run("setup.sh", str(orin.venv), PYTHONPATH=str(orin.root / "own"))
    assert done.returncode == 0, done.stderr
    assert "numpy 1.21.5" in done.stdout


def blind_venv(board: Board) -> None:
    (board.venv / "bin").mkdir(parents=True)
    (board.venv / "bin/python").symlink_to(board.root / "bin/python3")
    (board.venv / "pyvenv.cfg").write_text("include-system-site-packages = false\n")


def without(name: str) -> Callable[[Board], None]:
    return lambda board: (board.root / name).unlink()


def says(**environment: str) -> Callable[[Board], None]:
    return lambda board: board.environment.update(environment)


REFUSALS = {
    "a PC": (says(FAKE_MACHINE="x86_64"), "this is not a Jetson but a x86_64 machine"),
    "another Arm board": (
        says(FAKE_L4T=""),
        "this is not a Jetson: it has no package nvidia-l4t-core: on another Arm board run",
    ),
    "JetPack 5": (says(FAKE_L4T="35.4.1-20230801124926"), "belongs to JetPack 5 or earlier"),
    "no room": (says(FAKE_FREE="1000000"), "976 MiB are free"),
    "another Python": (says(FAKE_PYTHON="3.11"), "is not Python 3.10"),
    "inside a venv": (says(FAKE_OUTSIDE_VENV="False"), "is in a venv already"),
    "apt would remove something": (says(FAKE_APT_FAILS="yes"), "without removing or changing what JetPack installed"),
    "no TensorRT": (without("dist/tensorrt.py"), "tensorrt cannot be imported (No module named 'tensorrt')"),
    "a venv that does not see the system": (blind_venv, "does not see JetPack's packages"),
    "NumPy put before JetPack's": (says(FAKE_SHADOW="numpy"), "another package comes before JetPack's"),
    "OpenCV put before JetPack's": (says(FAKE_SHADOW="cv2"), "another package comes before JetPack's"),
}
AFTER_THE_VENV = ("NumPy put", "OpenCV put", "a venv")


@pytest.mark.parametrize("name", REFUSALS)
def test_each_refusal_is_one_sentence(orin: Board, name: str) -> None:
    breaks, sentence = REFUSALS[name]
    breaks(orin)
    done = orin.run("setup.sh", str(orin.venv))
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("setup: ")
    assert sentence in last
    assert "\n" not in last
    assert "setup: done" not in done.stdout
    assert orin.venv.exists() == name.startswith(AFTER_THE_VENV)


def test_a_newer_jetson_linux_goes_on_and_says_so(board: Board) -> None:
    flashed(board, "JetPack 7")
    done = board.run("setup.sh", str(board.venv), FAKE_L4T="40.1.0-20270101")
    assert done.returncode == 0, done.stderr
    assert "is newer than this script knows" in done.stdout


def test_what_it_installs_is_this_clone(orin: Board) -> None:
    assert orin.run("setup.sh", str(orin.venv)).returncode == 0
    clone = Path(__file__).resolve().parents[2]
    assert any(call.endswith(f" {clone}[web]") for call in orin.calls())
    assert orin.run("setup.sh", str(orin.venv), "/w/pspnet_edge.whl").returncode == 0
    assert any(call.endswith(" /w/pspnet_edge.whl[web]") for call in orin.calls())


@pytest.mark.parametrize("python", ["3.11", "3.13"])
def test_without_jetpack_the_steps_are_the_same(board: Board, python: str) -> None:
    """Neither NVIDIA's packages nor TensorRT are there; OpenCV and NumPy stay, and ONNX Runtime runs engines."""
    board.environment |= {"FAKE_PYTHON": python, "FAKE_NO_NVIDIA_OPENCV": "none"}
    board.stand_in("python3", PYTHON)
    (board.root / "dist/numpy.py").write_text("__version__ = '1.24.2'\n")
    done = board.run("setup.sh", "--without-jetpack", str(board.venv))
    assert done.returncode == 0, done.stderr
    assert f"  numpy 1.24.2 {board.root}/dist/numpy.py" in done.stdout
    assert f"  cv2 4.8.0 {board.root}/dist/cv2.py" in done.stdout
    (added,) = [call.split()[6:] for call in board.calls() if call.startswith("apt-get install")]
    assert set(added) == {"python3-venv", "python3-numpy", "python3-gi", "python3-gst-1.0", "python3-opencv"}
    (pip,) = [call for call in board.calls() if "-m pip install" in call]
    assert pip.endswith("[onnxruntime,web]")
    assert f"--constraint {board.venv}/jetpack.constraints.txt" in pip


def test_without_jetpack_what_comes_before_the_system_is_found(board: Board) -> None:
    board.environment |= {"FAKE_PYTHON": "3.12", "FAKE_SHADOW": "numpy"}
    board.stand_in("python3", PYTHON)
    for module in ("numpy", "cv2"):
        (board.root / "dist" / f"{module}.py").write_text("__version__ = '1.26.4'\n")
    done = board.run("setup.sh", "--without-jetpack", str(board.venv))
    assert done.returncode == 1
    assert "another package comes before the system's" in done.stderr.strip().splitlines()[-1]

"""``pspnet-edge doctor`` on the machine that runs the tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pspnet_edge import bundled
from pspnet_edge.doctor.examine import CHECKS
from pspnet_edge.engine.tensorrt.gpu import find_gpu


def checks(stdout: str) -> dict[str, dict[str, str | None]]:
    return {check["name"]: check for check in json.loads(stdout)["checks"]}


def test_it_tells_the_truth_about_this_machine(command_line) -> None:
    done = command_line("doctor", "--json")
    found = checks(done.stdout)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["blocking"] == 0
    assert found.keys() == CHECKS.keys()
    assert found["display"]["state"] == "warn"  # the test takes DISPLAY away
    assert found["runtimes"]["state"] == "ok"
    assert found["gpu"]["state"] == ("skip" if find_gpu() is None else "ok")
    assert found["power_mode"]["state"] == ("ok" if shutil.which("nvpmodel") else "skip")


def test_a_camera_that_is_not_there_blocks(command_line) -> None:
    done = command_line("doctor", "--camera", "63", "--camera", "csi://0", "--json")
    assert done.returncode == 1
    assert done.stderr == ""
    blocked = [check["says"] for check in json.loads(done.stdout)["checks"] if check["state"] == "block"]
    assert json.loads(done.stdout)["blocking"] == len(blocked)
    assert any("there is no camera /dev/video63" in says for says in blocked)
    assert any("csi://0" in says for says in blocked)


def test_an_engine_that_is_not_there_blocks(command_line, tmp_path: Path) -> None:
    done = command_line("doctor", tmp_path / "absent.engine")
    assert done.returncode == 1
    assert "block engine     there is no engine" in done.stdout
    assert f"→ pspnet-edge build -o {tmp_path / 'absent.engine'}" in done.stdout
    assert done.stdout.endswith("1 problem to fix first: see block above\n")


def test_a_cache_that_cannot_be_written_blocks(command_line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    done = command_line("doctor", "--json")
    assert done.returncode == 1
    assert checks(done.stdout)["cache"]["state"] == "block"


def test_a_model_in_place_of_an_engine_gets_the_command_that_builds_it(command_line, tmp_path: Path) -> None:
    for model, name in ((bundled.DEFAULT, bundled.DEFAULT), (tmp_path / "a b.onnx", f"'{tmp_path}/a b.onnx'")):
        found = checks(command_line("doctor", model, "--json").stdout)["engine"]
        assert found["state"] == "block"
        assert "is a model: build an engine of it" in (found["reason"] or "")
        assert found["command"] == f"pspnet-edge build {name}"


@pytest.mark.parametrize("camera", ["front", "-1", "csi://", "rtsp://x", "/etc/passwd"])
def test_what_is_no_camera_is_refused(command_line, camera: str) -> None:
    done = command_line("doctor", "--camera", camera, "--json")
    assert done.returncode == 2
    assert "is not a camera" in done.stderr
    assert json.loads(done.stdout)["error"]

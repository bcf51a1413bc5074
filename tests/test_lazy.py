from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from pspnet_edge import bundled, lazy
from pspnet_edge.errors import MissingPackage


def test_the_hint_names_the_clone_that_the_package_is_in() -> None:
    clone = Path(lazy.__file__).parents[1]
    assert lazy.install_command("web") in (f"pip install -e '{clone}[web]'", f"pip install -e {clone}[web]")
    with pytest.raises(MissingPackage) as caught:
        lazy.require("mlflow.absent", "log")
    assert str(caught.value.command).startswith("pip install ")


@pytest.mark.parametrize("there", [True, False])
def test_the_hint_names_the_wheel_while_it_is_there(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "a b.whl"
    if there:
        wheel.touch()

    class Installed:
        def read_text(self, name: str) -> str:
            assert name == "direct_url.json"
            return json.dumps({"url": wheel.as_uri(), "archive_info": {}})

    monkeypatch.setattr(lazy, "__file__", str(tmp_path / "site-packages/pspnet_edge/lazy.py"))
    monkeypatch.setattr(metadata, "distribution", lambda name: Installed())
    place = str(wheel) if there else "PATH-OF-CLONE-OR-WHEEL"
    assert lazy.install_command("web") == f"pip install '{place}[web]'"


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_runtime_reports_nothing_to_its_vendor(runtime: str, tmp_path: Path) -> None:
    """ONNX Runtime 1.32 and OpenVINO send usage data and keep an id of the machine; neither happens here."""
    pytest.importorskip(runtime, reason=f"{runtime} is not installed")
    places = {"HOME": "home", "XDG_CACHE_HOME": "cache", "TMPDIR": "tmp"}
    for folder in places.values():
        (tmp_path / folder).mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {name: str(tmp_path / folder) for name, folder in places.items()}
    command = [sys.executable, "-m", "pspnet_edge", "build", str(bundled.onnx_path(bundled.DEFAULT))]
    command += ["--precision", "fp32", "--runtime", runtime, "-o", str(tmp_path / "x.engine")]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "pspnet_edge", "doctor"], env=environment, capture_output=True)
    assert [path for folder in places.values() for path in (tmp_path / folder).rglob("*") if path.is_file()] == []


def test_networks_do_not_bring_weights_and_biases(tmp_path: Path) -> None:
    """timm imports it where it is installed, and it leaves folders in the temporary one."""
    for package in ("timm", "wandb"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    code = "import sys, pspnet_edge.model.pspnet; print('wandb' in sys.modules)"
    command, environment = [sys.executable, "-c", code], os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
    assert list(tmp_path.iterdir()) == []

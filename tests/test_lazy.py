from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest

from pspnet_edge import lazy
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

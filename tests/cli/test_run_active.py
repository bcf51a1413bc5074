"""``run --active`` and a pack in the place of a model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pspnet_edge.deploy.install import Demands, deploy_pack
from pspnet_edge.deploy.pack import Contents, make_pack
from pspnet_edge.deploy.store import Store
from pspnet_edge.engine.model import prepare_model


@pytest.fixture(scope="module")
def pack_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pack") / "road.pspnet"
    contents = Contents(name="road", golden=1, precisions=("int8",), run={"roi": "0,0,200,100"})
    make_pack(prepare_model(None), path, contents)
    return path


def test_the_active_version_runs_as_its_pack_says(
    command_line, pack_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PSPNET_EDGE_HOME", str(tmp_path / "home"))
    run = ("run", "--active", "--input", "demo", "--frames", 2, "--view", "none", "--json")
    none = command_line(*run)
    assert none.returncode == 1
    assert "no version is active" in none.stderr
    both = command_line("run", "pspnet_fast_camvid", *run[1:])
    assert both.returncode == 2
    assert "pspnet_fast_camvid is an engine or a model, and --active takes the deployed one" in both.stderr
    deployed = deploy_pack(pack_path, Store(tmp_path / "home"), Demands(measure_s=0.1))
    masks = tmp_path / "masks"
    done = command_line(*run, "--save-masks", masks)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert Path(facts["engine"]).parent.name == deployed.version
    assert facts["frames"] == 2
    # Outside of the region that the pack names nothing is segmented.
    from PIL import Image

    with Image.open(next(masks.rglob("*.png"))) as picture:
        mask = np.asarray(picture)
    assert set(mask[100:].ravel()) | set(mask[:, 200:].ravel()) == {255}
    assert 255 not in mask[:100, :200]
    monkeypatch.delenv("PSPNET_EDGE_HOME")
    there = command_line(*run, "--home", tmp_path / "home")
    assert Path(json.loads(there.stdout)["engine"]).parent.name == deployed.version


def test_a_pack_is_a_model_everywhere(command_line, pack_path: Path) -> None:
    done = command_line("run", pack_path, "--input", "demo", "--frames", 2, "--view", "none", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["precision"] == "int8"

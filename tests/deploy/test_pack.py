"""Making packs of a small network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from pspnet_edge.data.images import ImageFiles
from pspnet_edge.deploy.pack import Contents, make_pack
from pspnet_edge.deploy.store import Store
from pspnet_edge.engine.backends import open_engine
from pspnet_edge.engine.model import prepare_model
from pspnet_edge.errors import OptionError
from pspnet_edge.graph.calibrate import table_from_dataset
from pspnet_edge.graph.calibration_table import read_table, write_table
from pspnet_edge.graph.onnx_file import write_model
from pspnet_edge.pack_file import MOST_RELEASE, TABLE, read_pack

from ..small_model import SIZE_HW, small_model
from .conftest import Board


@dataclass
class Laptop:
    """Where a model is made: its file, its table, photographs, and a key."""

    folder: Path

    def pack(
        self, *arguments: object, cwd: Path | None = None, umask: int = 0o022, **environment: str
    ) -> dict[str, Any]:
        command = [sys.executable, "-m", "pspnet_edge", "pack", str(self.folder / "small.onnx")]
        command += ["--images", str(self.folder / "photos"), *map(str, arguments), "--json"]
        inherited = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
        done = subprocess.run(
            command, cwd=cwd, umask=umask, env={**inherited, **environment}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        facts: dict[str, Any] = json.loads(done.stdout)
        return facts


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Laptop:
    """Its table has the range of the first convolution's input 30 times too small, so INT8 loses most there."""
    folder = tmp_path_factory.mktemp("laptop")
    model, photos = small_model(), folder / "photos"
    write_model(folder / "small.onnx", model)
    photos.mkdir()
    images = [np.random.default_rng(seed).integers(0, 256, (*SIZE_HW, 3)).astype(np.uint8) for seed in range(4)]
    for number, image in enumerate(images):
        cv2.imwrite(str(photos / f"{number}.png"), image)
    table, _ = table_from_dataset(model, ImageFiles(photos), dataset="noise")
    write_table(folder / "small.calib.json", replace(table, amax=table.amax | {"x0": table.amax["x0"] / 30}))
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")], check=True)
    return Laptop(folder)


def test_a_pack_is_the_same_to_the_byte_wherever_and_whenever_it_is_made(laptop: Laptop, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    options = ("--max-drop", 0.1, "--precision", "int8,fp16", "--sign", laptop.folder / "key", "--release", 3)
    first = laptop.pack(*options, "-o", tmp_path / "first.pspnet")
    second = laptop.pack(
        *options,
        "-o",
        "second.pspnet",
        cwd=elsewhere,
        umask=0o077,
        SOURCE_DATE_EPOCH="1",
        TZ="Asia/Tokyo",
        LC_ALL="C.UTF-8",
        PYTHONHASHSEED="1",
        TMPDIR=str(elsewhere),
    )
    assert first["sha256"] == second["sha256"]
    assert (tmp_path / "first.pspnet").read_bytes() == (elsewhere / "second.pspnet").read_bytes()


def test_what_the_gate_decided_travels_to_a_board_without_onnxruntime_and_data(
    laptop: Laptop, board: Board, tmp_path: Path
) -> None:
    given = (laptop.folder / "small.calib.json").read_bytes()
    packed = laptop.pack("--max-drop", 0.1, "-o", tmp_path / "gated.pspnet")
    kept = packed["kept_float"]
    assert kept == ["conv_0"]
    table_path = tmp_path / "packed.calib.json"
    table_path.write_bytes(read_pack(tmp_path / "gated.pspnet").read(TABLE))
    decision = read_table(table_path).gate
    assert decision is not None
    assert decision["drop"] <= 0.1 < decision["drop_before"], "it was decided, not found to be needless"
    assert (laptop.folder / "small.calib.json").read_bytes() == given, "the user's table is not touched"

    program = (
        "import sys\n"
        "for name in ('onnxruntime', 'torch', 'scipy'):\n"
        "    sys.modules[name] = None\n"
        f"sys.argv = {['pspnet-edge', *board.command(tmp_path / 'gated.pspnet')[3:]]!r}\n"
        "from pspnet_edge.cli.main import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    deployed = json.loads(done.stdout)
    assert deployed["kept_float"] == kept
    assert deployed["agreement"] >= packed["agreement_with_fp32"]["int8"] - 0.02
    path = Store(board.home).active_engine()
    with open_engine(path) as engine:
        assert engine.info.facts["kept_float"] == kept
    weights = {
        node.name: node.input[1]
        for node in onnx.load_from_string(path.read_bytes()).graph.node
        if node.op_type == "Conv"
    }
    unquantized = [name for name, tensor in weights.items() if not tensor.endswith(".dq")]
    assert unquantized == [*kept, "conv_2"], "the last convolution, which gives the logits, never is"


def test_a_release_that_is_no_number_of_one_is_refused(tmp_path: Path) -> None:
    for release in (-1, MOST_RELEASE + 1):
        with pytest.raises(OptionError, match="is out of range"):
            make_pack(prepare_model(None), tmp_path / "a.pspnet", Contents(release=release))
    assert list(tmp_path.iterdir()) == []

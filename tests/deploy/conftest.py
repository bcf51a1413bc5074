from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pspnet_edge.deploy.pack import Contents, make_pack
from pspnet_edge.engine.model import prepare_model
from pspnet_edge.graph.calibration_table import read_table, write_table
from pspnet_edge.pack_file import MANIFEST, SIGNATURE, TABLE, read_pack, write_pack


def parts_of(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The manifest, as ``write_pack`` takes it, and the parts of a pack."""
    pack = read_pack(path)
    manifest = {name: value for name, value in pack.manifest.items() if name not in ("kind", "format_version", "parts")}
    return manifest, {name: pack.read(name) for name in pack.manifest["parts"] if name not in (MANIFEST, SIGNATURE)}


@pytest.fixture(scope="session")
def pack_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of the bundled model, with two golden frames."""
    path = tmp_path_factory.mktemp("pack") / "road.pspnet"
    make_pack(prepare_model(None), path, Contents(name="road", golden=2, precisions=("int8",)))
    return path


@pytest.fixture(scope="session")
def next_pack_path(pack_path: Path) -> Path:
    """The same model under another name: another version."""
    path = pack_path.with_name("next.pspnet")
    manifest, parts = parts_of(pack_path)
    write_pack(path, {**manifest, "name": "next"}, parts, None)
    return path


@pytest.fixture(scope="session")
def ruined_pack_path(pack_path: Path) -> Path:
    """A sound pack whose calibration table has the wrong ranges: INT8 clips everything."""
    path, table_path = pack_path.with_name("ruined.pspnet"), pack_path.with_name("ruined.calib.json")
    manifest, parts = parts_of(pack_path)
    table_path.write_bytes(parts[TABLE])
    table = read_table(table_path)
    write_table(table_path, replace(table, amax={name: value / 50 for name, value in table.amax.items()}))
    write_pack(path, {**manifest, "name": "ruined"}, {**parts, TABLE: table_path.read_bytes()}, None)
    return path


@dataclass
class Board:
    """The command line of a board with its own home."""

    home: Path

    def deploy(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), env={**os.environ, **environment}, capture_output=True, text=True, timeout=600
        )

    def command(self, *arguments: object) -> list[str]:
        options = ("--measure", "0.1", "--service", "none", "--json")
        return [sys.executable, "-m", "pspnet_edge", "deploy", "--home", str(self.home), *map(str, arguments), *options]

    def facts(self, *arguments: object) -> dict[str, Any]:
        done = self.deploy(*arguments)
        assert done.returncode == 0, done.stderr
        facts: dict[str, Any] = json.loads(done.stdout)
        return facts


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path / "home")


Refusal = Callable[[subprocess.CompletedProcess[str]], str]


@pytest.fixture
def refusal() -> Refusal:
    """The one sentence of a command that failed with status 1 and no traceback."""

    def read(done: subprocess.CompletedProcess[str]) -> str:
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr
        error = json.loads(done.stdout)["error"]
        assert done.stderr.strip().splitlines()[-1].startswith("pspnet-edge: ")
        return f"{error['problem']}: {error['fix']}"

    return read

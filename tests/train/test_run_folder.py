"""The folder of a run: nothing that a run did not make is passed over or removed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pspnet_edge.errors import OutputError
from pspnet_edge.ownership import InUse
from pspnet_edge.train.run_folder import claimed_folder, remove_run


def free_folder(folder: Path) -> Path:
    with claimed_folder(folder) as place:
        return place


@pytest.mark.parametrize("work", [free_folder, remove_run])
def test_a_fifo_under_the_name_of_a_runs_file_is_refused_and_stays(tmp_path: Path, work) -> None:  # type: ignore[no-untyped-def]
    os.mkfifo(tmp_path / "last.pt")
    (tmp_path / "metrics.csv").write_text("epoch\n")
    with pytest.raises(OutputError, match=r"last\.pt is a FIFO"):
        work(tmp_path)
    assert stat.S_ISFIFO((tmp_path / "last.pt").stat().st_mode)
    assert (tmp_path / "metrics.csv").is_file()


def test_runs_get_folders_of_increasing_number(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert free_folder(folder) == folder
    for name in ("run", "run-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.json").write_text("{}")
    assert free_folder(folder) == tmp_path / "run-3"


def test_a_run_gets_another_folder_while_one_is_at_work(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    program = """
import sys
from pathlib import Path
from pspnet_edge.train.run_folder import claimed_folder
with claimed_folder(Path(sys.argv[1])) as place:
    print("here", flush=True)
    sys.stdin.read()
    (place / "recipe.json").write_text("{}")
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == b"here\n"
        assert free_folder(folder) == tmp_path / "run-2"  # although it holds nothing yet
        busy = f"by another process \\({other.pid}\\)"
        with pytest.raises(InUse, match=busy), claimed_folder(folder, resume=True):
            pass
        (folder / "recipe.json").write_text("{}")
        with pytest.raises(InUse, match=busy), claimed_folder(folder, overwrite=True):
            pass
        assert (folder / "recipe.json").is_file()
        other.communicate()
    assert [path.name for path in folder.iterdir()] == ["recipe.json"]
    assert not (tmp_path / "run-2").exists()

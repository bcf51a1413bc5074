"""The folder of a run: nothing that a run did not make is passed over or removed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pspnet_edge.errors import OutputError
from pspnet_edge.train.run_folder import free_folder, remove_run


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

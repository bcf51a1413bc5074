"""Child processes of Python import nothing from the folder a command is started in."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from pspnet_edge.child import child_command

PACKAGE = Path(__file__).resolve().parents[1] / "pspnet_edge"


@pytest.mark.parametrize("planted", ["pspnet_edge", "runpy", "json", "av"])
def test_a_module_in_the_working_folder_is_not_executed(tmp_path: Path, planted: str) -> None:
    (tmp_path / f"{planted}.py").write_text("open('executed', 'w')")
    (tmp_path / "film.mp4").write_bytes(b"no film")
    done = subprocess.run(
        child_command("pspnet_edge.camera.video_probe", "film.mp4"), cwd=tmp_path, capture_output=True, text=True
    )
    assert not (tmp_path / "executed").exists()
    assert "Traceback" not in done.stderr
    assert done.stdout


def test_it_gets_its_arguments_and_this_search_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "told.py").write_text("import sys; print(__name__, sys.argv[1:], sys.path == sys.argv[2].split(':'))")
    monkeypatch.syspath_prepend(str(tmp_path))
    done = subprocess.run(child_command("told", 7, ":".join(sys.path)), capture_output=True, text=True, check=True)
    assert done.stdout == f"__main__ {['7', ':'.join(sys.path)]} True\n"


def test_no_child_is_started_in_another_way() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.List) and any(ast.unparse(entry) == "sys.executable" for entry in node.elts):
                others = [ast.unparse(entry) for entry in node.elts]
                assert "'-m'" not in others, f"{path}: use child_command"

"""The documentation builds as a site without a warning, and its pages are all there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_site_builds_in_strict_mode_with_every_command_and_public_name(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    commands = (tmp_path / "site/commands/index.html").read_text()
    assert all(f'id="{name}"' in commands for name in ("train", "run", "deploy", "data-import"))
    api = (tmp_path / "site/api/index.html").read_text()
    assert all(f".{name}" in api for name in ("Segmenter", "build_engine", "Recipe", "PspnetEdgeError"))


def test_every_page_is_in_the_navigation_or_kept_out_of_it() -> None:
    listed = set(re.findall(r"(\w+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    made_while_building = {"index.md", "commands.md"}
    assert {path.name for path in (ROOT / "docs").glob("*.md")} == listed - made_while_building


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_of_a_page_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)", text) if not target.startswith("http")]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []

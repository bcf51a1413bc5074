"""A slow-down that is planted in a real engine, and nothing planted, in short runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "against.py"


@pytest.mark.slow
def test_planted_and_plain(tmp_path: Path) -> None:
    """Twice the time is found whatever else the machine does.

    How often a tenth is, and how often a machine is silent whose own speed may change meanwhile, is what the script
    measures; that the comparison is silent where nothing changed, tests/report/test_compare.py says.
    """
    engine = ("--precision", "fp32", "--runtime", "onnxruntime", "--rounds", 6, "--seconds", 0.4, "--slower", 1)
    command = [sys.executable, str(SCRIPT), "--pairs", "2", *map(str, engine), "-o", str(tmp_path / "against.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "against.json").read_text())
    assert facts["found"] == 2, done.stdout
    assert done.stdout.count("plain ") == 2
    assert facts["silent"] == done.stdout.count(": silent"), done.stdout

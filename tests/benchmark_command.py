"""``pspnet-edge benchmark`` as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def benchmark(*arguments: object, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pspnet_edge", "benchmark", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=600
    )

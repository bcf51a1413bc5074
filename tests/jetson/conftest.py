"""A faked JetPack: stand-ins on PATH for the commands that the scripts call. Each writes what it was asked to a log."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

JETSON = Path(__file__).resolve().parents[2] / "jetson"

# Answers for Python's own questions about itself, which the real interpreter behind it would answer otherwise; a venv
# is a folder with a copy of this stand-in; pip leaves a module in the venv's `site`.
PYTHON = r"""
[ "$1" != -s ] || shift
here=$(dirname "$(dirname "$0")")
case "$*" in
  "-m venv --system-site-packages "*)
    mkdir -p "$4/bin" "$4/site"
    cp "$0" "$4/bin/python"
    printf '#!/usr/bin/env bash\necho "doctor ran"\n' >"$4/bin/pspnet-edge"
    chmod +x "$4/bin/pspnet-edge"
    echo 'include-system-site-packages = true' >"$4/pyvenv.cfg" ;;
  "-m pip install "*)
    [ -z "${FAKE_SHADOW-}" ] || echo "__version__ = '2.4.6'" >"$here/site/$FAKE_SHADOW.py" ;;
  "-c "*version_info*) echo "$FAKE_PYTHON" ;;
  "-c "*base_prefix*) echo "${FAKE_OUTSIDE_VENV-True}" ;;
  *) PYTHONPATH=${PYTHONPATH-}:$here/site:$FAKE/dist exec "$REAL_PYTHON" -S "$@" ;;
esac
"""
STAND_INS = {
    "uname": "echo ${FAKE_MACHINE-aarch64}",
    "id": 'case "$1" in -u) echo 1000 ;; *) echo me ;; esac',
    "sudo": 'exec "$@"',
    "df": 'echo "Filesystem 1024-blocks Used Available"; echo "/dev/x 9 9 ${FAKE_FREE-90000000}"',
    "dpkg-query": r"""
package=${!#}
if [ "$package" = nvidia-l4t-core ]; then
  [ -n "$FAKE_L4T" ] || { echo "dpkg-query: no packages found matching nvidia-l4t-core" >&2; exit 1; }
  printf %s "$FAKE_L4T"
elif grep -qx "$package" "$FAKE/installed"; then printf installed
else exit 1
fi
""",
    "apt-cache": '[ "$2" != libopencv-python ] || [ -z "${FAKE_NO_NVIDIA_OPENCV-}" ]',
    "apt-get": r"""
[ "$1" = install ] || exit 0
[ -z "${FAKE_APT_FAILS-}" ] || { echo "E: Packages need to be removed but remove is disabled." >&2; exit 100; }
for word; do
  case $word in
    install | -*) ;;
    *opencv*) echo "__version__ = '4.8.0'" >"$FAKE/dist/cv2.py"; echo "$word" >>"$FAKE/installed" ;;
    *) echo "$word" >>"$FAKE/installed" ;;
  esac
done
""",
}


@dataclass
class Board:
    """A folder that stands for a board, and the environment in which its commands are found first."""

    root: Path
    environment: dict[str, str]

    @property
    def venv(self) -> Path:
        return self.root / "venv"

    def run(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        (self.root / "log").unlink(missing_ok=True)
        return subprocess.run(
            ["bash", str(JETSON / script), *arguments],
            env=self.environment | environment,
            input="yes\n",  # nothing may ask
            capture_output=True,
            text=True,
            timeout=60,
        )

    def calls(self) -> list[str]:
        """What was called since ``run`` began, each with its arguments."""
        log = self.root / "log"
        return log.read_text(encoding="utf-8").splitlines() if log.exists() else []

    def stand_in(self, name: str, body: str) -> None:
        path = self.root / "bin" / name
        path.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >>"$FAKE/log"\n{body}\n', encoding="utf-8")
        path.chmod(0o755)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """Nothing of JetPack on it yet: a test says which."""
    for folder in ("bin", "dist", "home"):
        (tmp_path / folder).mkdir()
    (tmp_path / "installed").touch()
    environment = {
        "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
        "HOME": str(tmp_path / "home"),
        "FAKE": str(tmp_path),
        "REAL_PYTHON": os.path.realpath(sys.executable),
        "CUDA_HOME": str(tmp_path / "cuda"),
        "FAKE_L4T": "",
    }
    made = Board(tmp_path, environment)
    for name, body in STAND_INS.items():
        made.stand_in(name, body)
    return made

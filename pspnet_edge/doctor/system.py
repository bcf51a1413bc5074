"""The machine as the checks see it. They are pure functions of ``System``, so a test can hand them any machine."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import getpass
import glob
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..camera import v4l2
from ..engine.tensorrt.gpu import Gpu, find_gpu
from ..errors import PspnetEdgeError
from .probe import Probed

_COMMAND_TIMEOUT_S = 10.0
_IMPORT_TIMEOUT_S = 60.0
_TOOL_PLACES = ("/usr/sbin", "/sbin", "/usr/local/cuda/bin")  # not on the PATH of every login

# linux/videodev2.h
_REQBUFS = 0xC0145608
_BUF_TYPE_CAPTURE, _BUF_TYPE_CAPTURE_MPLANE, _MEMORY_MMAP = 1, 9, 1


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    status: int
    output: str
    """Standard output, then standard error."""


class System(Protocol):
    """Everything that a check may ask."""

    python: tuple[int, int]
    """Version of this interpreter."""
    prefix: str
    """Folder of this environment."""
    in_venv: bool
    user: str

    def read(self, path: str) -> str | None:
        """A text file, or None when it is not there or may not be read."""

    def paths(self, pattern: str) -> list[str]:
        """What a glob pattern matches, in order."""

    def which(self, command: str) -> str | None:
        """Where a command is."""

    def run(self, *command: str) -> Ran | None:
        """Run a command; None when there is none of that name or it does not end in time."""

    def environment(self, name: str) -> str | None:
        """A variable."""

    def probe(self, package: str) -> Probed:
        """See ``probe.probe``; an interpreter that dies is an ``error`` too."""

    def gpu(self) -> Gpu | None:
        """The first GPU that CUDA can use."""

    def free_bytes(self, folder: str) -> int:
        """Free disk under a folder, or under the nearest one above it that is there."""

    def write_problem(self, folder: str) -> str | None:
        """Why no file can be made in a folder, or in the nearest one above it; None when it can."""

    def camera_problem(self, device: str) -> str | None:
        """None when a V4L2 camera could be read now, else ``absent``, ``forbidden``, ``busy`` or ``no camera``."""

    def engine_problem(self, path: Path, load: bool) -> PspnetEdgeError | None:
        """Why an engine would not open here; ``load`` also loads it into its runtime."""

    def card(self, device: str) -> str | None:
        """What a V4L2 device calls itself; None when it does not answer as one."""


class RealSystem:
    """This machine."""

    def __init__(self) -> None:
        self.python = (sys.version_info[0], sys.version_info[1])
        self.prefix = sys.prefix
        self.in_venv = sys.prefix != sys.base_prefix
        self.user = _user()
        # Several checks ask for the same package, and each import takes a second on a board.
        self.probe = functools.cache(self._probe)

    def read(self, path: str) -> str | None:
        try:
            return Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def paths(self, pattern: str) -> list[str]:
        return sorted(glob.glob(pattern))  # noqa: PTH207 - patterns are absolute

    def which(self, command: str) -> str | None:
        return shutil.which(command, path=os.pathsep.join([os.environ.get("PATH", ""), *_TOOL_PLACES]))

    def run(self, *command: str) -> Ran | None:
        found = self.which(command[0])
        return _run([found, *command[1:]], _COMMAND_TIMEOUT_S) if found else None

    def environment(self, name: str) -> str | None:
        return os.environ.get(name)

    def gpu(self) -> Gpu | None:
        return find_gpu()

    def free_bytes(self, folder: str) -> int:
        return shutil.disk_usage(_nearest(folder)).free

    def write_problem(self, folder: str) -> str | None:
        try:
            with tempfile.TemporaryFile(dir=_nearest(folder)):
                return None
        except OSError as error:
            return error.strerror or str(error)

    def camera_problem(self, device: str) -> str | None:
        try:
            descriptor = os.open(device, os.O_RDWR | os.O_NONBLOCK)
        except OSError as error:
            known = {errno.EACCES: "forbidden", errno.EPERM: "forbidden", errno.EBUSY: "busy"}
            return known.get(error.errno or 0, "absent")
        try:
            return _capture_problem(descriptor)
        finally:
            os.close(descriptor)

    def card(self, device: str) -> str | None:
        found = v4l2.capabilities(device)
        return None if found is None else found.card

    def engine_problem(self, path: Path, load: bool) -> PspnetEdgeError | None:
        from ..engine.backends import backend_of, open_engine, read_info

        try:
            info = read_info(path)
            backend_of(info.runtime).ensure_opens_here(path, info)
            if load:
                open_engine(path).close()
        except PspnetEdgeError as error:
            return error
        return None

    def _probe(self, package: str) -> Probed:
        code = Path(__file__).with_name("probe.py").read_text(encoding="utf-8")
        # From the root folder, so that a cv2.py in the user's own does not answer.
        ran = _run([sys.executable, "-c", code, package], _IMPORT_TIMEOUT_S, folder="/")
        if ran is None:
            return {"error": f"its import does not end within {_IMPORT_TIMEOUT_S:.0f} s"}
        for line in reversed(ran.output.splitlines()):
            if line.startswith("{"):
                with contextlib.suppress(ValueError):
                    facts: Probed = json.loads(line)
                    return facts | {"printed": ran.output}
        reason = signal.Signals(-ran.status).name if ran.status < 0 else f"status {ran.status}"
        return {"error": f"its import ends the process ({reason})", "printed": ran.output}


def _run(command: list[str], timeout_s: float, folder: str | None = None) -> Ran | None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Ran(done.returncode, done.stdout + done.stderr)


def _capture_problem(descriptor: int) -> str | None:
    """Whether the opened device captures video, and whether another program does so with it now."""
    found = v4l2.capabilities_of(descriptor)
    if found is None or not found.captures:
        return "no camera"
    kind = _BUF_TYPE_CAPTURE if found.flags & v4l2.VIDEO_CAPTURE else _BUF_TYPE_CAPTURE_MPLANE
    try:
        # Asking for no buffers changes nothing, and is refused while another program streams.
        fcntl.ioctl(descriptor, _REQBUFS, struct.pack("IIIII", 0, kind, _MEMORY_MMAP, 0, 0))
    except OSError as error:
        return "busy" if error.errno == errno.EBUSY else None
    return None


def _nearest(folder: str) -> Path:
    path = Path(folder).absolute()
    while not path.exists():
        path = path.parent
    return path


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())

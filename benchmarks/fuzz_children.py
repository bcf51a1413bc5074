"""Child processes of a fuzzing worker, made by fork instead of a new Python: the same code in a tenth of the time.

The package reads videos and old pickles in processes of their own. Their start would take most of a fuzzer's time, so a
worker forks them from two servers that have imported what those children import and nothing else. Limits, exit status,
signals and output are those of the child.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pspnet_edge.child import child_command

_VIDEO = "pspnet_edge.camera.video_probe"
_PICKLES = "pspnet_edge.model.foreign.arrays"


class Children:
    """Starts the servers; ``run`` then takes the place of ``subprocess.run``. To be made before any thread."""

    def __init__(self) -> None:
        self._real: Callable[..., Any] = subprocess.run
        self._light = _serve_in_child(_import_light)
        self._torch = _serve_in_child(_import_torch)

    def run(self, command: Any, **options: Any) -> Any:
        """A child of the package by fork, anything else as ever."""
        told = _as_call(command)
        if told is None:
            return self._real(command, **options)
        server = self._torch if told[-1] == "old torch" else self._light
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            socket.send_fds(
                server,
                [json.dumps({"call": told, "timeout": options.get("timeout"), "cwd": str(Path.cwd())}).encode()],
                [out.fileno(), err.fileno()],
            )
            status = json.loads(server.recv(100))
            if status is None:
                raise subprocess.TimeoutExpired(command, options["timeout"])
            texts = []
            for stream in (out, err):
                stream.seek(0)
                texts.append(stream.read())
        if options.get("text"):
            return subprocess.CompletedProcess(command, status, *(text.decode(errors="replace") for text in texts))
        return subprocess.CompletedProcess(command, status, *texts)


def _as_call(command: Any) -> list[str] | None:
    start = child_command("")[:-1]
    if isinstance(command, list) and command[: len(start)] == start and command[len(start)] in (_VIDEO, _PICKLES):
        return command[len(start) :]
    return None


def _serve_in_child(imports: Callable[[], None]) -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork():
        theirs.close()
        return ours
    ours.close()
    status = 1
    with contextlib.suppress(BaseException):
        imports()
        _serve(theirs)
        status = 0
    os._exit(status)


def _import_light() -> None:
    import av.error  # noqa: F401
    import numpy  # noqa: F401

    import pspnet_edge.camera.video_probe
    import pspnet_edge.model.foreign.arrays  # noqa: F401


def _import_torch() -> None:
    _import_light()
    import pspnet_edge.model.foreign.torch_file  # noqa: F401


def _serve(requests: socket.socket) -> None:
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, 1 << 18, 2)
        if not message:
            return
        asked = json.loads(message)
        pid = os.fork()
        if not pid:
            _become(asked, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        requests.send(json.dumps(_wait(pid, asked["timeout"])).encode())


def _become(asked: dict[str, Any], descriptors: list[int]) -> None:
    status = 1
    try:
        os.dup2(descriptors[0], 1)
        os.dup2(descriptors[1], 2)
        os.chdir(asked["cwd"])
        module, *arguments = asked["call"]
        if module == _VIDEO:
            from pspnet_edge.camera.video_probe import main

            status = main(*arguments)
        else:
            from pspnet_edge.model.foreign.arrays import child

            status = child(*arguments)
        sys.stdout.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _wait(pid: int, timeout: float | None) -> int | None:
    """The child's status as ``subprocess`` gives it; None where it had to be ended."""
    end = time.monotonic() + (timeout or 1e9)
    pause = 0.001
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)

"""Many command lines at the price of one start: each runs in a fork of one process that has imported what they need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SERVER = """
import json, os, signal, sys
import typer
from pspnet_edge.cli.main import main
for name in sys.argv[1].split(","):
    __import__(name)
for number, case in enumerate(json.load(sys.stdin)):
    child = os.fork()
    if child == 0:
        os.chdir(case["folder"])
        signal.alarm(case["limit_s"])
        for descriptor, kind in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{case['said']}/{number}.{kind}", os.O_WRONLY | os.O_CREAT), descriptor)
        sys.argv = ["pspnet-edge", *case["arguments"]]
        try:
            main()
        except SystemExit as end:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code or 0)  # without the threads of the packages, which a fork does not have
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@dataclass(frozen=True)
class Done:
    """What one command line left."""

    returncode: int
    stdout: str
    stderr: str


def run_all(
    lines: Sequence[Sequence[str]], folder: Path, said: Path, *, loaded: str = "numpy,cv2,onnx", limit_s: int = 60
) -> list[Done]:
    """Run command lines one after another in ``folder``.

    Args:
        lines: the arguments of each, without ``pspnet-edge``.
        folder: where they run.
        said: an empty folder for what they print.
        loaded: packages that are imported once for all.
        limit_s: the longest that one may take; it ends with status -14 then.
    """
    cases = [{"arguments": list(line), "folder": str(folder), "said": str(said), "limit_s": limit_s} for line in lines]
    environment: Mapping[str, str] = {
        key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")
    }
    served = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _SERVER, loaded],
        input=json.dumps(cases),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    statuses = [int(line) for line in served.stdout.split()]
    assert len(statuses) == len(lines), served.stderr
    return [
        Done(status, (said / f"{number}.out").read_text(), (said / f"{number}.err").read_text())
        for number, status in enumerate(statuses)
    ]

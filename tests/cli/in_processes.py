"""Many command lines at the price of one start: each runs in a fork of one process that has imported what they need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_SERVER = """
import json, multiprocessing.util, os, signal, sys
import typer
from pspnet_edge.__main__ import main
from pspnet_edge.cli import main as _
for name in sys.argv[1].split(","):
    __import__(name)
sys.path.remove("")
for number, case in enumerate(json.load(sys.stdin)):
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        for ended_by in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # which nohup and `&` ignore
            signal.signal(ended_by, signal.SIG_DFL)
        os.chdir(case["folder"])
        signal.alarm(case["limit_s"])
        for descriptor, kind in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{case['said']}/{number}.{kind}", os.O_WRONLY | os.O_CREAT), descriptor)
        sys.argv = ["pspnet-edge", *case["arguments"]]
        status = 0
        try:
            exec(case["before"], {})
            main()
        except SystemExit as end:
            status = end.code or 0
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            except OSError:
                status = 120  # as Python itself says at its end
            multiprocessing.util._exit_function()
            os._exit(status)  # without the threads of the packages, which a fork does not have
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@dataclass(frozen=True)
class Case:
    """One command line: its arguments without ``pspnet-edge``, where it runs, and Python that is executed before it."""

    arguments: list[str]
    folder: str
    before: str = ""


@dataclass(frozen=True)
class Done:
    """What one command line left."""

    returncode: int
    stdout: str
    stderr: str


def run_cases(cases: Sequence[Case], said: Path, *, loaded: str = "numpy,cv2,onnx", limit_s: int = 60) -> list[Done]:
    """Run cases one after another, each as the leader of a process group.

    Args:
        cases: what to run.
        said: an empty folder for what they print.
        loaded: packages that are imported once for all.
        limit_s: the longest that one may take; it ends with status -14 then.
    """
    told = [{**asdict(case), "said": str(said), "limit_s": limit_s} for case in cases]
    environment: Mapping[str, str] = {
        key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")
    }
    served = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _SERVER, loaded],
        input=json.dumps(told),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    statuses = [int(line) for line in served.stdout.split()]
    assert len(statuses) == len(cases), served.stderr
    return [
        Done(status, (said / f"{number}.out").read_text(), (said / f"{number}.err").read_text())
        for number, status in enumerate(statuses)
    ]


def run_all(
    lines: Sequence[Sequence[str]], folder: Path, said: Path, *, loaded: str = "numpy,cv2,onnx", limit_s: int = 60
) -> list[Done]:
    """Run command lines one after another in ``folder``; see ``run_cases``."""
    return run_cases([Case(list(line), str(folder)) for line in lines], said, loaded=loaded, limit_s=limit_s)

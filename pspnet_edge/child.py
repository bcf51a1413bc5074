"""Processes of Python that work for this one: its own search path, and nothing from the folder it was started in.

``python -m`` would look there first, so that a ``json.py`` in a stranger's folder of videos would be executed.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1
# Nothing may be imported before the search path is set.
_START = (
    "import sys; sys.path[:] = sys.argv.pop(1).split(chr(10)); import runpy; "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def child_command(module: str, *arguments: object) -> list[str]:
    """The command that runs ``module`` as ``python -m`` does, with this process's search path.

    Args:
        module: the module's whole name.
        arguments: what it finds in ``sys.argv`` behind its own name.
    """
    return [sys.executable, "-I", "-c", _START, "\n".join(sys.path), module, *map(str, arguments)]


def end_with_parent() -> None:
    """Let the kernel end this process when its parent ends, however that happens; does nothing outside Linux."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

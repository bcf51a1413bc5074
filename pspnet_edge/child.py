"""Processes of Python that work for this one: its own search path, and nothing from the folder it was started in.

``python -m`` would look there first, so that a ``json.py`` in a stranger's folder of videos would be executed.
"""

from __future__ import annotations

import sys

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

"""Engines: the cache they are kept in, and whether they still fit."""

from __future__ import annotations

import shlex
from pathlib import Path

from ..bundled import names_model
from .board import cache_folder
from .system import System
from .verdict import Verdict, Wanted, block, ok, skip, warn


def check_cache(system: System, wanted: Wanted) -> Verdict:
    """Whether engines and TensorRT's timings can be kept."""
    folder = cache_folder(system)
    problem = system.write_problem(folder)
    if problem is None:
        return ok(f"{folder} can be written")
    return block(
        f"the cache {folder} cannot be written ({problem}): free it, or name another with XDG_CACHE_HOME",
        f"sudo install -d -o {system.user} {folder} && sudo chown -R {system.user} {folder}",
    )


def check_engines(system: System, wanted: Wanted) -> list[Verdict]:
    """The engine that is wanted, opened; or those of the cache, compared with what is here."""
    if wanted.engine is not None:
        problem = system.engine_problem(wanted.engine, load=True)
        if problem is not None and names_model(wanted.engine):
            build = f"pspnet-edge build {shlex.quote(str(wanted.engine))}"
            return [block(f"{wanted.engine} is a model: build an engine of it, and check that", build)]
        return [ok(f"{wanted.engine} opens") if problem is None else block(str(problem), problem.command)]
    paths = [Path(path) for path in system.paths(f"{cache_folder(system)}/*.engine")]
    if not paths:
        return [skip("no engine is in the cache, and none was named")]
    verdicts = []
    for path in paths:
        problem = system.engine_problem(path, load=False)
        # The cache is rebuilt by itself, but the next run then waits for that.
        verdicts.append(ok(f"{path.name} fits") if problem is None else warn(str(problem), problem.command))
    return verdicts

"""``pspnet-edge selftest``: tries what this machine can run, with the product's own code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .output import JsonFlag, result, say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("selftest")(selftest)


def selftest(
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="Run only this check. Repeatable.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Also write the result to FILE: JSON, or a page if it ends in .html."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Test kernels, memory, CUDA graphs, engines and cameras on this machine. Exit status 1 if a check fails.

    Takes at most ten minutes and needs no data set or camera. A check that cannot run here is skipped, with the reason.
    """
    from ..artifact import ensure_writable, write_bytes, write_json
    from ..errors import OptionError
    from ..selftest.checks import CHECKS, report, run_checks
    from ..selftest.page import page

    names = only or list(CHECKS)
    for name in names:
        if name not in CHECKS:
            raise OptionError(f"unknown check {name!r}: choose from {', '.join(CHECKS)}")
    if output is not None:
        ensure_writable(output)
    outcomes = run_checks(
        names,
        lambda check: say(f"{check.name}: {check.tries} …"),
        lambda outcome: say(f"{outcome.state:<5} {outcome.name} ({outcome.elapsed_s:.0f} s): {outcome.reason}"),
    )
    facts = report(outcomes)
    if output is not None:
        if output.suffix in (".html", ".htm"):
            write_bytes(output, page(facts).encode())
        else:
            write_json(output, facts)
    summary = f"{facts['pass']} passed, {facts['fail']} failed, {facts['skip']} were not tried"
    result(facts, as_json, summary if output is None else f"{summary}; {output}")
    if facts["fail"]:
        raise typer.Exit(1)

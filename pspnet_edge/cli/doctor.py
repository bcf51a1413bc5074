"""``pspnet-edge doctor``: what is wrong with this machine, and the command that fixes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..records import counted
from .output import JsonFlag, result


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    engine: Annotated[
        Path | None, typer.Argument(metavar="ENGINE", help="Engine to check. Default: those in the cache.")
    ] = None,
    camera: Annotated[
        list[str] | None,
        typer.Option(metavar="N|csi://N", help="Camera to check. Repeatable. Default: all."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check this machine and print the command that fixes each problem. Exit status 1 if a check fails."""
    from ..doctor.cameras import camera_named
    from ..doctor.examine import examine, report
    from ..doctor.system import RealSystem
    from ..doctor.verdict import Wanted

    findings = examine(RealSystem(), Wanted(tuple(map(camera_named, camera or ())), engine))
    facts = report(findings)
    lines = []
    for check in facts["checks"]:
        lines.append(f"{check['state']:<6}{check['name']:<11}{check['reason']}")
        if check["command"]:
            lines.append(f"{'':<17}→ {check['command']}")
    count = facts["blocking"]
    lines.append("nothing blocks" if count == 0 else f"{counted(count, 'problem')} to fix first: see block above")
    result(facts, as_json, "\n".join(lines))
    if count:
        raise typer.Exit(1)

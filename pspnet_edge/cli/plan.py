"""``pspnet-edge plan``: which model, size and precision a board can run at a wanted rate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import parse_size
from .output import JsonFlag, result, say

if TYPE_CHECKING:
    from ..estimate.plan import Candidate, Plan


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("plan")(plan)


def plan(
    board: Annotated[
        str | None, typer.Option(metavar="BOARD", help="Board, such as orin-nano, orin-nx, agx-orin or thor.")
    ] = None,
    fps: Annotated[float, typer.Option(metavar="N", help="Frame rate that each camera needs.")] = 30.0,
    camera: Annotated[
        str | None, typer.Option(metavar="HEIGHTxWIDTH", help="Camera frame size, such as 720x1280.")
    ] = None,
    cameras: Annotated[int, typer.Option(metavar="N", help="Number of cameras on the board.")] = 1,
    report: Annotated[
        Path | None,
        typer.Option(metavar="REPORT.json", help="Benchmark report from the board; its figures replace the estimates."),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="On the board: build and measure the best two or three.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Choose the most accurate model, size and precision that reach a frame rate, and print the commands.

    Examples:

      pspnet-edge plan --board orin-nano --fps 30 --camera 720x1280 --cameras 2

      pspnet-edge plan --board orin-nano --fps 30 --report report/report.json
    """
    from ..api.planning import plan as make_plan

    planned = make_plan(
        board, fps, cameras=cameras, camera_hw=_camera_hw(camera), report=report, measure=measure, say=say
    )
    result(planned.to_dict(), as_json, _summary(planned))


def _camera_hw(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, width = parse_size(text, "--camera")
    if height > width:  # no camera is higher than wide
        say(f"--camera is HEIGHTxWIDTH: taking {height}x{width} as {width}x{height}")
        height, width = width, height
    return height, width


def _summary(planned: Plan) -> str:
    from ..estimate.boards import BOARDS

    facts = planned.to_dict()
    each = f" for each of {planned.cameras} cameras" if planned.cameras > 1 else ""
    lines = [f"{facts['board_title']}, {planned.fps:g} FPS{each}", ""]
    lines.append(f"  {'engine':<44}{'FPS':>7}{'error bar':>14}{'GPU busy':>10}{'mIoU':>8}")
    every = sorted((planned.choice, *planned.alternatives), key=lambda one: -(one.miou or 0))
    lines += [f"{'→' if one is planned.choice else ' '} {_line(one)}" for one in every]
    where = "On the board:" if planned.board in BOARDS else "On this machine:"
    lines += ["", *planned.notes, "", where, *(f"  {command}" for command in planned.commands)]
    return "\n".join(lines)


def _line(one: Candidate) -> str:
    bar = "measured" if one.measured else f"{one.fps_low:.0f}–{one.fps_high:.0f}"
    miou = "–" if one.miou is None else f"{one.miou:.4f}"
    return f"{one.name:<44}{one.fps:>7.0f}{bar:>14}{one.load:>10.0%}{miou:>8}"

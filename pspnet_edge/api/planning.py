"""``pspnet_edge.plan``: which model, size and precision a board can run at a wanted rate."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from ..engine.build import build_cached_engine, choose_runtime
from ..engine.model import prepare_model
from ..engine.search import latency_ms
from ..errors import OptionError, PspnetEdgeError
from ..estimate.figures import Size
from ..estimate.plan import Candidate, Plan, choose, estimated_candidates, find_board, front, with_measured
from ..inputs import as_number, as_path, as_size, as_whole
from ..measure.environment import environment
from ..report.planned import candidates_of_report, ensure_board

THIS_MACHINE = "this machine"
_PROXY = "agx-orin"
"""Orders the candidates for a machine that there is no estimate for, before they are measured on it."""
_MOST_MEASURED = 3


def plan(
    board: str | None = None,
    fps: float = 30,
    *,
    cameras: int = 1,
    camera_hw: Size | None = None,
    report: str | os.PathLike[str] | None = None,
    measure: bool = False,
    say: Callable[[str], None] = lambda sentence: None,
) -> Plan:
    """Choose the most accurate model, size and precision that a board runs at a wanted rate.

    >>> import pspnet_edge
    >>> planned = pspnet_edge.plan("orin-nano", fps=30, cameras=2)
    >>> planned.choice.precision, planned.choice.fps > 30
    ('int8', True)

    Args:
        board: such as ``"orin-nano"``; None plans for the machine of ``report``, or for this one with ``measure``.
        fps: frames per second of each camera.
        cameras: how many share the board.
        camera_hw: height and width of their frames, whose resize is then added to the estimate.
        report: a report.json of the board, whose measured figures replace estimates.
        measure: build the best two or three on this machine, which must be the board, and measure them.
        say: called with what is being measured.

    Raises:
        OptionError: an unknown board, a rate that nothing reaches, or options that do not fit together.
        ModelError: a report that cannot be read.
        BuildError, EngineError: with ``measure``, when none of the candidates can be built and run.
    """
    if board is None and report is None and not measure:
        raise OptionError(
            "no board is named", "give one, such as orin-nano, or a report of the board", parameter="board"
        )
    if report is not None and measure:
        raise OptionError("a report is a measurement already", "leave out measure or report", parameter="measure")
    fps, cameras = as_number(fps, "fps"), as_whole(cameras, "cameras", least=1)
    camera_hw = None if camera_hw is None else as_size(camera_hw, "camera_hw")
    if board is not None:
        find_board(board)
    if measure and board is not None:
        ensure_board(board, environment({}), "this would be measured on")
    estimated = estimated_candidates(board or _PROXY, camera_hw)
    if report is not None:
        measured = candidates_of_report(as_path(report, "report"), board)
        candidates = with_measured(estimated, measured)
        if board is None:
            candidates = [candidate for candidate in candidates if candidate.measured]
    elif measure:
        candidates = _measured_here(estimated, fps * cameras, known_board=board is not None, say=say)
    else:
        candidates = estimated
    return choose(candidates, board or THIS_MACHINE, fps, cameras=cameras, camera_hw=camera_hw)


def _measured_here(
    estimated: list[Candidate], wanted_fps: float, *, known_board: bool, say: Callable[[str], None]
) -> list[Candidate]:
    """Build and measure candidates from the most accurate that may reach the rate on, until one does.

    Raises:
        PspnetEdgeError: none could be built and run.
    """
    trials = [one for one in front(estimated) if not known_board or one.fps_high >= wanted_fps] or front(estimated)[-1:]
    runtime = choose_runtime("auto")
    found: list[Candidate] = []
    failure: PspnetEdgeError | None = None
    for trial in _spread(trials):
        try:
            engine, _ = build_cached_engine(prepare_model(trial.model, trial.size_hw), trial.precision, runtime)
            taken = latency_ms(engine)
        except PspnetEdgeError as error:
            failure = error
            say(f"{trial.name} cannot be measured: {error}")
            continue
        rate = 1000 / taken
        say(f"{trial.name}: {rate:.1f} FPS, measured with {runtime}")
        found.append(replace(trial, fps=rate, fps_low=rate, fps_high=rate, latency_ms=taken, measured=True))
        if rate >= wanted_fps:
            break
    if not found and failure is not None:
        raise failure
    return found


def _spread(trials: list[Candidate]) -> list[Candidate]:
    """At most three: the most accurate, one in the middle, the fastest."""
    if len(trials) <= _MOST_MEASURED:
        return trials
    return [trials[0], trials[len(trials) // 2], trials[-1]]

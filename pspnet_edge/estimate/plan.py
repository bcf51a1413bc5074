"""Which model, size and precision to run on a board at a wanted rate: the choice on the front of speed and mIoU."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache

from .. import bundled
from ..engine.backend import Precision
from ..errors import OptionError
from ..graph.onnx_file import read_model
from ..inputs import as_text
from .boards import AMPERE, BLACKWELL, BOARDS, Board
from .figures import Quality, Size, bundled_qualities
from .kernels import Kernel, fused_kernels, read_graph, scaled_kernels
from .predict import USUAL_ERROR, kernels_on
from .roofline import FITTED, layer_times

_EQUAL_MIOU = 0.001
"""Of two candidates nearer than this the faster is taken."""
_BGRX = 4


@dataclass(frozen=True)
class Candidate:
    """A model at a size and precision, on one board."""

    model: str
    size_hw: Size
    precision: Precision
    fps: float
    """Frames per second of each camera."""
    fps_low: float
    """The lower end of the error bar; the same as ``fps`` where it was measured."""
    fps_high: float
    latency_ms: float
    miou: float | None
    """Measured on ``data``; None where a report had no labels."""
    data: str
    measured: bool
    """Whether the speed was measured on the board; else it is an estimate."""
    graph_ends_ms: float | None = None
    """Of an estimate: the latency where the plan makes the network's input and the mask itself."""
    load: float = 0.0
    """Share of the time that the wanted rate keeps the GPU busy; over 1 it does not reach the rate."""

    @property
    def name(self) -> str:
        """For people and file names."""
        return f"{self.model}-{self.size_hw[0]}x{self.size_hw[1]}-{self.precision}"

    def to_dict(self) -> dict[str, object]:
        """As JSON values."""
        return {
            "model": self.model,
            "size": f"{self.size_hw[0]}x{self.size_hw[1]}",
            "precision": self.precision,
            "fps": round(self.fps, 1),
            "fps_low": round(self.fps_low, 1),
            "fps_high": round(self.fps_high, 1),
            "latency_ms": round(self.latency_ms, 3),
            "miou": self.miou,
            "data": self.data,
            "measured": self.measured,
            "graph_ends_ms": None if self.graph_ends_ms is None else round(self.graph_ends_ms, 3),
            "load": round(self.load, 3),
        }


@dataclass(frozen=True)
class Plan:
    """What to run, and what else there is on the front of speed and mIoU."""

    board: str
    fps: float
    """Wanted for each camera."""
    cameras: int
    camera_hw: Size | None
    choice: Candidate
    alternatives: tuple[Candidate, ...]
    """The rest of the front, most accurate first."""
    commands: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """As JSON values."""
        camera = self.camera_hw
        return {
            "board": self.board,
            "board_title": BOARDS[self.board].title if self.board in BOARDS else self.board,
            "fps": self.fps,
            "cameras": self.cameras,
            "camera": f"{camera[0]}x{camera[1]}" if camera else None,
            "choice": self.choice.to_dict(),
            "alternatives": [candidate.to_dict() for candidate in self.alternatives],
            "commands": list(self.commands),
            "notes": list(self.notes),
        }


def find_board(name: str) -> Board:
    """The board of a name.

    Raises:
        OptionError: an unknown one; the nearest is named.
    """
    if as_text(name, "board") in BOARDS:
        return BOARDS[name]
    spelled = name.lower().replace("_", "-").replace(" ", "-").removeprefix("jetson-")
    inside = sorted((key for key in BOARDS if spelled and spelled in key), key=len)
    near = inside or get_close_matches(spelled, BOARDS, 1, 0.4)
    fix = (
        f"did you mean {near[0]}? The boards are {', '.join(BOARDS)}" if near else f"choose one of {', '.join(BOARDS)}"
    )
    raise OptionError(f"unknown board {name!r}", fix, parameter="board")


def estimated_candidates(
    board: str, camera_hw: Size | None = None, qualities: Sequence[Quality] | None = None
) -> list[Candidate]:
    """Every bundled model at every size and precision with a measured mIoU, with its estimated speed on a board.

    Args:
        board: a key of ``BOARDS``.
        camera_hw: size of a camera's frames, whose resize is added; None adds nothing.
        qualities: what to choose from; None is what ships in the package.

    Raises:
        OptionError: an unknown board.
    """
    chosen = find_board(board)
    found = []
    for quality in bundled_qualities() if qualities is None else qualities:
        if quality.precision == "int8" and not chosen.has_int8:
            continue
        own_hw, kernels = _kernels(quality.model, quality.precision == "int8")
        scaled = scaled_kernels(kernels, own_hw, quality.size_hw)
        resized = _resize_s(chosen, camera_hw)
        graph_s = resized + _seconds(scaled, chosen, quality.precision)
        if chosen.takes_our_kernels:
            seconds = _seconds(kernels_on(chosen, scaled, camera_hw), chosen, quality.precision)
        else:
            seconds = graph_s
        found.append(
            Candidate(
                quality.model,
                quality.size_hw,
                quality.precision,
                1 / seconds,
                1 / seconds / USUAL_ERROR,
                USUAL_ERROR / seconds,
                1000 * seconds,
                quality.miou,
                quality.data,
                measured=False,
                graph_ends_ms=1000 * graph_s,
            )
        )
    return found


def _seconds(kernels: tuple[Kernel, ...], board: Board, precision: Precision) -> float:
    return sum(layer.seconds for layer in layer_times(kernels, board, precision))


def with_measured(estimated: Iterable[Candidate], measured: Sequence[Candidate]) -> list[Candidate]:
    """Measured candidates, and those estimated that none of them is; a missing mIoU is taken from the estimated one."""
    known = {candidate.name: candidate for candidate in estimated}
    filled = [
        replace(candidate, miou=known[candidate.name].miou, data=known[candidate.name].data)
        if candidate.miou is None and candidate.name in known
        else candidate
        for candidate in measured
    ]
    names = {candidate.name for candidate in filled}
    return [*filled, *(candidate for name, candidate in known.items() if name not in names)]


def front(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Those that no other beats in both speed and mIoU, most accurate first."""
    found: list[Candidate] = []
    best = -1.0
    for candidate in sorted(candidates, key=lambda one: (-one.fps, -(one.miou or 0))):
        # To the fourth place, as in a report: what two runtimes make of the same arithmetic differs after it.
        if (miou := round(candidate.miou or 0, 4)) > best:
            found.append(candidate)
            best = miou
    return found[::-1]


def choose(
    candidates: Sequence[Candidate],
    board: str,
    fps: float,
    *,
    cameras: int = 1,
    camera_hw: Size | None = None,
) -> Plan:
    """Take the most accurate candidate that reaches the rate, the error of its estimate allowed for if one can be.

    Args:
        candidates: with the speed of the whole board, for a single camera.
        board: its name.
        fps: wanted frames per second of each camera.
        cameras: how many share the board.
        camera_hw: size of their frames.

    Raises:
        OptionError: nothing reaches the rate; the nearest that is possible is named.
    """
    if not (math.isfinite(fps) and fps > 0):
        raise OptionError(
            f"{fps:g} frames per second is not a rate", "give a number above 0, such as 30", parameter="fps"
        )
    if cameras < 1:
        raise OptionError(f"{cameras} is not a number of cameras", "give 1 or more", parameter="cameras")
    datas = {candidate.data for candidate in candidates if candidate.miou is not None}
    main = _main_data(candidates)
    comparable = [_shared(one, cameras, fps) for one in candidates if one.data == main or one.miou is None]
    on_front = front(comparable)
    if not on_front:
        raise OptionError("no model with a measured mIoU is known", "give a report of the board", parameter="report")
    sure = [candidate for candidate in on_front if candidate.fps_low >= fps]
    reaching = sure or [candidate for candidate in on_front if candidate.fps >= fps]
    if not reaching:
        raise _impossible(on_front[-1], board, fps, cameras, camera_hw)
    # What mIoU varies by without a reason is not worth more of the GPU's time.
    choice = [one for one in reaching if (one.miou or 0) >= (reaching[0].miou or 0) - _EQUAL_MIOU][-1]
    others = tuple(candidate for candidate in on_front if candidate is not choice)
    notes = _notes(choice, sure, camera_hw, main, others, fps)
    if choice is not reaching[0]:
        notes.insert(0, f"Up to {_EQUAL_MIOU:g} mIoU is noise: of such engines the fastest is taken.")
    if left_out := sorted(datas - {main}):
        notes.append(
            f"Left out, because mIoU on different data does not compare: models measured on {', '.join(left_out)}."
        )
    return Plan(
        board,
        fps,
        cameras,
        camera_hw,
        choice,
        others,
        commands_of(choice, board, fps, cameras, camera_hw),
        tuple(notes),
    )


def commands_of(choice: Candidate, board: str, fps: float, cameras: int, camera_hw: Size | None) -> tuple[str, ...]:
    """What to type on the board: build, run, measure, and plan again with what was measured."""
    size = f"{choice.size_hw[0]}x{choice.size_hw[1]}"
    engine = shlex.quote(f"{choice.name}.engine")
    shipped = choice.model in bundled.names()
    model = choice.model if shipped else f"{choice.model}.onnx"  # a report names the file by its stem
    resized = f" --size {size}" if shipped and _own_size(choice.model) != choice.size_hw else ""
    sources = "".join(f" --camera {index}" for index in range(cameras))
    camera = f" --size {camera_hw[0]}x{camera_hw[1]}" if camera_hw else ""
    again = (
        (f"--board {board} " if board in BOARDS else "")
        + f"--fps {fps:g}"
        + (f" --cameras {cameras}" if cameras > 1 else "")
        + (f" --camera {camera_hw[0]}x{camera_hw[1]}" if camera_hw else "")
    )
    return (
        f"pspnet-edge build {shlex.quote(model)}{resized} --precision {choice.precision} -o {engine}",
        f"pspnet-edge run {engine}{sources}{camera}",
        f"pspnet-edge benchmark {engine} -o report",
        f"pspnet-edge plan {again} --report report/report.json",
    )


@cache
def _kernels(model: str, int8: bool) -> tuple[Size, tuple[Kernel, ...]]:
    path = bundled.onnx_path(model)
    return _own_size(model), fused_kernels(read_graph(path), int8=int8)


@cache
def _own_size(model: str) -> Size:
    _, height, width = read_model(bundled.onnx_path(model)).shape_nhw
    return height, width


def _resize_s(board: Board, camera_hw: Size | None) -> float:
    """A kernel that resizes a camera's frame before a plan that takes frames of the engine's size: bound by memory."""
    if camera_hw is None:
        return 0.0
    moved = camera_hw[0] * camera_hw[1] * _BGRX
    return moved / (board.bandwidth_gb_s * 1e9 * FITTED.bandwidth) + FITTED.launch_us * 1e-6


def _main_data(candidates: Sequence[Candidate]) -> str:
    """The data set of a report of the board, else that of the default model, else the most frequent."""
    known = [one for one in candidates if one.miou is not None]
    reported = [one.data for one in known if one.measured]
    named = (
        reported or [one.data for one in known if one.model == bundled.DEFAULT] or [one.data for one in known] or [""]
    )
    return max(dict.fromkeys(named), key=named.count)


def _shared(candidate: Candidate, cameras: int, fps: float) -> Candidate:
    """The speed that each of several cameras gets."""
    each = candidate.fps / cameras
    return replace(
        candidate,
        fps=each,
        fps_low=candidate.fps_low / cameras,
        fps_high=candidate.fps_high / cameras,
        load=fps / each,
    )


def _impossible(fastest: Candidate, board: str, fps: float, cameras: int, camera_hw: Size | None) -> OptionError:
    each = "" if cameras == 1 else f" for each of {cameras} cameras"
    size = f"{fastest.size_hw[0]}x{fastest.size_hw[1]}"
    kind = "measured" if fastest.measured else "estimated"
    title = BOARDS[board].title if board in BOARDS else board
    possible = math.floor(fastest.fps) if fastest.fps >= 1 else round(fastest.fps, 2)
    fix = f"lower it to {possible:g}" if possible else "use fewer cameras"
    quicker = _quicker_board(fps * cameras, camera_hw, board)
    if quicker:
        fix += f", or use {quicker}"
    return OptionError(
        f"{title} does not reach {fps:g} FPS{each}: the fastest, {fastest.model} at {size} in "
        f"{fastest.precision.upper()}, is {kind} at {possible:g} FPS{each}",
        fix,
        parameter="fps",
    )


def _quicker_board(wanted: float, camera_hw: Size | None, board: str) -> str | None:
    """The same board at its faster clocks, or else the slowest that is sold today, that reaches a rate in total."""
    best = [
        (max(candidate.fps for candidate in estimated_candidates(name, camera_hw)), name)
        for name in BOARDS
        if name != board and BOARDS[name].architecture in (AMPERE, BLACKWELL)
    ]
    reaching = sorted((fps, name) for fps, name in best if fps >= wanted)
    names = [name for _, name in reaching]
    faster_clocks = f"{board}-super"
    return faster_clocks if faster_clocks in names else next(iter(names), None)


def _notes(
    choice: Candidate,
    sure: Sequence[Candidate],
    camera_hw: Size | None,
    data: str,
    others: Sequence[Candidate],
    fps: float,
) -> list[str]:
    notes = []
    if not choice.measured:
        notes.append(
            f"Speeds are estimates of the GPU's work: within a factor of {USUAL_ERROR:g} for 49 of 50 published "
            "figures (docs/estimate.md). Capture and display come on top."
        )
    if choice.graph_ends_ms is not None and choice.graph_ends_ms > choice.latency_ms:
        notes.append(
            f"A frame takes {choice.latency_ms:.2f} ms with our head and tail kernels, and {choice.graph_ends_ms:.2f} "
            "where `build` leaves both to the graph."
        )
    if not sure:
        notes.append(
            f"No candidate reaches {fps:g} FPS at the lower end of its error bar ({choice.fps_low:.0f} FPS for this "
            "one): measure before you rely on it."
        )
    faster = next((one for one in others if one.fps > choice.fps), None)
    if faster is not None and choice.miou is not None and faster.miou is not None:
        cost = f"{100 * (faster.miou - choice.miou):+.2f} pp mIoU"
        notes.append(f"More room: {faster.name} at {faster.fps:.0f} FPS, {cost}.")
    shipped = choice.model in bundled.names()
    if choice.miou is not None and shipped:
        notes.append(f"mIoU was measured on {data}; on your data it differs, and so may the order.")
    if shipped and _own_size(choice.model) != choice.size_hw:
        size = f"{choice.size_hw[0]}x{choice.size_hw[1]}"
        notes.append(
            f"{size} is not the size that the model ships at, so `build` needs torch; without it run "
            f"`pspnet-edge export {shlex.quote(choice.model)} --size {size}` on another machine and build the .onnx."
        )
    if camera_hw is not None:
        wide, narrow = camera_hw[1] / camera_hw[0], choice.size_hw[1] / choice.size_hw[0]
        if abs(wide / narrow - 1) > 0.05:
            notes.append(
                f"The camera's frames are {wide:.2f} as wide as high, the network's {narrow:.2f}: they are stretched; "
                "`run --fit letterbox` keeps their shape."
            )
    return notes

"""Many boards: the canaries first, then the others side by side, and a table of what each did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..document import List, Map, Number, Optional, Record, Text, Unfit, check_value
from ..errors import DeployError, PspnetEdgeError
from ..inputs import read_text
from ..lazy import available, require
from ..pack_file import PackFile, read_pack
from ..records import JsonRecord
from .remote import Remote, Target, parse_target, wheels_in

MOST_BOARDS = 1000
_SIDE_BY_SIDE = 16
_BOARD = Record(
    {"host": Text(400)},
    {
        "name": Text(100),
        "command": Text(1000),
        "home": Text(1000),
        "pack": Text(1000),
        "identity": Text(1000),
        "port": Number(1, 65535, whole=True),
    },
    closed=True,
)
_FLEET = Record({"board": List(_BOARD, 1, MOST_BOARDS)}, {"defaults": Map(Text(1000), 10)}, closed=True)
_ANSWER = Record(
    {"version": Text(200), "state": Text(50), "agreement": Number(0, 1), "fps": Number(0)},
    {"watts": Optional(Number(0))},
)
_LISTED = Record({"active": Optional(Text(200)), "versions": List(Record({"version": Text(200)}), 0, 10_000)})


@dataclass(frozen=True)
class BoardResult(JsonRecord):
    """What one board did."""

    board: str
    state: str
    """``active`` or ``rolled_back``; ``empty`` where no version is active; ``failed``; ``skipped`` where the failure of
    another board stopped the roll-out."""
    version: str | None = None
    """The active one, of a board that failed too; None where the board does not say."""
    agreement: float | None = None
    fps: float | None = None
    watts: float | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Orders:
    """What every board is told."""

    arguments: tuple[str, ...]
    """Options of ``deploy``; without ``--json``, the action and the pack."""
    pack: Path | None
    """What is deployed. To roll back, the version to leave: a board that does not run it keeps what it runs; None rolls
    every board back."""
    action: Literal["deploy", "rollback", "list"] = "deploy"
    canary: int = 0
    continue_on_error: bool = False
    wheelhouse: Path | None = None
    """Wheels to install first; None installs nothing."""
    ssh_config: Path | None = None
    home: str | None = None
    """Where versions are on boards that name no other place."""


def read_fleet(path: Path) -> list[Target]:
    """The boards in a TOML file: ``[[board]]`` tables with ``host``, and ``[defaults]`` for the others' keys.

    Raises:
        DeployError: it is not such a file.
    """
    text = read_text(path, "fleet file", DeployError)
    toml = _toml()
    try:
        facts = toml.loads(text)
        check_value(facts, _FLEET, "it")
        return [_target({**facts.get("defaults", {}), **board}, path.parent) for board in facts["board"]]
    except (ValueError, RecursionError) as error:  # also of a number of too many digits
        raise DeployError(
            f"the fleet file {path} cannot be used ({error})", "correct it; docs/deploy.md shows one"
        ) from error


def run_fleet(targets: Sequence[Target], orders: Orders, on_line: Callable[[str, str], None]) -> list[BoardResult]:
    """Give orders to boards; the results are in the boards' order.

    Args:
        targets: the boards.
        orders: what they are told.
        on_line: called with a board's title and a line that it says.

    Raises:
        PackError: a pack cannot be used; no board was told anything.
    """
    titles = [target.title for target in targets]
    if len(set(titles)) != len(titles):
        raise DeployError("a board is named twice", "name each board once")
    packs = {path: read_pack(path) for path in {target.pack or orders.pack for target in targets} if path is not None}
    wheels = wheels_in(orders.wheelhouse) if orders.wheelhouse is not None else None
    results: dict[str, BoardResult] = {}

    def do(target: Target) -> BoardResult:
        if not orders.continue_on_error and any(result.state == "failed" for result in results.values()):
            result = BoardResult(target.title, "skipped", problem="another board failed before its turn")
        else:
            path = target.pack or orders.pack
            pack = packs[path] if path is not None and orders.pack is not None else None
            result = _on_board(target, pack, wheels, orders, lambda line: on_line(target.title, line))
        results[target.title] = result
        return result

    with ThreadPoolExecutor(_SIDE_BY_SIDE, "board") as pool:
        for group in (targets[: orders.canary], targets[orders.canary :]):
            list(pool.map(do, group))
    return [results[title] for title in titles]


def summary_of(results: Sequence[BoardResult]) -> dict[str, object]:
    """``version``, ``state``, ``agreement`` and ``fps`` (the least of all boards) and ``boards``."""
    good = [result for result in results if result.state in ("active", "rolled_back")]
    versions = sorted({result.version for result in good if result.version})
    states = {result.state for result in results}
    if states <= {"active", "rolled_back"}:
        state = "rolled_back" if "rolled_back" in states else "active"
    else:
        state = "partial" if good else "empty" if states == {"empty"} else "failed"
    return {
        "version": versions[0] if len(versions) == 1 else None,
        "state": state,
        "agreement": min((result.agreement for result in good if result.agreement is not None), default=None),
        "fps": min((result.fps for result in good if result.fps is not None), default=None),
        "boards": [result.to_dict() for result in results],
    }


def table_of(results: Sequence[BoardResult]) -> str:
    """The results for people."""
    problem = "problem" if any(result.problem for result in results) else ""
    rows = [("board", "state", "active version", "FPS", "agreement", "watts", problem)]
    for result in results:
        rows.append(
            (
                result.board,
                result.state.replace("_", " "),
                result.version or "-",
                f"{result.fps:.1f}" if result.fps is not None else "-",
                f"{result.agreement:.2%}" if result.agreement is not None else "-",
                f"{result.watts:.1f}" if result.watts is not None else "-",
                result.problem or "",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip((*row,), (*widths, 0))).rstrip() for row in rows
    )


def _on_board(
    target: Target,
    pack: PackFile | None,
    wheels: tuple[list[tuple[Path, str]], str] | None,
    orders: Orders,
    on_line: Callable[[str], None],
) -> BoardResult:
    try:
        remote = Remote(target, orders.ssh_config)
        if wheels is not None:
            on_line("installing the toolkit")
            remote.install(*wheels)
        place_of_versions = target.home or orders.home
        home = ["--home", place_of_versions] if place_of_versions else []
        if orders.action == "list":
            return _listed(target, remote, home)
        arguments = ["deploy", *orders.arguments, "--json", *home]
        place = name = ""
        if orders.action == "rollback":
            if pack is not None:
                found = _listed(target, remote, home)
                if not pack.made(found.version):
                    on_line(f"it does not run {pack.path.name}")
                    return found
            arguments.append("--rollback")
        elif pack is not None:
            place, name = remote.send(pack.path, pack.sha256), pack.path.name
            on_line(f"{name} is there")
            arguments.append(place)

        def named(text: str) -> str:
            return text.replace(place, name) if place else text

        result = _result(target, remote.call(arguments, lambda line: on_line(named(line))))
        if result.state == "failed":
            return replace(result, version=_listed(target, remote, home).version, problem=named(result.problem or ""))
        if place:
            remote.keep_only(place)
        return result
    except PspnetEdgeError as error:
        return BoardResult(target.title, "failed", problem=str(error).removeprefix(f"{target.title}: "))
    except Exception as error:  # what goes wrong with one board must not hide what the others did
        return BoardResult(target.title, "failed", problem=f"{type(error).__name__}: {error}")


def _result(target: Target, facts: dict[str, Any]) -> BoardResult:
    error = facts.get("error")
    if isinstance(error, dict):
        return BoardResult(target.title, "failed", problem=str(error.get("problem"))[:2000])
    try:
        check_value(facts, _ANSWER, "its answer")
    except Unfit as reason:
        return BoardResult(target.title, "failed", problem=f"its answer is not understood ({reason})")
    return BoardResult(
        target.title, facts["state"], facts["version"], facts["agreement"], facts["fps"], facts.get("watts")
    )


def _listed(target: Target, remote: Remote, home: Sequence[str]) -> BoardResult:
    """The active version of a board."""
    facts = remote.call(["deploy", "--list", "--json", *home], lambda line: None)
    try:
        if isinstance(facts.get("error"), dict):
            return _result(target, facts)
        check_value(facts, _LISTED, "its answer")
        if facts["active"] is None:
            return BoardResult(target.title, "empty")
        row: dict[str, Any] = next((row for row in facts["versions"] if row["version"] == facts["active"]), {})
        if "problem" in row:
            return BoardResult(target.title, "failed", facts["active"], problem=str(row["problem"])[:2000])
        return _result(target, {**row, "state": "active"})
    except Unfit as reason:
        return BoardResult(target.title, "failed", problem=f"its answer is not understood ({reason})")


def _target(board: dict[str, Any], folder: Path) -> Target:
    target = parse_target(board["host"])
    return replace(
        target,
        port=board.get("port", target.port),
        name=board.get("name", ""),
        command=board.get("command"),
        home=board.get("home"),
        pack=folder / board["pack"] if "pack" in board else None,
        identity=Path(board["identity"]).expanduser() if "identity" in board else None,
    )


def _toml() -> Any:
    # Python 3.10 brings no TOML reader.
    return require("tomllib" if available("tomllib") else "tomli", "read a fleet file")

"""What a command line asks for, read as the parser reads it, for the time when the parser itself has failed."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ..inputs import checkpoint_of_run, is_folder

# Commands and parameters are click's or those of the click inside Typer, by release; both have the same members.


def command_at(tree: Any, arguments: list[str]) -> Any:
    """The command or group that ``arguments`` lead to."""
    return _walk(tree, arguments)[0]


def asked_for_json(tree: Any, arguments: list[str]) -> bool:
    """Whether ``--json`` is among the options; not where it is the value of another option or follows ``--``."""
    return "--json" in _walk(tree, arguments)[1]


_ELSEWHERE = {
    "--data": "--root",
    "--data-dir": "--root",
    "--img": "--size",
    "--imgsz": "--size",
    "--img-size": "--size",
    "--source": "--input",
    "--weights": "--init",
    "--pretrained": "--init",
    "--lr": "--learning-rate",
    "--lr0": "--learning-rate",
    "--batch-size": "--batch",
    "--name": "--output",
    "--project": "--output",
    "--save": "--save-overlays",
    "--save-dir": "--output",
    "--half": "--precision",
    "--int8": "--precision",
}
"""What other trainers call an option, and the one that it is here."""


def meant_option(error: Any, command: Any) -> str | None:
    """The option of ``command`` that was meant by one of another program, or by a data set without its ``--root``."""
    options = {name for entry in command.params for name in entry.opts}
    meant = _ELSEWHERE.get(getattr(error, "option_name", None) or "")
    if "unexpected extra argument" in str(getattr(error, "message", "")):
        meant = "--root"
    return meant if meant in options else None


def option_of(command: Any, parameter: str) -> str:
    """The option or argument that sets a parameter: ``max_drop`` → ``--max-drop``."""
    for entry in command.params:
        if entry.name == parameter:
            named = next((name for name in entry.opts if name.startswith("--")), entry.opts[0])
            return str(named if named.startswith("-") else entry.metavar or parameter.upper()).strip("[]")
    return "--" + parameter.replace("_", "-")


def with_root(tree: Any, arguments: list[str]) -> str | None:
    """The command line with the folder that is among its arguments as ``--root``; None where that is not what is wrong.

    The folder of a training run is that of a model, whose checkpoint is named.
    """
    command, options, places = _walk(tree, arguments)
    given = {option.partition("=")[0] for option in options}
    names = next(({*entry.opts, *entry.secondary_opts} for entry in command.params if entry.name == "root"), set())
    folders = [place for place in places if is_folder(Path(arguments[place]))]
    runs = {place: run for place in folders if (run := checkpoint_of_run(Path(arguments[place]))) is not None}
    roots = [place for place in folders if place not in runs]
    if "--root" not in names or given & names or len(roots) != 1:
        return None
    words = [str(runs.get(place, word)) for place, word in enumerate(arguments) if place != roots[0]]
    return shlex.join(["pspnet-edge", *words, "--root", arguments[roots[0]]])


def _walk(command: Any, arguments: list[str]) -> tuple[Any, set[str], list[int]]:
    """The last command on the line, every option that is not another one's value, and where its arguments are."""
    options: set[str] = set()
    places: list[int] = []
    waiting = list(enumerate(arguments))
    while waiting:
        place, token = waiting.pop(0)
        if token == "--":
            break
        if token.startswith("-") and len(token) > 1:
            name, joined, _ = token.partition("=")
            options.add(token)
            if not joined and _takes_value(command, name) and waiting:
                waiting.pop(0)
        elif token in getattr(command, "commands", {}):
            command = command.commands[token]
        else:
            places.append(place)
    return command, options, places


def _takes_value(command: Any, name: str) -> bool:
    for entry in command.params:
        if name in (*entry.opts, *entry.secondary_opts):
            return not (getattr(entry, "is_flag", False) or getattr(entry, "count", False))
    return False

"""The exception tree. The command line catches ``PspnetEdgeError`` once and prints one sentence.

PspnetEdgeError
├── DataError           a data set, image, mask or calibration list that cannot be used
├── ModelError          a checkpoint or an ONNX file that is not what it should be
├── CalibrationError    a calibration table that is damaged, stale or made for another model
├── BuildError          an engine that could not be built
├── EngineError         an engine that cannot be opened or run
├── SourceError         a camera, video or folder that delivers no frames
├── OutputError         a place that cannot be written
├── PackError           a pack that is damaged, altered, or signed by another key
├── DeployError         a version that was not put to work, or a board that cannot be reached
├── OptionError         a value of a parameter that is wrong or does not fit the others; exit status 2
└── MissingPackage      an optional package that is needed and not installed
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, TypeVar

Name = TypeVar("Name", bound=str)

_VERBS = (
    "add bring build check choose close connect convert copy correct distil estimate evaluate export fetch free give "
    "import install keep label leave look lower make name open pip plug put raise rebuild recreate reinstall remove "
    "reopen report resize restart restore resume retry run save see start submit sudo take train try unpack update "
    "upgrade use wait write"
)
_FIX = re.compile(rf": (?=(?:{_VERBS.replace(' ', '|')}) |`pspnet-edge )")
_COMMAND = re.compile(r"`((?:pspnet-edge|pip|sudo|git|python) [^`]+)`|((?:pip install|sudo) [^,;]+?)(?=,|;| or |$)")


class PspnetEdgeError(Exception):
    """Something the user can fix.

    ``str()`` joins the parts into one sentence: ``problem: fix with `command```.

    One sentence ``"what is wrong: how to fix it"`` is taken apart, and the command found that it quotes.

    Args:
        problem: what is wrong, naming the file or value.
        fix: what to do about it, as an imperative: ``"choose another path"``.
        command: a shell command that does it, ready to paste.
    """

    def __init__(self, problem: str, fix: str | None = None, command: str | None = None) -> None:
        super().__init__(problem, fix, command)
        if fix is None and command is None and (marks := list(_FIX.finditer(problem))):
            problem, fix = problem[: marks[-1].start()], problem[marks[-1].end() :]
        if fix is not None and command is None and (quoted := list(_COMMAND.finditer(fix))):
            command = quoted[-1][1] or quoted[-1][2]
        self.problem = problem
        self.fix = fix
        self.command = command

    def __str__(self) -> str:
        fix, command = self.fix, self.command
        if command is not None and command not in (fix or ""):
            fix = f"{fix} with `{command}`" if fix else f"run `{command}`"
        return f"{self.problem}: {fix}" if fix else self.problem

    def to_dict(self) -> dict[str, str | None]:
        """The parts as JSON values: what ``--json`` prints under ``error``."""
        return {"problem": self.problem, "fix": self.fix, "command": self.command}


class DataError(PspnetEdgeError):
    """A data set, image, mask or calibration list that cannot be used."""


class ModelError(PspnetEdgeError):
    """A checkpoint or an ONNX file that is not what it should be."""


class CalibrationError(PspnetEdgeError):
    """A calibration table that is damaged, stale or made for another model."""


class BuildError(PspnetEdgeError):
    """An engine that could not be built."""


class EngineError(PspnetEdgeError):
    """An engine that cannot be opened or run."""


class SourceError(PspnetEdgeError):
    """A camera, video or folder that delivers no frames."""


class OutputError(PspnetEdgeError):
    """A place that cannot be written."""


class OptionError(PspnetEdgeError):
    """A value of a parameter that is wrong, or does not fit the others or the file it is for.

    The command line exits with status 2 for it, as for any wrong usage, and with 1 for every other error.

    Args:
        problem: what is wrong.
        fix: what to do about it.
        command: a shell command that does it.
        parameter: the Python parameter at fault, such as ``"max_drop"``; the command line shows its option.
    """

    def __init__(
        self, problem: str, fix: str | None = None, command: str | None = None, *, parameter: str | None = None
    ) -> None:
        super().__init__(problem, fix, command)
        self.parameter = parameter

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args, {"parameter": self.parameter}

    def __str__(self) -> str:
        sentence = super().__str__()
        return f"{self.parameter}: {sentence}" if self.parameter else sentence


def one_of(value: object, known: Collection[Name], what: str, parameter: str | None = None) -> Name:
    """``value``, which must be one of the known names of ``what``.

    Raises:
        OptionError: it is none of them.
    """
    for name in known:
        if name == value:
            return name
    raise OptionError(f"unknown {what} {value!r}", f"choose one of {', '.join(known)}", parameter=parameter)


class PackError(PspnetEdgeError):
    """A pack that is damaged, altered, or signed by another key."""


class DeployError(PspnetEdgeError):
    """A version that was not put to work, or a board that cannot be reached."""


class MissingPackage(PspnetEdgeError):
    """An optional package that is needed and not installed."""

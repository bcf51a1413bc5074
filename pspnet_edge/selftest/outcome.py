"""What a check answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..records import JsonRecord

State = Literal["pass", "fail", "skip"]
Figures = Mapping[str, object]


class Failed(Exception):
    """A check found something wrong; the message says what in one sentence."""


class Skipped(Exception):
    """A check cannot run here; the message says why."""


@dataclass(frozen=True)
class Answer:
    """What a check that passed saw."""

    seen: str
    """One sentence."""
    figures: Figures = field(default_factory=dict)
    """Measured values, by name."""


@dataclass(frozen=True)
class Check:
    """One thing that is tried."""

    name: str
    tries: str
    """What, as a phrase for people."""
    run: Callable[[], Answer]
    limit_s: int = 60
    """How long it may take; longer is a failure."""


@dataclass(frozen=True)
class Outcome(JsonRecord):
    """A check and how it ended."""

    name: str
    state: State
    reason: str
    """What was seen, what is wrong, or why it was not tried: one sentence."""
    elapsed_s: float
    figures: Figures = field(default_factory=dict)


def require(holds: bool, complaint: str) -> None:
    """Raise ``Failed`` unless something holds."""
    if not holds:
        raise Failed(complaint)

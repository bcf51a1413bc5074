"""What a check answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict


@dataclass(frozen=True)
class Wanted:
    """What the person means to run; it decides which checks apply and which troubles block."""

    cameras: tuple[str, ...] = ()
    """``/dev/videoN`` or ``csi://N``."""
    engine: Path | None = None

    @property
    def csi(self) -> bool:
        """Whether the cameras go through Argus, or some of them."""
        return any(camera.startswith("csi://") for camera in self.cameras)


@dataclass(frozen=True)
class Verdict:
    """One finding."""

    state: str
    """``ok``, ``warn``, ``block``, or ``skip`` where the check does not apply."""
    says: str
    """One sentence."""
    command: str | None = None
    """The command that fixes it; None where there is nothing to fix."""


class FindingFacts(TypedDict):
    """A finding as JSON values."""

    name: str
    state: str
    reason: str
    command: str | None
    says: str
    """The earlier name of ``reason``."""
    mend: str | None
    """The earlier name of ``command``."""


@dataclass(frozen=True)
class Finding:
    """A verdict and the check that gave it."""

    name: str
    verdict: Verdict

    def facts(self) -> FindingFacts:
        """As JSON values."""
        says, command = self.verdict.says, self.verdict.command
        return {
            "name": self.name,
            "state": self.verdict.state,
            "reason": says,
            "command": command,
            "says": says,
            "mend": command,
        }


def ok(says: str) -> Verdict:
    """Nothing to fix."""
    return Verdict("ok", says)


def skip(says: str) -> Verdict:
    """Does not apply here; ``says`` is why."""
    return Verdict("skip", says)


def warn(says: str, command: str | None = None) -> Verdict:
    """Runs, but not as well as it could."""
    return Verdict("warn", says, command)


def block(says: str, command: str | None = None) -> Verdict:
    """Does not run before it is fixed."""
    return Verdict("block", says, command)

"""The service that runs the active version: restarting it, and whether it is healthy."""

from __future__ import annotations

import http.client
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Protocol

from ..errors import DeployError, OptionError
from ..inputs import as_text

_TIMEOUT_S = 1900.0
"""The unit may take 30 minutes to start."""
_EVERY_S = 0.5
_UNIT = re.compile(r"[A-Za-z0-9:_.@-]{1,200}")


class Service(Protocol):
    """Something that runs the active version."""

    name: str

    def restart(self) -> None:
        """Run the version that is active now.

        Raises:
            DeployError: it does not start.
        """

    def problem(self) -> str | None:
        """Why it is not healthy at the moment, or None."""


class SystemdService:
    """A systemd unit.

    Args:
        unit: its name.
        health: an address that answers 200 while the loop is healthy; None asks systemd only.
    """

    def __init__(self, unit: str, health: str | None = None) -> None:
        if not _UNIT.fullmatch(as_text(unit, "service")) or unit.startswith("-"):
            raise OptionError(
                f"{unit!r} is not the name of a unit", "give one such as pspnet-edge", parameter="service"
            )
        self.name = unit
        self._health = health
        self._restarts = 0

    @property
    def exists(self) -> bool:
        """Whether systemd runs here and knows the unit."""
        return shutil.which("systemctl") is not None and self._systemctl("cat", self.name).returncode == 0

    def restart(self) -> None:
        done = self._systemctl("restart", self.name)
        if done.returncode != 0:
            said = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
            raise DeployError(f"{self.name} does not start ({said})", "see why", f"journalctl -eu {self.name}")
        self._restarts = self._count_restarts()

    def problem(self) -> str | None:
        state = self._systemctl("is-active", self.name).stdout.strip()
        if state != "active":
            return f"{self.name} is {state or 'unknown to systemd'}"
        if self._count_restarts() > self._restarts:
            return f"{self.name} ended and was started again by systemd"
        return address_problem(self._health) if self._health else None

    def _count_restarts(self) -> int:
        text = self._systemctl("show", "--property=NRestarts", "--value", self.name).stdout.strip()
        return int(text) if text.isdecimal() else 0

    @staticmethod
    def _systemctl(*arguments: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(["systemctl", *arguments], capture_output=True, text=True, timeout=_TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            return subprocess.CompletedProcess(["systemctl"], 1, "", str(error))


def address_problem(address: str) -> str | None:
    """Why an address does not answer 200, or None."""
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return None if answer.status == 200 else f"{address} answers {answer.status}"
    except urllib.error.HTTPError as error:
        return f"{address} answers {error.code}"
    except (OSError, ValueError, http.client.HTTPException) as error:  # also what is not HTTP
        return f"{address} does not answer ({getattr(error, 'reason', error)})"


def watch(service: Service, seconds: float, on_second: Callable[[int], None] = lambda done: None) -> str | None:
    """Why a service that was just restarted is not healthy, or None when it is at the end and was since it began to be.

    It may take a third of the time until it is healthy for the first time.

    Args:
        service: what is watched.
        seconds: how long.
        on_second: called with the seconds that have passed.
    """
    begin = time.monotonic()
    was_healthy = False
    while True:
        passed = time.monotonic() - begin
        problem = service.problem()
        if problem is None:
            was_healthy = True
        elif was_healthy or passed > seconds / 3:
            return problem
        if passed >= seconds:
            return problem
        on_second(int(passed))
        time.sleep(min(_EVERY_S, max(seconds - passed, 0.01)))

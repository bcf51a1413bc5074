"""Telling systemd that the loop runs: sd_notify(3), whose protocol is one datagram to a socket in the environment."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Mapping

from ..errors import OptionError
from .loop import RunSummary

_FEWEST_PINGS = 3
"""In one period of the watchdog; sd_watchdog_enabled(3) asks for two."""


def notify(state: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Send one message, such as ``READY=1``; False when it could not be sent, as where systemd does not listen."""
    address = environment.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            # systemd that does not listen must not hang what it watches.
            sender.settimeout(1.0)
            # An @ denotes the zero byte of Linux's abstract names.
            sender.connect("\0" + address[1:] if address[0] == "@" else address)
            sender.sendall(state.encode())
    except OSError:
        return False
    return True


class Watchdog:
    """Pings systemd while the loop lives, so that it is started again when it hangs.

    A lost camera is not a hang: as long as the loop tries to get it back, a restart would not help.

    Args:
        stuck: says what hangs, or an empty string.
        summary: figures for ``systemctl status``.
        environment: systemd's variables.

    Raises:
        OptionError: the process was not started by systemd with ``Type=notify``.
    """

    def __init__(
        self,
        stuck: Callable[[], str],
        summary: Callable[[], RunSummary],
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        if not environment.get("NOTIFY_SOCKET"):
            raise OptionError("--watchdog is for a systemd unit with Type=notify and WatchdogSec=60: leave it out here")
        period_us = environment.get("WATCHDOG_USEC", "")
        self._every_s = int(period_us) / 1e6 / _FEWEST_PINGS if period_us.isdecimal() else 10.0
        self._stuck, self._summary, self._environment = stuck, summary, environment
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        notify("READY=1", self._environment)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        notify("STOPPING=1", self._environment)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            stuck = self._stuck()
            if stuck:
                notify(f"STATUS={stuck} hangs", self._environment)
                continue
            summary = self._summary()
            lost = [source.name for source in summary.sources if source.state == "stale"]
            status = f"{summary.fps_recent:.1f} FPS" + (f", waiting for {', '.join(lost)}" if lost else "")
            notify(f"WATCHDOG=1\nSTATUS={status}", self._environment)

from __future__ import annotations

import socket
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from pspnet_edge.camera.loop import RunSummary
from pspnet_edge.camera.systemd import Watchdog, notify
from pspnet_edge.errors import OptionError

from .web_run import SUMMARY, source


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path):
    """A socket as systemd has it, and the environment that names it."""
    name = f"pspnet-edge-test-{uuid.uuid4().hex}"
    address, told = ("\0" + name, "@" + name) if request.param == "abstract" else (str(tmp_path / "n"),) * 2
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        receiver.settimeout(2)
        yield receiver, {"NOTIFY_SOCKET": told, "WATCHDOG_USEC": "150000"}


def summary() -> RunSummary:
    return replace(SUMMARY, fps_recent=30.0, sources=(source("camera 0"), source("b", state="stale")))


def test_a_message_reaches_systemd(systemd) -> None:
    receiver, environment = systemd
    assert notify("READY=1", environment)
    assert receiver.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", ["", "/nonexistent/socket", "tcp:1"])
def test_nobody_listens(address: str) -> None:
    assert not notify("READY=1", {"NOTIFY_SOCKET": address})


def test_it_pings_thrice_a_period_while_the_loop_lives(systemd) -> None:
    receiver, environment = systemd
    stuck = [""]
    with Watchdog(lambda: stuck[0], summary, environment):
        assert receiver.recv(100) == b"READY=1"
        start = time.monotonic()
        pings = [receiver.recv(200) for _ in range(4)]
        assert time.monotonic() - start < 0.5
        assert all(ping == b"WATCHDOG=1\nSTATUS=30.0 FPS, waiting for b" for ping in pings)
        stuck[0] = "inference"
        time.sleep(0.1)
        receiver.settimeout(0.2)
        late = [receiver.recv(200) for _ in range(3)]
        assert late[-1] == b"STATUS=inference hangs"
    receiver.settimeout(0)
    last = b""
    try:
        while True:
            last = receiver.recv(200)
    except BlockingIOError:
        assert last == b"STOPPING=1"


def test_outside_systemd_it_is_refused() -> None:
    with pytest.raises(OptionError, match="Type=notify"):
        Watchdog(lambda: "", summary, {})

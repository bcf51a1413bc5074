"""The sink that shows pictures in browsers."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from ...errors import OutputError
from ...labels import LabelSet
from ...lazy import require
from ..loop import RunSummary
from ..shot import Shot
from .channel import Channel

if TYPE_CHECKING:
    from .server import Server

_START_S = 10.0
_OWN_ADDRESSES = "127.0.0.1, or 0.0.0.0 for all"


class WebView:
    """A page with the live overlay, and ``/stats``, ``/metrics`` and ``/healthz``, served from its own thread.

    The loop hands over a reference to each shot and continues: a browser that is slow or hangs costs it nothing.

    Args:
        label_set: names and colours of the classes.
        summary: such as ``Loop.summary``; called from the server's thread, at most twice a second.
        host: address to listen on.
        port: 0 picks a free one.
        token: what every request must show. None asks for none on loopback and makes one elsewhere; see ``url``.
        metrics_only: no page and no pictures, only figures.
        about: a few words on the engine, for the page's head.
        opacity: of the class colours, with which the page begins.
        hide: ids of classes that the page begins without.

    Raises:
        OptionError: the token is too short.
        MissingPackage: aiohttp is not installed.
    """

    def __init__(
        self,
        label_set: LabelSet,
        summary: Callable[[], RunSummary],
        *,
        host: str = "127.0.0.1",
        port: int = 8080,
        token: str | None = None,
        metrics_only: bool = False,
        about: str = "",
        opacity: float = 0.5,
        hide: Collection[int] = (),
    ) -> None:
        require("aiohttp", "serve the web view and the metrics")
        from .guard import token_for

        self._label_set = label_set
        self._summary = summary
        self._host, self._port = host, port
        self._token = token_for(host, token)
        self.metrics_only = metrics_only
        self.whole_frames = not metrics_only
        """See ``Loop.run``."""
        self._about = about
        self._style = {"opacity": opacity, "hidden": sorted(hide)}
        self._channels: dict[int, Channel] = {}
        self._server: Server | None = None
        self._events: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None

    def __enter__(self) -> WebView:
        """Listen.

        Raises:
            OutputError: the address cannot be listened on.
        """
        listening = _listening(self._host, self._port)
        self._port = listening.getsockname()[1]
        self._thread = threading.Thread(target=self._run, args=(listening,), name="web", daemon=True)
        self._thread.start()
        self._ready.wait(_START_S)
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *exception: object) -> None:
        if self._events is not None and self._server is not None:
            # The event loop is already closed if the server crashed.
            with contextlib.suppress(RuntimeError):
                self._events.call_soon_threadsafe(self._server.end)
        self._thread.join(_START_S)

    @property
    def url(self) -> str:
        """What to open in a browser, or to scrape; with the token, so print it once and log it never."""
        host = _reachable(self._host)
        path = "metrics" if self.metrics_only else ""
        token = f"?token={self._token}" if self._token is not None and not self.metrics_only else ""
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}/{path}{token}"

    @property
    def token(self) -> str | None:
        """What requests must show, as ``Authorization: Bearer TOKEN`` or once as ``/?token=TOKEN``."""
        return self._token

    def show(self, shot: Shot) -> bool:
        """See ``Sink``. Keeps a reference and wakes the server if a viewer is connected: microseconds."""
        channel = self._channels.get(shot.camera)
        if channel is None:
            channel = self._channels[shot.camera] = Channel(shot.camera)
        if channel.take(shot) and self._server is not None and self._server.watched and self._events is not None:
            # Closed if the server crashed; the loop continues without it.
            with contextlib.suppress(RuntimeError):
                self._events.call_soon_threadsafe(self._server.notify_frame, shot.camera)
        return True

    def _run(self, listening: socket.socket) -> None:
        try:
            asyncio.run(self._serve(listening))
        except BaseException as error:
            self._failure = error
            if self._ready.is_set():
                raise  # printed by the thread; the run continues without its page
        finally:
            self._ready.set()

    async def _serve(self, listening: socket.socket) -> None:
        from .guard import Guard
        from .server import Server

        self._events = asyncio.get_running_loop()
        self._server = Server(
            self._label_set,
            self._summary,
            self._channels,
            Guard(self._token, self._port),
            about=self._about,
            style=self._style,
            metrics_only=self.metrics_only,
        )
        await self._server.serve(listening, self._ready.set)


def _listening(host: str, port: int) -> socket.socket:
    """A bound socket, made on the caller's thread so that its failure is the caller's."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise OutputError(f"cannot listen on the address {host!r}", f"use {_OWN_ADDRESSES}") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
    except OSError as error:
        listening.close()
        refused = f"cannot listen on {host} port {port} ({error.strerror})"
        if error.errno == errno.EADDRNOTAVAIL:
            raise OutputError(refused, f"give an address of this machine: {_OWN_ADDRESSES}") from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise OutputError(refused, "choose a port above 1023") from error
        fix, command = "choose another port, or see which program has it", f"ss -ltnp 'sport = :{port}'"
        raise OutputError(refused, fix, command) from error
    return listening


def _reachable(host: str) -> str:
    """An address under which other machines find this one, where ``host`` means all of them."""
    if host not in ("", "0.0.0.0", "::"):
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent: connecting a UDP socket asks the routing table which address would be used.
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()

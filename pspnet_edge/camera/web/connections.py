"""How many connections are held, and which one goes when there are too many.

A connection works while one of its requests is being answered; a viewer's does as long as it watches. Others, idle or
still to send a whole request, only wait: they are dropped after a few seconds, and at once, the oldest first, when a
new one needs the place. So connections that send half a request, or nothing, never keep a viewer out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

FIRST_REQUEST_S = 5.0
"""A new connection that has not sent a whole request after this time is dropped."""
IDLE_S = 20.0
"""A connection that has sent one is kept this long for the next: longer than Prometheus' usual 15 s."""


class Connections:
    """Keeps at most ``most`` connections.

    Args:
        server: makes the protocol of each.
        most: beyond this, connections would take the descriptors that a camera needs to come back.
    """

    def __init__(self, server: Callable[[], asyncio.Protocol], most: int) -> None:
        self._server = server
        self._most = most
        self._waiting: dict[asyncio.BaseProtocol, float] = {}
        """Until when, by ``time.monotonic``; in the order in which they began to wait."""
        self._working: dict[asyncio.BaseProtocol, int] = {}

    def accept(self) -> asyncio.Protocol:
        """The protocol of a new connection: one that hangs up when all places are taken by others that work."""
        self._forget_closed()
        if len(self._working) + len(self._waiting) >= self._most:
            if not self._waiting:
                return _Refusal()
            self._drop(next(iter(self._waiting)))
        protocol = self._server()
        self._waiting[protocol] = time.monotonic() + FIRST_REQUEST_S
        return protocol

    def drop_overdue(self) -> None:
        """Drop connections that have waited too long; call it about once a second."""
        self._forget_closed()
        now = time.monotonic()
        for protocol in [one for one, until in self._waiting.items() if until < now]:
            self._drop(protocol)

    @web.middleware
    async def watch(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Count a connection as working while its request is answered."""
        protocol = request.protocol
        self._waiting.pop(protocol, None)
        self._working[protocol] = self._working.get(protocol, 0) + 1
        try:
            return await handler(request)
        finally:
            self._working[protocol] -= 1
            if not self._working[protocol]:
                del self._working[protocol]
                self._waiting[protocol] = time.monotonic() + IDLE_S

    def _forget_closed(self) -> None:
        now = time.monotonic()
        for protocol in [one for one in self._waiting if getattr(one, "transport", None) is None]:
            left = self._waiting[protocol] - now
            # A new one gets its transport a moment after it is made; an idle one has lost it.
            if not FIRST_REQUEST_S - 1 < left <= FIRST_REQUEST_S:
                del self._waiting[protocol]

    def _drop(self, protocol: asyncio.BaseProtocol) -> None:
        del self._waiting[protocol]
        transport = getattr(protocol, "transport", None)
        if isinstance(transport, asyncio.WriteTransport):
            # Not a polite close, which would wait for what the other side does not read.
            transport.abort()


class _Refusal(asyncio.Protocol):
    """Hangs up."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()

"""One browser that watches: what it is owed, and what is sent to it.

A viewer asks for each frame with ``next``, once it has drawn an earlier one, and may have two under way for each
camera that it watches. One that is slow or far away asks less often and gets fewer frames, each the newest; one that
hangs asks for nothing and is dropped.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from aiohttp import web

from .channel import Channel

_MOST_CREDITS = 2
_SILENT_S = 30.0
_SEND_S = 10.0
_NEW_S = 0.1

CLOSE_S = 3.0
"""How long a browser may take to answer that it has read of the end."""


class Viewer:
    """See the module. It begins with the first camera there is.

    Args:
        stream: the prepared WebSocket.
        transport: below it.
    """

    def __init__(self, stream: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        self.camera: int | None = None
        """The one it watches; None for all."""
        self.credits = 0
        self.due = asyncio.Event()
        self.status: dict[str, object] | None = None
        self._chosen = False
        self._ending = False
        self._stream = stream
        self._transport = transport
        self._seen: dict[int, int] = {}
        self._sent = 0
        self._sent_last: dict[int, int] = {}
        self._heard_at = time.monotonic()

    def watches(self, camera: int) -> bool:
        """Whether it wants frames of ``camera``."""
        return self.camera is None or self.camera == camera

    def heard(self, text: Any, channels: dict[int, Channel]) -> bool:
        """Take one message; False for an unknown one.

        ``next`` asks for a frame, ``camera N`` and ``camera all`` choose, and ``here`` is for one that wants no frames
        now.
        """
        word, _, which = text.partition(" ") if isinstance(text, str) else ("", "", "")
        if word == "next":
            self._choose_first(channels)
            most = _MOST_CREDITS * (len(channels) if self.camera is None else 1)
            self.credits = min(self.credits + 1, max(most, _MOST_CREDITS))
        elif word == "camera" and which == "all":
            self._chosen, self.camera, self._seen = True, None, {}
        elif word == "camera" and which.isdecimal() and int(which) in channels:
            self._chosen, self.camera, self._seen = True, int(which), {}
            self.credits = min(self.credits, _MOST_CREDITS)
        elif word != "here":
            return False
        self._heard_at = time.monotonic()
        self.due.set()
        return True

    async def send(self, channels: dict[int, Channel]) -> None:
        """Send frames and figures until the browser is gone or hangs."""
        try:
            while time.monotonic() - self._heard_at < _SILENT_S:
                await self.due.wait()
                self.due.clear()
                status, self.status = self.status, None
                if status is not None:
                    await asyncio.wait_for(self._stream.send_str(json.dumps(status)), _SEND_S)
                while (message := self._take_owed(channels)) is not None:
                    await asyncio.wait_for(self._stream.send_bytes(message), _SEND_S)
        except (asyncio.TimeoutError, ConnectionError):
            pass
        # At the end of a run ``close`` has the last word: an abort would take it away unsent.
        if self._transport is not None and not self._ending:
            # Not a polite close: that would wait for a browser which does not answer.
            self._transport.abort()

    async def close(self, status: dict[str, object] | None, channels: dict[int, Channel]) -> None:
        """Send what is last, say that the run has ended, and wait a little for a browser that is slow to read it."""
        self._ending = True
        self.credits = len(channels)
        try:
            if status is not None:
                await asyncio.wait_for(self._stream.send_str(json.dumps(status)), CLOSE_S)
            while (message := self._take_owed(channels)) is not None:
                await asyncio.wait_for(self._stream.send_bytes(message), CLOSE_S)
            await asyncio.wait_for(self._stream.close(code=1001, message=b"the run has ended"), 2 * CLOSE_S)
        except (asyncio.TimeoutError, ConnectionError):
            if self._transport is not None:
                self._transport.abort()

    def _choose_first(self, channels: dict[int, Channel]) -> None:
        """A page that has not chosen is shown the first camera."""
        if not self._chosen and channels:
            self._chosen, self.camera = True, min(channels)

    def _take_owed(self, channels: dict[int, Channel]) -> bytes | None:
        """The message of a camera that this viewer is ready for, has not had, and is the newest there is.

        Of several cameras, the one whose last turn is longest ago.
        """
        if not self.credits:
            return None
        now = time.perf_counter()
        ready = [
            channel
            for channel in list(channels.values())
            if self.watches(channel.camera)
            and channel.published > self._seen.get(channel.camera, 0)
            and (channel.encoded is channel.newest or now - channel.published_at <= _NEW_S)
        ]
        if not ready:
            return None
        channel = min(ready, key=lambda one: self._sent_last.get(one.camera, 0))
        self.credits -= 1
        self._sent += 1
        self._sent_last[channel.camera] = self._sent
        self._seen[channel.camera] = channel.published
        return channel.message

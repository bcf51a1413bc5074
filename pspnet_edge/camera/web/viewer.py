"""One browser that watches: what it is owed, and what is sent to it.

A viewer asks for each frame with ``next``, once it has drawn an earlier one, and may have two under way. One that is
slow or far away asks less often and gets fewer frames, each the newest; one that hangs asks for nothing and is let go.
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


class Viewer:
    """See the module.

    Args:
        stream: the prepared WebSocket.
        transport: below it.
        camera: which one it starts with.
    """

    def __init__(self, stream: web.WebSocketResponse, transport: asyncio.Transport | None, camera: int) -> None:
        self.camera = camera
        self.credits = 0
        self.due = asyncio.Event()
        self.status: dict[str, Any] | None = None
        self._stream = stream
        self._transport = transport
        self._seen = 0
        self._heard_at = time.monotonic()

    def heard(self, text: Any, channels: dict[int, Channel]) -> bool:
        """Take one message, ``next``, ``camera N`` or ``here`` of one that wants no frames now; False for any other."""
        word, _, number = text.partition(" ") if isinstance(text, str) else ("", "", "")
        if word == "next":
            self.credits = min(self.credits + 1, _MOST_CREDITS)
        elif word == "camera" and number.isdecimal() and int(number) in channels:
            self.camera, self._seen = int(number), 0
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
                message = self._owed(channels.get(self.camera))
                if message is not None:
                    await asyncio.wait_for(self._stream.send_bytes(message), _SEND_S)
        except (asyncio.TimeoutError, ConnectionError):
            pass
        if self._transport is not None:
            # Not a polite close: that would wait for a browser which does not answer.
            self._transport.abort()

    async def close(self) -> None:
        """Say that the run has ended."""
        await self._stream.close(code=1001, message=b"the run has ended")

    def _owed(self, channel: Channel | None) -> bytes | None:
        """The channel's message, if this viewer is ready for one, has not had it, and it is the newest there is."""
        if channel is None or not self.credits or channel.published <= self._seen:
            return None
        if channel.encoded is not channel.newest and time.perf_counter() - channel.published_at > _NEW_S:
            return None
        self.credits -= 1
        self._seen = channel.published
        return channel.message

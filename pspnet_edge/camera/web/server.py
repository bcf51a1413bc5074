"""The web server: the page, the stream of frames, the figures. Everything here runs on the server's own thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from ...labels import LabelSet
from ...records import finite
from .channel import Channel
from .guard import Guard
from .message import message_of
from .prometheus import exposition
from .viewer import Viewer

PAGE = Path(__file__).parent / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_MOST_VIEWERS = 16
_MOST_CONNECTIONS, _BACKLOG = 64, 8
_SHORTEST_INTERVAL_S = 0.03
_SHARE = 0.1
"""Of one core: encoding rests so long after each frame that it never takes more, however fast the loop is."""
_SUMMARY_S = 0.5
_PAUSE_S = 1.0
_LOGGER = logging.getLogger("pspnet_edge.web")
# What a port scanner sends is no error of ours.
_LOGGER.addFilter(
    lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError | ConnectionError))
)


class Server:
    """The aiohttp application and the tasks beside it.

    Args:
        label_set: names and colours of the classes.
        summary: figures of the run; called at most twice a second.
        channels: by camera; the loop's thread adds to it and wakes the server.
        guard: who may come in.
        about: a few words on the engine, for the page's head.
        metrics_only: serve no pictures.
    """

    def __init__(
        self,
        label_set: LabelSet,
        summary: Callable[[], dict[str, Any]],
        channels: dict[int, Channel],
        guard: Guard,
        *,
        about: str = "",
        metrics_only: bool = False,
    ) -> None:
        self._label_set = label_set
        self._summary = summary
        self._summary_kept: tuple[float, dict[str, Any]] = (-math.inf, {})
        self._channels = channels
        self._guard = guard
        self._about = about
        self._metrics_only = metrics_only
        self._viewers: set[Viewer] = set()
        self._encoders: dict[int, asyncio.Task[None]] = {}
        self._ended = asyncio.Event()

    @property
    def watched(self) -> bool:
        """Whether anybody looks at pictures; any thread may ask."""
        return bool(self._viewers)

    async def serve(self, listening: socket.socket, ready: Callable[[], None]) -> None:
        """Serve on a bound socket until ``end``."""
        app = web.Application(client_max_size=1024)
        self._guard.install(app)
        self._add_routes(app)
        runner = web.AppRunner(app, access_log=None, logger=_LOGGER, keepalive_timeout=30, shutdown_timeout=1)
        await runner.setup()
        server = runner.server
        assert server is not None
        listener = await asyncio.get_running_loop().create_server(
            # Beyond the limit, connections would take the descriptors that a camera needs to come back.
            lambda: server() if len(server.connections) < _MOST_CONNECTIONS else _Refusal(),
            sock=listening,
            # So many are accepted between two counts.
            backlog=_BACKLOG,
        )
        ticking = asyncio.create_task(self._tick())
        ready()
        try:
            await self._ended.wait()
        finally:
            listener.close()
            for task in (ticking, *self._encoders.values()):
                task.cancel()
            await asyncio.gather(*(viewer.close() for viewer in list(self._viewers)), return_exceptions=True)
            await runner.cleanup()

    def end(self) -> None:
        """Stop serving."""
        self._ended.set()

    def stir(self, camera: int) -> None:
        """There is a new frame of ``camera``, or somebody wants one."""
        if camera in self._channels and camera not in self._encoders:
            self._encoders[camera] = asyncio.create_task(self._encode(self._channels[camera]))
        if camera in self._channels:
            self._channels[camera].stirred.set()

    # --- pictures -------------------------------------------------------------------------------------------------

    async def _encode(self, channel: Channel) -> None:
        """Encode the newest frame, once for all viewers, when one of them is ready for it."""
        while True:
            await channel.stirred.wait()
            channel.stirred.clear()
            shot = channel.newest
            watching = [viewer for viewer in self._viewers if viewer.camera == channel.camera]
            if shot is None or shot is channel.encoded or not any(viewer.credits for viewer in watching):
                continue
            start, busy = time.perf_counter(), time.thread_time()
            try:
                channel.publish(shot, message_of(shot))
            except Exception:  # one bad frame must not end the pictures of a run that lasts a year
                _LOGGER.exception("a frame of camera %d could not be encoded", channel.camera)
                await asyncio.sleep(_PAUSE_S)
                continue
            for viewer in watching:
                viewer.due.set()
            busy = time.thread_time() - busy
            await asyncio.sleep(max(_SHORTEST_INTERVAL_S - (time.perf_counter() - start), busy / _SHARE - busy))
            channel.stirred.set()

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if len(self._viewers) >= _MOST_VIEWERS:
            raise web.HTTPServiceUnavailable
        stream = web.WebSocketResponse(heartbeat=20, max_msg_size=64, compress=False, timeout=1.0)
        viewer = Viewer(stream, request.transport, min(self._channels, default=0))
        # Before the first await, so that the limit holds for those that come at once.
        self._viewers.add(viewer)
        sending = None
        try:
            await stream.prepare(request)
            viewer.status = self._hello()
            viewer.due.set()
            sending = asyncio.create_task(viewer.send(self._channels))
            async for message in stream:
                if viewer.heard(message.data, self._channels):
                    self.stir(viewer.camera)
        finally:
            self._viewers.discard(viewer)
            if sending is not None:
                sending.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await sending
        return stream

    def _hello(self) -> dict[str, Any]:
        """What a page needs once."""
        return {
            "type": "hello",
            "about": self._about,
            "label_set": self._label_set.facts(),
            "history": {
                str(camera): [second.values() for second in channel.history]
                for camera, channel in sorted(self._channels.items())
            },
            **self._status(),
        }

    # --- figures --------------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1)
            for channel in list(self._channels.values()):
                channel.tick()
            if not self._viewers:
                continue
            try:
                status = {"type": "status", **self._status()}
            except Exception:  # as for a bad frame
                _LOGGER.exception("the figures of the run could not be had")
                continue
            for viewer in self._viewers:
                # One that has not had its first figures yet gets those.
                viewer.status = viewer.status or status
                viewer.due.set()

    def _status(self) -> dict[str, Any]:
        """The cameras and the run, with null for what is not known yet."""
        summary = self._facts()
        sources = summary.get("sources", [])
        cameras = []
        for camera, channel in sorted(self._channels.items()):
            age = channel.age_s()
            second = channel.history[-1].values() if channel.history else None
            source = sources[camera] if camera < len(sources) else {}
            cameras.append(
                {
                    "camera": camera,
                    "name": source.get("name", f"camera {camera}"),
                    "age_ms": None if age is None else round(1000 * age, 1),
                    "stale": channel.stale(),
                    "trouble": source.get("trouble"),
                    "second": second,
                }
            )
        return {"cameras": cameras, "summary": summary, "viewers": len(self._viewers)}

    def _facts(self) -> dict[str, Any]:
        kept_at, facts = self._summary_kept
        if time.perf_counter() - kept_at > _SUMMARY_S:
            facts = finite(self._summary())
            self._summary_kept = (time.perf_counter(), facts)
        return facts

    async def _stats(self, request: web.Request) -> web.Response:
        return web.json_response(self._status())

    async def _metrics(self, request: web.Request) -> web.Response:
        body = exposition(self._facts(), self._channels, len(self._viewers))
        return web.Response(body=body.encode(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _healthz(self, request: web.Request) -> web.Response:
        stale = [camera for camera, channel in sorted(self._channels.items()) if channel.stale()]
        fresh = bool(self._channels) and not stale
        return web.json_response({"fresh": fresh, "stale_cameras": stale}, status=200 if fresh else 503)

    # --- routes ---------------------------------------------------------------------------------------------------

    def _add_routes(self, app: web.Application) -> None:
        app.router.add_get("/stats", self._stats)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        if self._metrics_only:
            return
        app.router.add_get("/stream", self._stream)
        # Browsers ask for this name before they have read which icon the page names.
        app.router.add_get("/favicon.ico", _file(PAGE / "icon.svg"))
        for path in sorted(PAGE.iterdir()):
            app.router.add_get("/" if path.name == "index.html" else f"/{path.name}", _file(path))


def _file(path: Path) -> Callable[[web.Request], Any]:
    """A handler that answers with one file, read now: no request's path ever becomes a file's."""
    body, kind = path.read_bytes(), _TYPES[path.suffix]

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body, content_type=kind, charset="utf-8")

    return answer


class _Refusal(asyncio.Protocol):
    """Hangs up."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()

"""The web server: the page, the stream of frames, the figures. Everything here runs on the server's own thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from ...labels import LabelSet
from ...records import finite
from ..loop import RunSummary
from .channel import Channel
from .connections import IDLE_S, Connections
from .guard import Guard
from .message import message_of
from .prometheus import exposition
from .viewer import CLOSE_S, Viewer

PAGE = Path(__file__).parent / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_MOST_VIEWERS = 16
_MOST_CONNECTIONS, _AT_ONCE, _BACKLOG = 64, 8, 512
_SHORTEST_INTERVAL_S = 0.03
_SHARE = 0.1
"""Of one core: encoding pauses after each frame, so that it never takes more, however fast the loop is."""
_SUMMARY_S = 0.5
_PAUSE_S = 1.0
_LOGGER = logging.getLogger("pspnet_edge.web")
# What a port scanner sends is not an error of ours.
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
        style: ``opacity`` and ``hidden`` class ids with which the page begins.
        metrics_only: serve no pictures.
    """

    def __init__(
        self,
        label_set: LabelSet,
        summary: Callable[[], RunSummary],
        channels: dict[int, Channel],
        guard: Guard,
        *,
        about: str = "",
        style: dict[str, object] | None = None,
        metrics_only: bool = False,
    ) -> None:
        self._style = style or {}
        self._label_set = label_set
        self._summary = summary
        self._summary_kept: tuple[float, RunSummary] | None = None
        self._channels = channels
        self._guard = guard
        self._about = about
        self._metrics_only = metrics_only
        self._viewers: set[Viewer] = set()
        self._encoders: dict[int, asyncio.Task[None]] = {}
        self._ended = asyncio.Event()

    @property
    def watched(self) -> bool:
        """Whether any viewer is connected; any thread may ask."""
        return bool(self._viewers)

    async def serve(self, listening: socket.socket, ready: Callable[[], None]) -> None:
        """Serve on a bound socket until ``end``."""
        app = web.Application(client_max_size=1024)
        runner = web.AppRunner(app, access_log=None, logger=_LOGGER, keepalive_timeout=IDLE_S, shutdown_timeout=1)
        connections = Connections(lambda: _protocol_of(runner), _MOST_CONNECTIONS)
        app.middlewares.append(connections.watch)
        self._guard.install(app)
        self._add_routes(app)
        await runner.setup()
        # asyncio accepts as many at a time as its backlog: few, so that whole requests are read in between.
        listener = await asyncio.get_running_loop().create_server(connections.accept, sock=listening, backlog=_AT_ONCE)
        # The kernel's queue is another thing: when it is full, a browser waits a second before it tries again.
        listening.listen(_BACKLOG)
        ticking = asyncio.create_task(self._tick(connections))
        ready()
        try:
            await self._ended.wait()
        finally:
            listener.close()
            for task in (ticking, *self._encoders.values()):
                task.cancel()
            await self._take_leave()
            await runner.cleanup()

    def end(self) -> None:
        """Stop serving."""
        self._ended.set()

    async def _take_leave(self) -> None:
        """Give every viewer the last pictures and figures, some of which came after the last tick, and close."""
        status: dict[str, object] | None = None
        try:
            for channel in self._channels.values():
                channel.tick()
                watched = any(viewer.watches(channel.camera) for viewer in self._viewers)
                if watched and channel.newest is not None and channel.newest is not channel.encoded:
                    channel.publish(channel.newest, message_of(channel.newest))
            self._summary_kept = None
            status = {"type": "status", **self._status()}
        except Exception:  # a run that ends because something failed may have no more to tell
            _LOGGER.exception("the last pictures and figures of the run are unavailable")
        leaving = (viewer.close(status, self._channels) for viewer in list(self._viewers))
        await asyncio.gather(*leaving, return_exceptions=True)

    def notify_frame(self, camera: int) -> None:
        """There is a new frame of ``camera``, or a viewer is ready for one."""
        if camera in self._channels and camera not in self._encoders:
            self._encoders[camera] = asyncio.create_task(self._encode(self._channels[camera]))
        if camera in self._channels:
            self._channels[camera].changed.set()

    # --- pictures -------------------------------------------------------------------------------------------------

    async def _encode(self, channel: Channel) -> None:
        """Encode the newest frame, once for all viewers, when one of them is ready for it."""
        while True:
            await channel.changed.wait()
            channel.changed.clear()
            shot = channel.newest
            watching = [viewer for viewer in self._viewers if viewer.watches(channel.camera)]
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
            channel.changed.set()

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if len(self._viewers) >= _MOST_VIEWERS:
            raise web.HTTPServiceUnavailable
        stream = web.WebSocketResponse(heartbeat=20, max_msg_size=64, compress=False, timeout=CLOSE_S)
        viewer = Viewer(stream, request.transport)
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
                    for camera in list(self._channels):
                        if viewer.watches(camera):
                            self.notify_frame(camera)
        finally:
            self._viewers.discard(viewer)
            if sending is not None:
                sending.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await sending
        return stream

    def _hello(self) -> dict[str, object]:
        """What a page needs once."""
        return {
            "type": "hello",
            "about": self._about,
            "label_set": self._label_set.facts(),
            "background": self._label_set.background_ids,
            "style": self._style,
            "history": {
                str(camera): [second.values() for second in channel.history]
                for camera, channel in sorted(self._channels.items())
            },
            **self._status(),
        }

    # --- figures --------------------------------------------------------------------------------------------------

    async def _tick(self, connections: Connections) -> None:
        while True:
            await asyncio.sleep(1)
            connections.drop_overdue()
            for channel in list(self._channels.values()):
                channel.tick()
            if not self._viewers:
                continue
            try:
                status: dict[str, object] = {"type": "status", **self._status()}
            except Exception:  # as for a bad frame
                _LOGGER.exception("the figures of the run are unavailable")
                continue
            for viewer in self._viewers:
                # A viewer that has not had its first figures yet gets those.
                viewer.status = viewer.status or status
                viewer.due.set()

    def _status(self) -> dict[str, object]:
        """The cameras and the run, with null for what is not known yet."""
        summary = finite(self._figures().to_dict())
        return {"cameras": self._cameras(), "summary": summary, "viewers": len(self._viewers)}

    def _cameras(self) -> list[dict[str, object]]:
        sources = self._figures().sources
        cameras: list[dict[str, object]] = []
        for camera, channel in sorted(self._channels.items()):
            age = channel.age_s()
            second = channel.history[-1].values() if channel.history else None
            source = sources[camera] if camera < len(sources) else None
            ended = source is not None and source.state == "ended"
            cameras.append(
                {
                    "camera": camera,
                    "name": source.name if source else f"camera {camera}",
                    "age_ms": None if age is None else round(1000 * age, 1),
                    "stale": channel.stale() and not ended,
                    "ended": ended,
                    "trouble": source.trouble if source else None,
                    "second": second,
                }
            )
        return cameras

    def _figures(self) -> RunSummary:
        if self._summary_kept is None or time.perf_counter() - self._summary_kept[0] > _SUMMARY_S:
            summary = self._summary()
            self._summary_kept = (time.perf_counter(), summary)
        return self._summary_kept[1]

    async def _stats(self, request: web.Request) -> web.Response:
        return web.json_response(self._status())

    async def _metrics(self, request: web.Request) -> web.Response:
        body = exposition(self._figures(), self._channels, len(self._viewers))
        return web.Response(body=body.encode(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _healthz(self, request: web.Request) -> web.Response:
        stale = [one["camera"] for one in self._cameras() if one["stale"]]
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


def _protocol_of(runner: web.AppRunner) -> asyncio.Protocol:
    assert runner.server is not None
    return runner.server()

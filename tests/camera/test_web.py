from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import aiohttp
import cv2
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pspnet_edge.camera.loop import RunSummary
from pspnet_edge.camera.web import WebView, channel, connections, message, server, viewer
from pspnet_edge.errors import MissingPackage, OptionError, OutputError

from .web_run import LABELS, SUMMARY, answer, port_of, running, shot, source, summary, view

TOKEN = "correct-horse-battery-staple"


@pytest.fixture
def web() -> Iterator[WebView]:
    with view() as opened:
        yield opened


def decoded(data: bytes) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    (length,) = struct.unpack_from("<I", data)
    header = json.loads(data[4 : 4 + length])
    start = 4 + length
    frame = cv2.imdecode(np.frombuffer(data, np.uint8, header["jpeg"], start), cv2.IMREAD_COLOR)
    ids = np.frombuffer(zlib.decompress(data[start + header["jpeg"] :]), np.uint8)
    return header, frame, ids.reshape(header["mask"])


class Watcher:
    """A browser's WebSocket, without the browser."""

    def __init__(self, stream: aiohttp.ClientWebSocketResponse) -> None:
        self.stream = stream
        self.texts: list[dict[str, Any]] = []

    async def frame(self, timeout_s: float = 5.0) -> bytes:
        while True:
            got = await asyncio.wait_for(self.stream.receive(), timeout_s)
            if got.type is aiohttp.WSMsgType.BINARY:
                return bytes(got.data)
            assert got.type is aiohttp.WSMsgType.TEXT, got
            self.texts.append(json.loads(got.data))

    async def no_frame(self, for_s: float = 0.3) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await self.frame(for_s)

    async def ask(self, *words: str) -> None:
        for word in words:
            await self.stream.send_str(word)


def watching(web: WebView, body: Callable[..., Any], count: int = 1) -> None:
    """Run ``body(*watchers)`` with so many connected."""

    async def go() -> None:
        async with aiohttp.ClientSession() as session:
            streams = [await session.ws_connect(f"http://127.0.0.1:{port_of(web)}/stream") for _ in range(count)]
            await body(*map(Watcher, streams))
            for stream in streams:
                await stream.close()

    asyncio.run(go())


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_a_watcher_gets_the_frame_and_the_exact_mask(web: WebView) -> None:
    one = shot(3)

    async def body(watcher: Watcher) -> None:
        await watcher.ask("next")
        await asyncio.sleep(0.1)
        web.show(one)
        header, frame, ids = decoded(await watcher.frame())
        assert (header["camera"], header["index"]) == (0, 3)
        assert 0 < header["age_ms"] < 5000
        assert np.array_equal(ids, one.mask)
        assert np.abs(frame.astype(int) - one.frame.astype(int)).max() <= 3
        hello = watcher.texts[0]
        assert hello["label_set"] == LABELS.facts()
        assert hello["summary"]["age_ms"]["p50"] is None, "NaN is not JSON"

    watching(web, body)


def test_a_watcher_that_does_not_ask_gets_nothing_and_one_that_asks_late_gets_the_newest(web: WebView) -> None:
    async def body(watcher: Watcher) -> None:
        await watcher.ask("next")
        for index in range(20):
            web.show(shot(index))
            await asyncio.sleep(0.01)
        await watcher.frame()
        await watcher.no_frame()
        await watcher.ask("next")
        assert decoded(await watcher.frame())[0]["index"] == 19

    watching(web, body)


def test_no_more_than_two_frames_are_under_way_however_often_one_asks(web: WebView) -> None:
    async def body(watcher: Watcher) -> None:
        await watcher.ask(*["next"] * 50)
        await asyncio.sleep(0.2)
        with running(web, fps=50):
            await watcher.frame()
            await watcher.frame()
            await watcher.no_frame()

    watching(web, body)


def test_a_frame_is_encoded_once_for_all_and_not_at_all_for_nobody(
    web: WebView, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []

    def counted(one: Any) -> bytes:
        encoded.append(one.index)
        return message.message_of(one)

    monkeypatch.setattr(server, "message_of", counted)
    web.show(shot(0))
    time.sleep(0.2)
    assert encoded == []

    async def body(*watchers: Watcher) -> None:
        for index in range(1, 6):
            for watcher in watchers:
                await watcher.ask("next")
            await asyncio.sleep(0.1)
            web.show(shot(index))
            frames = [decoded(await watcher.frame())[0]["index"] for watcher in watchers]
            assert len(set(frames)) == 1, frames

    watching(web, body, count=3)
    # The frame from before is sent to the first that asks, so that nobody looks at an empty page.
    assert encoded == sorted(set(encoded)), "a frame was encoded twice"


def test_a_watcher_that_reads_nothing_holds_up_nobody(web: WebView) -> None:
    async def body(hung: Watcher, lively: Watcher) -> None:
        await hung.ask("next", "next")
        with running(web, fps=40):
            for _ in range(20):
                await lively.ask("next")
                await lively.frame(2.0)

    watching(web, body, count=2)


def test_a_watcher_that_hangs_is_let_go(web: WebView, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer, "_SILENT_S", 0.5)

    async def body(watcher: Watcher) -> None:
        with pytest.raises(AssertionError, match="CLOSED"):
            await watcher.frame(6.0)
        assert json.loads(answer(web, "/stats")[1])["viewers"] == 0

    watching(web, body)


def test_a_watcher_may_change_the_camera(web: WebView) -> None:
    async def body(watcher: Watcher) -> None:
        for camera in (0, 1):
            web.show(shot(5, camera))
        await watcher.ask("camera 1", "next")
        while decoded(await watcher.frame())[0]["camera"] != 1:
            await watcher.ask("next")
        await watcher.ask("camera 7", "nonsense", "next")
        await asyncio.sleep(0.1)
        web.show(shot(6, 1))
        assert decoded(await watcher.frame())[0]["camera"] == 1

    watching(web, body)


def test_show_costs_the_loop_microseconds_even_while_all_watch(web: WebView) -> None:
    shots = [shot(index) for index in range(300)]

    async def body(*watchers: Watcher) -> None:
        for watcher in watchers:
            await watcher.ask("next", "next")
        await asyncio.sleep(0.1)
        start = time.thread_time()
        for one in shots:
            web.show(one)
        assert (time.thread_time() - start) / len(shots) < 0.5e-3

    watching(web, body, count=3)


def test_a_large_frame_is_bounded() -> None:
    one = shot(0)
    one.frame = np.zeros((2160, 3840, 3), np.uint8)
    header, frame, _ = decoded(message.message_of(one))
    assert header["frame"] == [540, 960]
    assert frame.shape == (540, 960, 3)
    tall = shot(0)
    tall.frame = np.zeros((4000, 3, 3), np.uint8)
    assert decoded(message.message_of(tall))[1].shape == (960, 1, 3)


def test_the_seventeenth_watcher_is_refused(web: WebView) -> None:
    async def body(*_: Watcher) -> None:
        await asyncio.sleep(0.2)
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
                await session.ws_connect(f"http://127.0.0.1:{port_of(web)}/stream")

    watching(web, body, count=16)


# --- figures ----------------------------------------------------------------------------------------------------------


def test_metrics_are_what_prometheus_reads(web: WebView) -> None:
    web.show(shot(0, camera=1, old_s=9.0))
    for index in range(4):
        web.show(shot(index, old_s=0.03))
    status, body, headers = answer(web, "/metrics")
    assert status == 200
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(body)}
    assert all(family.documentation and family.type != "unknown" for family in families.values())

    def value(sample: str, **labels: str) -> float:
        name = next(name for name in families if sample.startswith(name))
        found = [one.value for one in families[name].samples if one.name == sample and one.labels == labels]
        assert len(found) == 1, (sample, labels, families[name].samples)
        return float(found[0])

    assert value("pspnet_edge_frames_total") == 7
    assert value("pspnet_edge_dropped_frames_total") == 2
    assert value("pspnet_edge_latency_seconds", quantile="0.99") == 0.01
    assert value("pspnet_edge_stage_seconds", stage="infer") == 0.008
    assert value("pspnet_edge_source_reopened_total", camera="0", source='the "front" door') == 1
    assert value("pspnet_edge_frame_age_seconds_count", camera="0") == 4
    assert value("pspnet_edge_frame_age_seconds_bucket", camera="0", le="0.02") == 0
    assert value("pspnet_edge_frame_age_seconds_bucket", camera="0", le="+Inf") == 4
    assert value("pspnet_edge_frame_age_seconds_bucket", camera="1", le="5") == 0
    assert value("pspnet_edge_frame_age_seconds_sum", camera="0") >= 0.12
    assert value("pspnet_edge_fresh", camera="0") == 1
    assert value("pspnet_edge_newest_frame_age_seconds", camera="1") >= 9
    assert value("pspnet_edge_viewers") == 0
    assert 'stage="prepare"' not in body, "a figure that is not known is left out"


def test_health_is_503_before_the_first_frame_and_when_it_is_old(web: WebView, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "_STALE_S", 0.3)
    assert answer(web, "/healthz")[0] == 503
    web.show(shot(0))
    assert answer(web, "/healthz")[:2] == (200, '{"fresh": true, "stale_cameras": []}')
    last = shot(1)
    web.show(last)
    end = time.monotonic() + 10
    while (said := answer(web, "/healthz")[:2])[0] == 200:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert 'pspnet_edge_fresh{camera="0"} 0\n' in answer(web, "/metrics")[1]
    assert said == (503, '{"fresh": false, "stale_cameras": [0]}')
    web.show(last.again("", "the camera is gone: plug it in"))
    assert answer(web, "/healthz")[0] == 503, "an old frame shown again is not a new one"


def test_a_slow_engine_is_not_stale_between_two_frames() -> None:
    slow = channel.Channel(0)
    slow.history.append(channel.Second(0.2, 100.0, 100.0))
    slow.take(shot(0))
    assert not slow.stale()
    slow.taken_at -= 6.0
    assert not slow.stale()
    slow.taken_at -= 10.0
    assert slow.stale()


def test_a_picture_that_lags_is_old_and_not_stale() -> None:
    behind = channel.Channel(0)
    behind.take(shot(0, old_s=9.0))
    assert not behind.stale()
    assert (behind.age_s() or 0) >= 9


def test_a_second_without_frames_shows_how_old_the_picture_has_become() -> None:
    one = channel.Channel(0)
    one.tick()
    for index in range(3):
        one.take(shot(index, old_s=0.02))
    one.tick()
    one.newest = shot(3, old_s=5.0)
    one.tick()
    assert [second.fps > 0 for second in one.history] == [False, True, False]
    assert one.history[0].age_ms is None
    assert 20 <= (one.history[1].age_ms or 0) < 1000
    assert (one.history[2].age_ms or 0) >= 5000


def test_stats_are_json(web: WebView) -> None:
    web.show(shot(0))
    facts = json.loads(answer(web, "/stats")[1])
    assert facts["summary"]["fps"] == 25.5
    assert facts["cameras"][0]["name"] == 'the "front" door'
    assert facts["cameras"][0]["stale"] is False


def test_metrics_only_serves_no_pictures() -> None:
    with view(metrics_only=True, token=TOKEN) as web:
        known = {"Authorization": f"Bearer {TOKEN}"}
        assert web.url.endswith("/metrics")
        assert [answer(web, path, **known)[0] for path in ("/metrics", "/stats", "/healthz")] == [200, 200, 503]
        assert [answer(web, path, **known)[0] for path in ("/", "/stream", "/page.js")] == [404, 404, 404]


# --- who may come in --------------------------------------------------------------------------------------------------

PATHS = ("/", "/page.js", "/page.css", "/stats", "/metrics", "/healthz", "/stream", "/no-such-path", "/../etc/passwd")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "shown",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer \xe4\xf6"},
        {"Cookie": "pspnet_edge_0=wrong"},
        {"X-Forwarded-For": "127.0.0.1"},
    ],
)
def test_without_the_token_every_path_is_401_and_nothing_else(
    guarded: WebView, path: str, shown: dict[str, str]
) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        status, body, headers = answer(guarded, path, method, **shown)
        assert (status, body) == (401, "unauthorized")
        assert not {"server", "set-cookie", "refresh", "location", "allow"} & set(headers)
        assert not any("aiohttp" in value.lower() or "python" in value.lower() for value in headers.values())


@pytest.fixture(scope="module")
def guarded() -> Iterator[WebView]:
    with view(token=TOKEN) as opened:
        yield opened


@pytest.mark.parametrize("path", ["/?token=wrong", "/?token=", "/stats?token=" + TOKEN, "/page.js?token=" + TOKEN])
def test_the_address_takes_the_token_on_the_page_alone_and_no_other(guarded: WebView, path: str) -> None:
    assert answer(guarded, path)[:2] == (401, "unauthorized")


def test_the_link_sets_a_cookie_that_scripts_cannot_read_and_strips_the_token(guarded: WebView) -> None:
    assert guarded.url.endswith(f"/?token={TOKEN}")
    status, body, headers = answer(guarded, f"/?token={TOKEN}")
    assert (status, body, headers["refresh"]) == (200, "", "0; url=.")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Secure" not in cookie
    assert "Secure" in answer(guarded, f"/?token={TOKEN}", X_Forwarded_Proto="https")[2]["set-cookie"]
    shown = cookie.partition(";")[0]
    assert [answer(guarded, path, Cookie=shown)[0] for path in ("/", "/page.js", "/stats")] == [200, 200, 200]
    assert answer(guarded, "/stats", Authorization=f"bearer {TOKEN}")[0] == 200


def test_the_stream_needs_the_token(guarded: WebView) -> None:
    async def go() -> None:
        address = f"http://127.0.0.1:{port_of(guarded)}/stream"
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
                await session.ws_connect(address, headers={"Authorization": "Bearer wrong"})
            stream = await session.ws_connect(address, headers={"Authorization": f"Bearer {TOKEN}"})
            assert (await stream.receive_json())["type"] == "hello"
            await stream.close()

    asyncio.run(go())


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "[", ""])
def test_a_name_rebound_to_loopback_is_refused(web: WebView, host: str) -> None:
    assert answer(web, "/stats", Host=host)[:2] == (403, "forbidden")


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1:1234", "[::1]:8080"])
def test_loopback_under_any_of_its_names_and_ports_is_served(web: WebView, host: str) -> None:
    assert answer(web, "/stats", Host=host)[0] == 200


def test_with_a_token_any_name_is_served(guarded: WebView) -> None:
    known = {"Authorization": f"Bearer {TOKEN}"}
    assert answer(guarded, "/stats", Host="camera.example.org", **known)[0] == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://localhost", "http://[x"]
)
def test_a_script_of_another_site_is_refused(web: WebView, guarded: WebView, origin: str) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    upgrade["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    for path, headers in (("/stats", {}), ("/stream", upgrade)):
        assert answer(web, path, Origin=origin, **headers)[:2] == (403, "forbidden")
        known = {"Authorization": f"Bearer {TOKEN}", **headers}
        assert answer(guarded, path, Origin=origin, **known)[:2] == (403, "forbidden")


def test_every_answer_keeps_the_browser_strict(web: WebView) -> None:
    for path in ("/", "/page.js", "/stats", "/no-such-path"):
        headers = answer(web, path)[2]
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers


@pytest.mark.parametrize(
    ("host", "guarded_by_default"), [("127.0.0.1", False), ("localhost", False), ("::1", False), ("0.0.0.0", True)]
)
def test_away_from_loopback_a_token_is_made(host: str, guarded_by_default: bool) -> None:
    tokens = {view(host=host).token for _ in range(2)}
    if guarded_by_default:
        assert len(tokens) == 2
        assert all(token is not None and len(token) >= 32 for token in tokens)
    else:
        assert tokens == {None}


def test_a_server_on_every_address_is_reachable_at_its_url_with_the_token_alone() -> None:
    with view(host="0.0.0.0") as web:
        assert "0.0.0.0" not in web.url
        assert answer(web, "/stats")[0] == 401
        assert answer(web, "/stats", Authorization=f"Bearer {web.token}")[0] == 200


@pytest.mark.parametrize(
    "token", ["", "short", "x" * 15, "with a space in the middle", "semicolon;in;the;middle", "ä" * 20]
)
def test_a_token_that_could_be_guessed_or_broken_is_refused(token: str) -> None:
    with pytest.raises(OptionError, match="openssl rand"):
        view(token=token)


# --- start, end, trouble ----------------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_one_sentence(web: WebView) -> None:
    with pytest.raises(OutputError, match="choose another port") as caught, view(port=port_of(web)):
        pass
    assert "\n" not in str(caught.value)


def test_an_address_that_is_not_there_is_one_sentence() -> None:
    for host in ("no-such-host.invalid", "192.0.2.1"):  # the second is kept free for documents (RFC 5737)
        with pytest.raises(OutputError, match=r"127\.0\.0\.1, or 0\.0\.0\.0 for all"), view(host=host):
            pass


def test_without_aiohttp_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(MissingPackage, match=r"pip install .*\[web\]'"):
        view()


def test_it_ends_with_watchers_connected_and_leaves_no_thread() -> None:
    before = threading.active_count()
    closing: list[Any] = []
    with view() as web:

        async def body(watcher: Watcher) -> None:
            web.show(shot(0))
            await watcher.ask("next")
            await watcher.frame()
            leaving = asyncio.get_running_loop().run_in_executor(None, web.__exit__)
            while (got := await watcher.stream.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
            closing.append(got)
            await leaving

        watching(web, body)
    assert closing[0].type is aiohttp.WSMsgType.CLOSE
    assert closing[0].data == 1001
    assert threading.active_count() == before
    assert web.show(shot(1)), "a loop that shows after the end is not disturbed"


def test_the_last_picture_and_figures_come_before_the_end() -> None:
    summaries = [replace(SUMMARY, frames=108)]
    said: list[Any] = []
    with WebView(LABELS, lambda: summaries[-1], port=0) as web:

        async def body(watcher: Watcher) -> None:
            web.show(shot(0))
            await watcher.ask("next")
            await watcher.frame()
            # Both come faster than the next tick, and the watcher has not asked for more.
            web.show(shot(1))
            summaries.append(replace(SUMMARY, frames=110))
            leaving = asyncio.get_running_loop().run_in_executor(None, web.__exit__)
            while (got := await watcher.stream.receive()).type is not aiohttp.WSMsgType.CLOSE:
                said.append(got)
            await leaving

        watching(web, body)
    figures = [json.loads(one.data) for one in said if one.type is aiohttp.WSMsgType.TEXT]
    assert figures[-1]["summary"]["frames"] == 110
    pictures = [one.data for one in said if one.type is aiohttp.WSMsgType.BINARY]
    assert [json.loads(one[4 : 4 + struct.unpack_from("<I", one)[0]])["index"] for one in pictures] == [1]


def test_a_slow_watcher_is_told_that_the_run_has_ended() -> None:
    """Its socket is full when the run ends. Were what is under way cut off, its page would say "Connection lost"."""
    noise = np.random.default_rng(0).integers(0, 256, (540, 960, 3), np.uint8)
    received: list[bytes] = []
    with view() as web, socket.create_connection(("127.0.0.1", port_of(web)), timeout=20) as slow:
        slow.sendall(
            b"GET /stream HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        for index in range(20):
            one = shot(index)
            one.frame = noise
            web.show(one)
            slow.sendall(b"\x81\x84\0\0\0\0next")  # one text frame, masked with zeros
            time.sleep(0.1)
        ending = threading.Thread(target=web.__exit__)
        ending.start()
        time.sleep(0.5)
        with contextlib.suppress(ConnectionResetError):
            while data := slow.recv(1 << 20):
                received.append(data)
        ending.join()
    everything = b"".join(received)
    assert len(everything) > 3_000_000, "the socket was never full"
    assert b"\x88\x13" + struct.pack(">H", 1001) + b"the run has ended" == everything[-21:]


def test_what_a_port_scanner_sends_is_not_printed(web: WebView, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "pspnet_edge.web"):
        for noise in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n", b"GET /\r\n" + b"A" * 20_000):
            with socket.create_connection(("127.0.0.1", port_of(web)), timeout=5) as scanner:
                scanner.sendall(noise + b"\r\n\r\n")
                scanner.recv(1000)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert answer(web, "/stats")[0] == 200


def connect(web: WebView, first_words: bytes = b"") -> socket.socket:
    one = socket.create_connection(("127.0.0.1", port_of(web)), timeout=5)
    one.sendall(first_words)
    return one


def is_hung_up(one: socket.socket) -> bool:
    try:
        return one.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    "words", [b"", b"GET / HTTP/1.1\r\nHost: lo", b"GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n"]
)
def test_connections_that_only_wait_never_keep_a_viewer_out(web: WebView, words: bytes) -> None:
    held = [connect(web, words) for _ in range(4 * server._MOST_CONNECTIONS)]
    try:

        async def body(watcher: Watcher) -> None:
            with running(web):
                for _ in range(5):
                    await watcher.ask("next")
                    await watcher.frame()
                # Those that come after it do not take its place either.
                held.extend(connect(web, words) for _ in range(2 * server._MOST_CONNECTIONS))
                for _ in range(5):
                    await watcher.ask("next")
                    await watcher.frame()

        watching(web, body)
        assert answer(web, "/stats")[0] == 200
        if not words.endswith(b"\r\n\r\n"):
            assert is_hung_up(held[0]), "the oldest goes first"
    finally:
        for one in held:
            one.close()


def test_half_a_request_is_dropped_within_seconds(web: WebView, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "FIRST_REQUEST_S", 0.5)
    with connect(web, b"GET / HTTP/1.1\r\nHost: lo") as one, connect(web) as silent:
        for _ in range(3):
            time.sleep(0.2)
            one.sendall(b"c")
        assert is_hung_up(one)
        assert is_hung_up(silent)
    with connect(web, b"GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n") as asked:
        assert asked.recv(5) == b"HTTP/"


def test_oversized_headers_are_refused(web: WebView) -> None:
    for words in (b"GET /" + b"a" * 100_000, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000):
        with connect(web) as one:
            with contextlib.suppress(ConnectionError):
                one.sendall(words + b"\r\n\r\n")
            said = b""
            with contextlib.suppress(ConnectionError):
                said = one.recv(100)
            assert said[:12] in (b"", b"HTTP/1.0 400", b"HTTP/1.1 400")
    assert answer(web, "/stats")[0] == 200


def test_the_token_is_in_no_log(guarded: WebView, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for path in (f"/?token={TOKEN}", f"/stats?token={TOKEN}", f"/%zz?token={TOKEN}"):
            answer(guarded, path)
            answer(guarded, path, "BREW")
        with connect(guarded, f"GET /?token={TOKEN} HTTP/9.9\r\n\r\n".encode()) as one:
            one.recv(100)
    assert TOKEN not in caplog.text


def test_a_watcher_of_all_cameras_gets_frames_of_each(web: WebView) -> None:
    async def body(watcher: Watcher) -> None:
        await watcher.ask("camera all", *["next"] * 6)
        with running(web, cameras=3):
            seen: list[int] = []
            for _ in range(30):
                seen.append(decoded(await watcher.frame())[0]["camera"])
                await watcher.ask("next")
        assert all(seen.count(camera) >= 8 for camera in range(3)), seen

    watching(web, body)


def test_a_source_that_has_ended_is_not_stale() -> None:
    ended = replace(SUMMARY, sources=(source("a", state="ended"), source("b")))
    with WebView(LABELS, lambda: ended, port=0) as web:
        web.show(shot(0))
        web._channels[0].taken_at -= 60
        (camera,) = json.loads(answer(web, "/stats")[1])["cameras"]
        assert (camera["ended"], camera["stale"]) == (True, False)
        assert answer(web, "/healthz")[0] == 200


def test_a_frame_that_cannot_be_encoded_does_not_end_the_pictures(
    web: WebView, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "_PAUSE_S", 0.05)
    broken = shot(0)
    broken.frame = np.zeros((0, 0, 3), np.uint8)

    async def body(watcher: Watcher) -> None:
        await watcher.ask("next")
        await asyncio.sleep(0.1)
        web.show(broken)
        await watcher.no_frame()
        web.show(shot(1))
        assert decoded(await watcher.frame())[0]["index"] == 1

    watching(web, body)
    assert "a frame of camera 0 could not be encoded" in caplog.text


def test_figures_that_are_unavailable_do_not_end_the_figures(caplog: pytest.LogCaptureFixture) -> None:
    fails = threading.Event()

    def failing() -> RunSummary:
        if fails.is_set():
            fails.clear()
            raise RuntimeError("deque mutated during iteration")
        return summary()

    async def body(watcher: Watcher) -> None:
        assert (await watcher.stream.receive_json())["type"] == "hello"
        fails.set()
        assert (await watcher.stream.receive_json(timeout=10))["type"] == "status"

    with WebView(LABELS, failing, port=0) as web:
        watching(web, body)
    assert not fails.is_set()
    assert "figures of the run are unavailable" in caplog.text


def test_a_summary_that_fails_does_not_end_the_view() -> None:
    calls = []

    def failing() -> RunSummary:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("deque mutated during iteration")
        return summary()

    with WebView(LABELS, failing, port=0) as web:
        assert answer(web, "/stats")[0] == 500
        assert answer(web, "/stats")[0] == 200

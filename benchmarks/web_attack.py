"""Whether three viewers of the live page keep their rate while it is attacked, on loopback.

    python benchmarks/web_attack.py [--rounds 4] [--seconds 6] [-o DIR]

A page shows made-up frames at 25 FPS. In turn, round after round, it is left alone and attacked in each of these ways,
from a process of its own; the figure is the median of the rounds' ratios of frames per second that a viewer gets:

    half headers   400 connections that send half a request header, a byte at a time, and are opened again when dropped
    slow readers   200 connections that ask for the page and read a byte per second
    oversized      headers of 100 kB, one after another on 8 connections
    deaf viewers   8 WebSockets that ask for every frame and read none
    foreign        requests with a foreign Host or Origin, as of a page elsewhere, on 8 connections

Exit status 1 when a viewer loses more than a tenth of its rate, or cannot connect during an attack.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from web_viewers import RESULTS, frames_seen, viewers

from pspnet_edge.artifact import write_bytes, write_json
from pspnet_edge.camera.loop import RunSummary
from pspnet_edge.camera.overlay import Overlay
from pspnet_edge.camera.shot import Shot
from pspnet_edge.camera.web import WebView
from pspnet_edge.labels import CAMVID

ATTACKS = ("half headers", "slow readers", "oversized", "deaf viewers", "foreign")
FPS = 25.0
SIZE_HW, MASK_HW = (480, 640), (384, 480)
SETTLE_S = 1.5
NOTHING_YET = RunSummary(0, 0, 0, 0.0, 0.0, {}, {}, {}, {"frames": 0, "latency_ms": []}, 0.0, ())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--viewers", type=int, default=3)
    parser.add_argument("-o", type=Path, default=RESULTS, metavar="DIR")
    parser.add_argument("--attack", nargs=2, metavar=("KIND", "PORT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.attack:
        kind, port = arguments.attack
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(attack(kind, int(port)))
        return 0
    with WebView(CAMVID, lambda: NOTHING_YET, port=0) as view, showing(view):
        rows = measure(view, arguments)
    facts = {"rounds": arguments.rounds, "seconds": arguments.seconds, "viewers": arguments.viewers, "rows": rows}
    write_json(arguments.o / "web_attack.json", facts)
    write_bytes(arguments.o / "web_attack.md", table(rows).encode())
    print(table(rows))
    return 0 if all(row["ratio"] >= 0.9 for row in rows) else 1


@contextlib.contextmanager
def showing(view: WebView) -> Iterator[None]:
    """Show frames at a steady rate from a thread, as a loop does."""
    end, overlay = threading.Event(), Overlay(CAMVID)
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (*SIZE_HW, 3), np.uint8) // 4 + 90 for _ in range(8)]
    masks = [np.repeat(rng.integers(0, 11, (MASK_HW[0], 8), np.uint8), MASK_HW[1] // 8, axis=1) for _ in range(8)]

    def show() -> None:
        due = time.perf_counter()
        for index in itertools.count():
            due += 1 / FPS
            if end.wait(max(0.0, due - time.perf_counter())):
                return
            view.show(Shot(0, index, frames[index % 8], masks[index % 8], time.perf_counter(), overlay))

    thread = threading.Thread(target=show)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def measure(view: WebView, arguments: argparse.Namespace) -> list[dict[str, float | str]]:
    """Frames per second of a viewer: alone, then under each attack, in every round."""
    port = int(view.url.split(":")[2].strip("/"))
    alone: dict[str, list[float]] = {kind: [] for kind in ATTACKS}
    attacked: dict[str, list[float]] = {kind: [] for kind in ATTACKS}
    for _ in range(arguments.rounds):
        for kind in ATTACKS:
            alone[kind].append(watch(view, arguments))
            attacker = subprocess.Popen([sys.executable, __file__, "--attack", kind, str(port)])
            try:
                time.sleep(SETTLE_S)
                # They connect while the attack is under way.
                attacked[kind].append(watch(view, arguments))
            finally:
                attacker.kill()
                attacker.wait()
    return [
        {
            "attack": kind,
            "fps_alone": round(statistics.median(alone[kind]), 2),
            "fps_attacked": round(statistics.median(attacked[kind]), 2),
            "ratio": round(statistics.median(a / b for a, b in zip(attacked[kind], alone[kind], strict=True)), 3),
        }
        for kind in ATTACKS
    ]


def watch(view: WebView, arguments: argparse.Namespace) -> float:
    with viewers("sockets", view.url, arguments.viewers) as process:
        time.sleep(arguments.seconds)
        return frames_seen(process)


async def attack(kind: str, port: int) -> None:
    """One attack, until the process is killed."""
    count, act = {
        "half headers": (400, half_header),
        "slow readers": (200, slow_reader),
        "oversized": (8, oversized),
        "deaf viewers": (8, deaf_viewer),
        "foreign": (8, foreign),
    }[kind]
    await asyncio.gather(*(again_and_again(act, port) for _ in range(count)))


async def again_and_again(act, port: int) -> None:
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                await act(reader, writer)
            finally:
                writer.transport.abort()
        # Flooding with connections as fast as a loop can is a test of the kernel, not of the page.
        await asyncio.sleep(0.5)


async def half_header(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for byte in b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 600:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(1)


async def slow_reader(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for _ in range(5):
        writer.write(b"GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
    while await reader.read(1):
        await asyncio.sleep(1)


async def oversized(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n")
    await reader.read()


async def deaf_viewer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(
        b"GET /stream HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    asks = b"\x81\x84\0\0\0\0next"  # a masked text frame, with a mask of zeros
    while not writer.transport.is_closing():
        writer.write(asks)
        await asyncio.sleep(0.1)


async def foreign(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for header in (b"Host: evil.example", b"Host: localhost\r\nOrigin: http://evil.example"):
        writer.write(b"GET /stats HTTP/1.1\r\n" + header + b"\r\n\r\n")
        await reader.readuntil(b"forbidden")


def table(rows: list[dict[str, float | str]]) -> str:
    lines = ["| attack | FPS of a viewer, left alone | under attack | ratio |", "|---|---|---|---|"]
    lines += [f"| {row['attack']} | {row['fps_alone']} | {row['fps_attacked']} | {row['ratio']} |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())

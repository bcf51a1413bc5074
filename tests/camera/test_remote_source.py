"""Live sources against a real server on this machine, which is killed, restarted and frozen."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from pspnet_edge.camera.devices import Wanted
from pspnet_edge.camera.loop import Loop
from pspnet_edge.camera.remote_source import RemoteSource
from pspnet_edge.camera.shot import Shot
from pspnet_edge.engine.engine import Engine, EngineInfo
from pspnet_edge.errors import SourceError
from pspnet_edge.labels import CAMVID

SERVER = Path(__file__).with_name("mjpeg_server.py")
INFO = EngineInfo(Path("none.engine"), "test", "fp32", (1, 8, 8), CAMVID, {})


class Nothing:
    output_is_reused = True

    def __init__(self) -> None:
        self._masks = np.zeros((1, 8, 8), np.uint8)

    def infer(self, frames: np.ndarray) -> np.ndarray:
        return self._masks

    def close(self) -> None:
        pass


class Server:
    """A camera on the network that can be unplugged."""

    def __init__(
        self, command: Sequence[str] = (sys.executable, str(SERVER)), path: str = "http://127.0.0.1:{}/"
    ) -> None:
        self._command = command
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = path.format(self.port)
        self._process: subprocess.Popen[str] | None = None

    def start(self, *arguments: object) -> None:
        command = [*self._command, str(self.port), *map(str, arguments or (50,))]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "listening\n"

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    made.start()
    yield made
    made.kill()


@pytest.fixture
def source(server: Server) -> Iterator[RemoteSource]:
    made = RemoteSource(Wanted("stream", f"http://user:secret@127.0.0.1:{server.port}/live?key=secret", stall_s=1.0))
    made.reopen()
    yield made
    made.close()


def readers() -> list[int]:
    """Reader processes that this one started, whichever thread did."""
    children = [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    return [
        int(pid)
        for pid in children
        if b"pspnet_edge.camera.reader_process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def drain(source: RemoteSource) -> None:
    """Read until it fails."""
    while source.read() is not None:
        pass


def held() -> tuple[int, int, int]:
    """Threads, descriptors and reader processes."""
    return threading.active_count(), len(list(Path("/proc/self/fd").iterdir())), len(readers())


def test_frames_come_with_their_time(source: RemoteSource) -> None:
    assert "secret" not in source.name
    assert source.format.startswith("120x160")
    levels = []
    for _ in range(10):
        frame = source.read()
        assert frame is not None
        assert frame.shape == (120, 160, 3)
        assert time.perf_counter() - source.captured < 0.5
        levels.append(int(frame[60, 80, 0]))
    steps = np.diff(levels) % 256
    assert (steps >= 7).all(), "no frame comes twice"


def test_who_reads_late_gets_the_newest(source: RemoteSource) -> None:
    source.read()
    time.sleep(0.5)
    for _ in range(4):
        source.read()
    assert time.perf_counter() - source.captured < 0.2
    assert source.dropped >= 10


def test_a_server_that_goes_is_named_and_comes_back(server: Server, source: RemoteSource) -> None:
    source.read()
    server.kill()
    with pytest.raises(SourceError, match="stopped giving frames: check the camera's power"):
        drain(source)
    with pytest.raises(SourceError, match="does not answer"):
        source.reopen()
    server.start()
    source.reopen()
    assert source.read() is not None


def test_a_frozen_server_is_found_out(server: Server, source: RemoteSource) -> None:
    server.kill()
    server.start(50, 5)
    with pytest.raises(SourceError, match="stopped giving frames"):
        drain(source)
    start = time.monotonic()
    source.reopen()
    with pytest.raises(SourceError, match="stopped giving frames"):
        drain(source)
    assert time.monotonic() - start < 4


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_reader_that_hangs_or_dies_is_replaced(source: RemoteSource, number: signal.Signals) -> None:
    source.read()
    before = held()
    (child,) = readers()
    os.kill(child, number)
    with pytest.raises(SourceError, match=r"hangs|ended, and is started again"):
        drain(source)
    assert readers() == []
    source.reopen()
    assert source.read() is not None
    assert held() == before
    assert readers() != [child]


def test_a_read_can_be_interrupted(server: Server, source: RemoteSource) -> None:
    server.kill()
    server.start(0.1)
    threading.Timer(0.3, source.interrupt).start()
    start = time.monotonic()
    with pytest.raises(SourceError):
        drain(source)
    with pytest.raises(SourceError, match="was closed"):
        source.reopen()
    assert time.monotonic() - start < 1.5


def test_closing_leaves_nothing(server: Server) -> None:
    gc.collect()
    before = held()
    for _ in range(3):
        made = RemoteSource(Wanted("stream", f"http://127.0.0.1:{server.port}/"))
        made.reopen()
        made.read()
        made.close()
    del made
    gc.collect()
    assert held() == before


def test_the_reader_ends_with_its_parent(server: Server) -> None:
    code = (
        "import sys, os\n"
        "from pspnet_edge.camera.devices import Wanted\n"
        "from pspnet_edge.camera.remote_source import RemoteSource\n"
        f"made = RemoteSource(Wanted('stream', 'http://127.0.0.1:{server.port}/'))\n"
        "made.reopen()\n"
        "print(open(f'/proc/self/task/{os.getpid()}/children').read(), flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 3
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    gone = not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2]
    assert gone


def test_the_password_is_on_no_command_line(source: RemoteSource) -> None:
    (child,) = readers()
    assert b"secret" not in Path(f"/proc/{child}/cmdline").read_bytes()


class Arrivals:
    """A sink that knows when the last new frame came."""

    def __init__(self) -> None:
        self.latest = 0.0
        self.banners = 0

    def show(self, shot: Shot) -> bool:
        if shot.banner:
            self.banners += 1
        else:
            self.latest = time.monotonic()
        return True


def run_through_restarts(
    server: Server, times: int
) -> tuple[list[float], list[tuple[int, int, int]], list[int], Arrivals]:
    """Seconds from each restart of the server to the next new frame; what the process held and its memory then."""
    source = RemoteSource(Wanted("stream", server.url, stall_s=2.0))
    source.reopen()
    arrivals = Arrivals()
    loop = Loop([source], Engine(INFO, Nothing()))
    running = threading.Thread(target=loop.run, args=([arrivals],))
    running.start()
    back, holding, resident = [], [], []
    for number in range(times):
        time.sleep(0.3)
        server.kill()
        time.sleep((0.2, 1.5, 3.0)[number % 3])
        server.start()
        start = time.monotonic()
        while arrivals.latest < start and time.monotonic() < start + 10:
            time.sleep(0.01)
        back.append(arrivals.latest - start)
        holding.append(held())
        resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
    loop.stop()
    running.join()
    source.close()
    assert loop.summary().sources[0].reopened >= times
    return back, holding, resident, arrivals


def test_the_loop_is_back_within_two_seconds(server: Server) -> None:
    back, _, _, arrivals = run_through_restarts(server, 3)
    assert max(back) < 2
    assert min(back) > 0
    assert arrivals.banners >= 2


@pytest.fixture
def rtsp_server() -> Iterator[Server]:
    needs = "import gi; gi.require_version('GstRtspServer', '1.0'); gi.require_version('Gst', '1.0')"
    python = "/usr/bin/python3"
    if not Path(python).exists() or subprocess.run([python, "-c", needs], capture_output=True).returncode:
        pytest.skip("no RTSP server: apt-get install gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-{good,ugly}")
    made = Server((python, str(SERVER.with_name("rtsp_server.py"))), "rtsp://127.0.0.1:{}/live")
    made.start()
    yield made
    made.kill()


def test_an_rtsp_camera_is_back_within_two_seconds(rtsp_server: Server) -> None:
    back, _, _, _ = run_through_restarts(rtsp_server, 3)
    assert max(back) < 2
    assert min(back) > 0


def opened(place: str) -> RemoteSource:
    source = RemoteSource(Wanted("stream", place, stall_s=3.0))
    try:
        source.reopen()
    except SourceError:
        source.close()
        raise
    return source


def test_a_server_without_tcp_is_read_over_udp(rtsp_server: Server) -> None:
    rtsp_server.kill()
    rtsp_server.start("udp")
    source = opened(rtsp_server.url)
    frames = [source.read() for _ in range(10)]
    source.close()
    assert {frame.shape for frame in frames} == {(240, 320, 3)}


def test_a_percent_encoded_password_opens_and_a_raw_one_is_explained(rtsp_server: Server) -> None:
    rtsp_server.kill()
    rtsp_server.start("user=admin:p@ss#1/?")
    address = rtsp_server.url.removeprefix("rtsp://")
    source = opened(f"rtsp://admin:p%40ss%231%2F%3F@{address}")
    assert source.read().shape == (240, 320, 3)
    assert "ss" not in source.name
    source.close()
    with pytest.raises(SourceError, match="must be percent-encoded") as raised:
        opened(f"rtsp://admin:p@ss#1/?@{address}")
    assert "ss#1" not in str(raised.value)
    with pytest.raises(SourceError, match="check its power, network and password"):
        opened(f"rtsp://admin:wrong@{address}")


def test_a_server_that_comes_back_with_another_size_is_read_on(rtsp_server: Server) -> None:
    source = opened(rtsp_server.url)
    kept: list[tuple[int, ...]] = []

    class Shapes:
        def show(self, shot: Shot) -> bool:
            if not shot.banner:
                kept.append(shot.frame.shape)
            return len(set(kept)) < 2

    loop = Loop([source], Engine(INFO, Nothing()))
    running = threading.Thread(target=loop.run, args=([Shapes()],))
    running.start()
    deadline = time.monotonic() + 20
    while not kept and time.monotonic() < deadline:
        time.sleep(0.05)
    rtsp_server.kill()
    rtsp_server.start("size=640x480")
    running.join(20)
    loop.stop()
    running.join()
    source.close()
    assert set(kept) == {(240, 320, 3), (480, 640, 3)}


@pytest.mark.slow
def test_twenty_restarts_leave_nothing_behind(server: Server) -> None:
    back, holding, resident, _ = run_through_restarts(server, 20)
    assert len(back) == 20
    assert max(back) < 2
    assert min(back) > 0
    assert len(set(holding[1:])) == 1, holding
    assert resident[-1] - resident[2] < 5e6, resident

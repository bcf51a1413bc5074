"""Whether a camera loop of many frames grows: memory, threads and descriptors over a long run, and over reconnects.

    python benchmarks/long_run.py [--frames 1000000] [--reconnects 1000] [--minutes 25] [--json] [-o DIR]

Time is scaled by tiny frames and a network of a few kilobytes: the loop, its lanes, feeds, sources, statistics and
pictures are the real ones. One frame of fifty is from the demo drive (drawn small); half of the others from a folder of
pictures that is played again and again, and half from an HTTP camera in a process of its own, which the loop's own
reader reads. A second HTTP camera ends after some frames, so that the loop has to connect again.

Memory is what the process holds beyond what it shares with others, with its readers. The first tenth of each run is
warm-up; growth is the median of the last tenth less the median of the tenth after the warm-up. Threads and descriptors
are compared likewise. Exit status 1 when memory grew by 10 MB or more, or threads or descriptors grew at all.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fuzz_inputs import SIZE, make_seeds

from pspnet_edge.artifact import write_bytes, write_json

MOST_GROWTH_MB = 10.0
SAMPLES = 200
FRAMES_PER_CONNECTION = 60
"""FFmpeg reads a few dozen before it says that there is a stream."""
DEMO_SHARE = 50
"""One frame of so many is from the demo drive, which takes fifty times as long to draw as the others to read."""


def sample() -> dict[str, float]:
    """Memory in MB, threads and descriptors of this process and its children."""
    own = os.getpid()
    children = [int(pid) for pid in Path(f"/proc/{own}/task/{own}/children").read_text().split()]
    own_threads = {int(path.name) for path in Path(f"/proc/{own}/task").iterdir()}
    for thread in own_threads - {own}:  # a reader is a child of the thread that started it
        with contextlib.suppress(OSError):
            children += [int(pid) for pid in Path(f"/proc/{own}/task/{thread}/children").read_text().split()]
    memory = 0.0
    for pid in (own, *children):
        with contextlib.suppress(OSError, ValueError, IndexError):
            resident, shared = map(int, Path(f"/proc/{pid}/statm").read_text().split()[1:3])
            memory += (resident - shared) * os.sysconf("SC_PAGE_SIZE") / 1e6
    threads, descriptors = len(own_threads), len(os.listdir(f"/proc/{own}/fd"))  # noqa: PTH208
    return {"memory_mb": memory, "threads": threads, "descriptors": descriptors}


def run_source(kind: str, frames: int, seconds: float, seeds: Path, folder: Path) -> dict[str, Any]:
    """One run in this process, sampled; it ends after so many frames or seconds."""
    from pspnet_edge.camera.loop import Loop
    from pspnet_edge.camera.sources import DemoSource, Settings, open_source
    from pspnet_edge.camera.stats import StatsFile
    from pspnet_edge.data.scenes import Drive
    from pspnet_edge.engine.backends import open_engine

    with contextlib.ExitStack() as stack:
        if kind == "demo":
            source: Any = DemoSource()
            source._frames = Drive(size_hw=(SIZE, SIZE)).frames()
        elif kind == "folder":
            source = open_source(None, str(seeds / "set/images/train"), Settings(loop=True))
        else:
            address = stack.enter_context(camera(FRAMES_PER_CONNECTION if kind == "reconnects" else 0))
            source = open_source(None, address, Settings(stall_s=10.0))
        stack.callback(source.close)
        engine = stack.enter_context(open_engine(seeds / "onnxruntime.engine"))
        loop = Loop([source], engine, None if kind == "reconnects" else frames)
        samples: list[dict[str, float]] = []
        began, taken = time.monotonic(), 0

        def look(done: int) -> None:
            nonlocal taken
            progress = loop._feeds[0].reopened if kind == "reconnects" else done
            if progress >= frames or time.monotonic() - began > seconds:
                loop.stop()
            if progress * SAMPLES >= taken * frames or progress >= frames:
                taken += 1
                samples.append({"progress": progress, **sample()})

        stack.enter_context(StatsFile(folder / f"{kind}.jsonl", lambda: loop.summary().to_dict()))
        summary = loop.run([], look)
        return {
            "source": kind,
            "frames": summary.frames,
            "reopened": summary.sources[0].reopened,
            "elapsed_s": round(time.monotonic() - began, 1),
            "samples": samples,
        }


class _Camera(BaseHTTPRequestHandler):
    """Motion JPEG as fast as it is taken; ends after ``most`` pictures where that is not 0."""

    most = 0
    jpeg = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        part = (
            b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(self.jpeg) + self.jpeg + b"\r\n"
        )
        sent = 0
        with contextlib.suppress(OSError):
            while not self.most or sent < self.most:
                self.wfile.write(part)
                sent += 1

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def camera(most: int) -> Iterator[str]:
    """The address of an HTTP camera in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--camera", str(most)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/"
        finally:
            process.kill()


def serve_camera(most: int) -> None:
    """Serve until killed; the port is printed."""
    import cv2
    import numpy as np

    _Camera.most, _Camera.jpeg = most, cv2.imencode(".jpg", np.full((SIZE, SIZE, 3), 90, np.uint8))[1].tobytes()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Camera)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()


def judged(run: dict[str, Any]) -> dict[str, Any]:
    """A run with what grew after its warm-up, in place of its samples."""
    samples = run.pop("samples")
    last = samples[-1]["progress"] if samples else 0
    early = [entry for entry in samples if 0.1 * last <= entry["progress"] <= 0.2 * last]
    late = [entry for entry in samples if entry["progress"] >= 0.9 * last]
    for name in ("memory_mb", "threads", "descriptors"):
        before, after = (statistics.median(entry[name] for entry in part) if part else 0.0 for part in (early, late))
        run[name], run[f"{name}_growth"] = round(after, 1), round(after - before, 1)
    run["samples"] = len(samples)
    run["flat"] = bool(
        early
        and run["memory_mb_growth"] < MOST_GROWTH_MB
        and run["threads_growth"] <= 0
        and run["descriptors_growth"] <= 0
    )
    return run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1_000_000, help="of all sources together")
    parser.add_argument("--reconnects", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=25.0, help="stop after so long, with fewer frames")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("-o", type=Path, metavar="DIR", help="write long_run.json and long_run.md here")
    parser.add_argument("--camera", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--source", nargs=4, metavar=("KIND", "FRAMES", "SECONDS", "DIR"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.camera is not None:
        serve_camera(asked.camera)
        return 0
    if asked.source:
        kind, frames, seconds, folder = asked.source
        print(json.dumps(run_source(kind, int(frames), float(seconds), Path(folder, "seeds"), Path(folder))))
        return 0
    told = run_all(asked.frames, asked.reconnects, 60 * asked.minutes)
    print(json.dumps(told, indent=1) if asked.json else markdown_of(told))
    if asked.o:
        write_json(asked.o / "long_run.json", told)
        write_bytes(asked.o / "long_run.md", markdown_of(told).encode())
    return 0 if all(run["flat"] for run in told["runs"]) else 1


def run_all(frames: int, reconnects: int, seconds: float) -> dict[str, Any]:
    """Each source in a process of its own, one after another; reconnecting, which mostly waits, beside them."""
    demo = frames // DEMO_SHARE
    share = {"demo": demo, "folder": (frames - demo) // 2, "http": frames - demo - (frames - demo) // 2}
    with tempfile.TemporaryDirectory(prefix="long-run-") as name:
        os.environ["XDG_CACHE_HOME"] = str(Path(name, "cache"))
        make_seeds(Path(name, "seeds"))

        def start(kind: str, count: int, limit_s: float) -> subprocess.Popen[str]:
            command = [sys.executable, str(Path(__file__).resolve()), "--source", kind, str(count), str(limit_s), name]
            return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

        def outcome(process: subprocess.Popen[str]) -> dict[str, Any]:
            out, _ = process.communicate()
            if process.returncode:
                raise SystemExit(f"a run ended with status {process.returncode}")
            return judged(json.loads(out))

        beside = start("reconnects", reconnects, seconds)
        runs = [outcome(start(kind, count, seconds / len(share))) for kind, count in share.items()]
        runs.append(outcome(beside))
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "frames": sum(run["frames"] for run in runs),
        "runs": runs,
    }


def markdown_of(told: dict[str, Any]) -> str:
    lines = [f"{told['frames']} frames", ""]
    lines += [
        "| source | frames | reconnects | seconds | memory, MB | grew by, MB | threads | descriptors |",
        "|---" * 8 + "|",
    ]
    for run in told["runs"]:
        cells = [run[name] for name in ("source", "frames", "reopened", "elapsed_s", "memory_mb", "memory_mb_growth")]
        cells += [f"{run[name]:.0f} ({run[f'{name}_growth']:+.0f})" for name in ("threads", "descriptors")]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())

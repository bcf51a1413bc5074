"""What the camera loop costs beside the engine, and how old its pictures are.

    python benchmarks/camera.py VIDEO [--rounds 7] [--frames 5000] [--engine ENGINE]
    python benchmarks/camera.py --live        see camera_live.py

Throughput: in turn, round after round, the engine alone segments the video's frames, already at its size, and the loop
runs the video file as `run --input VIDEO --view none` does; the figure is the median of the rounds' ratios. Every frame
must come through once and in order.

Age: a live source gives the video's frames at twice the rate of the engine, until so many were segmented. Age p99 may
be twice the engine's latency (its median alone, measured just before) plus one period of the source, and resident
memory may grow by 10 MB from frame 500 on.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from speed import one_after_another, overlapped, processor
from zoo import ROOT

from pspnet_edge.artifact import write_bytes, write_json
from pspnet_edge.camera.loop import Loop
from pspnet_edge.camera.shot import Shot
from pspnet_edge.camera.sources import VideoSource
from pspnet_edge.data.geometry import frame_at
from pspnet_edge.engine.backends import open_engine
from pspnet_edge.engine.build import build_engine, prepare_model
from pspnet_edge.engine.engine import Engine

RESULTS = ROOT / "benchmarks" / "results"
SETTLED = 500
"""Frames after which memory may no longer grow."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, nargs="?")
    parser.add_argument("--live", action="store_true", help="processor time per frame outside inference")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--engine", type=Path)
    parser.add_argument("-o", type=Path, default=RESULTS, metavar="DIR")
    arguments = parser.parse_args()
    if arguments.live:
        # With the Python that has GStreamer's binding.
        command = ["/usr/bin/python3", str(Path(__file__).with_name("camera_live.py"))]
        return subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False).returncode
    if arguments.video is None:
        parser.error("give a video, or --live")
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.engine or Path(folder) / "int8.engine"
        if arguments.engine is None:
            build_engine(prepare_model(None), "int8", "openvino", path)
        with open_engine(path) as engine:
            frames = every_frame(arguments.video)
            facts = {
                "processor": processor(),
                "cores": os.cpu_count(),
                "load_before": round(os.getloadavg()[0], 2),
                "engine": f"{engine.info.precision} {engine.info.runtime}",
                "video": arguments.video.name,
                "size": f"{frames[0].shape[1]}x{frames[0].shape[0]}",
                "throughput": throughput(engine, arguments.video, frames, arguments.rounds),
                "live": live(engine, frames, arguments.frames),
            }
    write_json(arguments.o / "camera.json", facts)
    write_bytes(arguments.o / "camera.md", table(facts).encode())
    print(table(facts))
    return 0 if facts["throughput"]["passes"] and facts["live"]["passes"] else 1


def every_frame(video: Path) -> list[np.ndarray]:
    source = VideoSource(video)
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    source.close()
    return frames


def throughput(engine: Engine, video: Path, frames: list[np.ndarray], rounds: int) -> dict[str, object]:
    """Engine alone and loop in turn; the first round warms up."""
    prepared = [frame_at(frame, engine.size_hw)[None] for frame in frames]
    alone, flying, looped, in_order = [], [], [], True
    for turn in range(rounds + 1):
        start = time.perf_counter()
        one_after_another(engine, prepared)
        alone.append(len(frames) / (time.perf_counter() - start))
        if engine.overlaps:
            start = time.perf_counter()
            overlapped(engine, prepared)
            flying.append(len(frames) / (time.perf_counter() - start))
        seen = InOrder()
        source = VideoSource(video)
        looped.append(Loop([source], engine).run([seen]).fps)
        source.close()
        in_order = in_order and seen.indices == list(range(len(frames)))
        if turn == 0:
            for counted in (alone, flying, looped):
                counted.clear()
    ratios = [loop / engine_alone for loop, engine_alone in zip(looped, alone)]
    ratio = statistics.median(ratios)
    return {
        "rounds": rounds,
        "frames_a_round": len(frames),
        "engine_alone_fps": round(statistics.median(alone), 1),
        "engine_alone_two_in_flight_fps": round(statistics.median(flying), 1) if flying else None,
        "loop_fps": round(statistics.median(looped), 1),
        "ratio": round(ratio, 3),
        "ratio_to_two_in_flight": round(statistics.median(map(float.__truediv__, looped, flying)), 3)
        if flying
        else None,
        "ratios": [round(each, 3) for each in ratios],
        "every_frame_once_and_in_order": in_order,
        "passes": in_order and ratio >= 0.85,
    }


class InOrder:
    """A sink that draws nothing and remembers what came."""

    def __init__(self) -> None:
        self.indices: list[int] = []

    def show(self, shot: Shot) -> bool:
        self.indices.append(shot.index)
        return True


class Paced:
    """A live source: a new frame every period, whether anybody is ready or not."""

    name, live = "paced", True

    def __init__(self, frames: list[np.ndarray], period_s: float) -> None:
        self.fps = 1 / period_s
        self._frames = itertools.cycle(frames)
        self._period_s = period_s
        self._due = time.perf_counter()

    def read(self) -> np.ndarray:
        self._due = max(self._due + self._period_s, time.perf_counter() - self._period_s)
        time.sleep(max(0.0, self._due - time.perf_counter()))
        return next(self._frames).copy()

    def close(self) -> None:
        pass


def live(engine: Engine, frames: list[np.ndarray], count: int) -> dict[str, object]:
    prepared = [frame_at(frame, engine.size_hw)[None] for frame in frames]
    times = []
    for batch in prepared:
        start = time.perf_counter()
        engine.infer(batch)
        times.append(time.perf_counter() - start)
    latency_s = statistics.median(times)
    period_s = latency_s / 2
    resident: dict[int, int] = {}

    def remember(done: int) -> None:
        if done % SETTLED == 0:
            resident[done] = resident_bytes()

    summary = Loop([Paced(frames, period_s)], engine, count).run(on_frame=remember)
    limit_ms = 1000 * (2 * latency_s + period_s)
    growth = max(resident.values()) - resident[SETTLED]
    return {
        "frames": summary.frames,
        "dropped": summary.dropped,
        "engine_latency_ms": round(1000 * latency_s, 2),
        "source_period_ms": round(1000 * period_s, 2),
        "loop_fps": summary.fps,
        "loop_latency_ms": summary.latency_ms,
        "age_ms": summary.age_ms,
        "age_p99_limit_ms": round(limit_ms, 2),
        "resident_growth_mb": round(growth / 1e6, 2),
        "passes": summary.age_ms["p99"] <= limit_ms and growth < 10e6,
    }


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def table(facts: dict[str, dict[str, object]]) -> str:
    whole, age = facts["throughput"], facts["live"]
    return f"""| {facts["engine"]}, {facts["video"]} {facts["size"]}, {facts["processor"]}, {facts["cores"]} cores | measured | limit |
|---|---|---|
| engine alone, FPS | {whole["engine_alone_fps"]} | |
| engine alone with two batches in flight, FPS | {whole["engine_alone_two_in_flight_fps"]} | |
| loop, FPS | {whole["loop_fps"]} | |
| loop to engine, median of {whole["rounds"]} rounds | {whole["ratio"]} | at least 0.85 |
| loop to engine with two batches in flight | {whole["ratio_to_two_in_flight"]} | |
| every frame once and in order | {whole["every_frame_once_and_in_order"]} | True |
| live source at twice the engine's rate: age p50 / p99, ms | {age["age_ms"]["p50"]} / {age["age_ms"]["p99"]} | p99 at most {age["age_p99_limit_ms"]} |
| memory growth from frame {SETTLED} to {age["frames"]}, MB | {age["resident_growth_mb"]} | less than 10 |
"""


if __name__ == "__main__":
    sys.exit(main())

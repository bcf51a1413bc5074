"""Frames a second of the bundled model in each runtime and precision, and in PyTorch eager, in one interleaved run.

    python benchmarks/speed.py [--rounds 15]

Every contender segments the same frames in turn, round after round, so that drift of the machine falls on all alike; the
figure is the median over rounds, ratios are taken round by round. From uint8 frame to uint8 mask. Engines that overlap frames
run twice: one frame after another, which is what a frame waits, and with two in flight, which is how `run` reads files.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from zoo import ROOT, with_section

from pspnet_edge import bundled
from pspnet_edge.artifact import write_bytes, write_json
from pspnet_edge.data.datasets import SceneSet
from pspnet_edge.data.geometry import frame_at
from pspnet_edge.engine.backends import open_engine
from pspnet_edge.engine.build import build_engine, prepare_model
from pspnet_edge.engine.engine import Engine
from pspnet_edge.engine.session import IN_FLIGHT, Session

FRAMES = 10
BASE = "fp32 openvino"
EAGER = "fp32 PyTorch eager"
Pass = Callable[[list[np.ndarray]], None]
"""Segments every frame once."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    frames = [frame_at(SceneSet("test")[index][0], (384, 480))[None] for index in range(FRAMES)]
    with tempfile.TemporaryDirectory() as folder:
        contenders = engines(Path(folder)) | {EAGER: eager()}
        seconds = interleaved(contenders, frames, rounds)
    rows = [
        {
            "contender": name,
            "ms": round(1000 * float(np.median(times)), 2),
            "fps": round(1 / float(np.median(times)), 1),
            "ratio_to_fp32_openvino": ratio(seconds[BASE], times),
            "ratio_to_eager": ratio(seconds[EAGER], times),
        }
        for name, times in seconds.items()
    ]
    facts = {"processor": processor(), "rounds": rounds, "frames_a_round": FRAMES, "rows": rows}
    write_json(ROOT / "benchmarks" / "results" / "speed.json", facts)
    readme = ROOT / "docs/results.md"
    write_bytes(readme, with_section(readme.read_text(encoding="utf-8"), "speed", table(rows)).encode())
    print(table(rows))


def engines(folder: Path) -> dict[str, Pass]:
    """Every precision in every runtime of the processor."""
    found: dict[str, Pass] = {}
    for runtime in ("openvino", "onnxruntime"):
        for precision in ("fp32", "fp16", "int8"):
            path = folder / f"{runtime}-{precision}.engine"
            build_engine(prepare_model(None), precision, runtime, path)
            engine = open_engine(path)
            found[f"{precision} {runtime}"] = partial(one_after_another, engine)
            if engine.overlaps:
                found[f"{precision} {runtime}, {IN_FLIGHT} in flight"] = partial(overlapped, engine)
    return found


def one_after_another(engine: Engine | Session, frames: list[np.ndarray]) -> None:
    for frame in frames:
        engine.infer(frame)


def overlapped(engine: Engine, frames: list[np.ndarray]) -> None:
    """A frame is submitted while another is computed."""
    for index, frame in enumerate(frames):
        if index >= IN_FLIGHT:
            engine.take()
        engine.submit(frame)
    for _ in frames[-IN_FLIGHT:]:
        engine.take()


def eager() -> Pass:
    """The same network in PyTorch, the frame's and the mask's conversion included."""
    import torch

    from pspnet_edge.model.checkpoint import load_checkpoint
    from pspnet_edge.train.batches import normalised

    network = load_checkpoint(bundled.checkpoint_path(bundled.DEFAULT)).model

    def infer(frames: list[np.ndarray]) -> None:
        with torch.inference_mode():
            for frame in frames:
                logits = network(normalised(torch.from_numpy(frame), network.mean, network.std))
                full = torch.nn.functional.interpolate(logits, frame.shape[1:3], mode="bilinear", align_corners=False)
                full.argmax(1).to(torch.uint8).numpy()

    return infer


def interleaved(contenders: dict[str, Pass], frames: list[np.ndarray], rounds: int) -> dict[str, list[float]]:
    """Seconds a frame of each contender in each round; the first round warms up and is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, infer in contenders.items():
            start = time.perf_counter()
            infer(frames)
            if turn:
                seconds[name].append((time.perf_counter() - start) / len(frames))
    return seconds


def ratio(base: list[float], times: list[float]) -> float:
    return round(float(np.median(np.array(base) / np.array(times))), 3)


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def table(rows: list[dict[str, object]]) -> str:
    lines = ["| engine | ms a frame | FPS | times FP32 OpenVINO | times PyTorch eager |", "|---|---|---|---|---|"]
    lines += [
        f"| {r['contender']} | {r['ms']} | {r['fps']} | {r['ratio_to_fp32_openvino']} | {r['ratio_to_eager']} |"
        for r in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

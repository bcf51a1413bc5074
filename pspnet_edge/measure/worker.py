"""A separate process for one task of a benchmark: what it opens and allocates is gone at its end.

``run_task`` starts ``python -m pspnet_edge.measure.worker TASK``, the task as JSON, and reads lines of JSON:
``{"done": n}`` while it works, and at last ``{"result": …}`` or ``{"error": sentence}``.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..camera.sources import Source, open_source
from ..child import child_command
from ..data.datasets import ImageSet, is_labelled, open_dataset
from ..data.geometry import frame_at
from ..data.held_out import held_out_of
from ..data.image_file import DEFAULT_PIXELS
from ..data.images import ImageFiles
from ..engine.backends import open_engine
from ..engine.engine import Engine
from ..errors import DataError, EngineError, PspnetEdgeError
from ..metrics import ConfusionMatrix
from ..pixels import PixelFormat
from .evaluate import evaluate_engine
from .facts import Agreement, Place, Task, Turn
from .latency import engine_slice, loop_slice
from .samples import write_samples

_FRAMES = 8
"""Frames of the source that the engine alone is timed on, in turn."""


def run_task(task: Task, on_done: Callable[[int], None] = lambda done: None) -> Any:
    """Run a task in a new process and wait for its result.

    Args:
        task: ``{"kind": "time" | "score" | "agree" | "samples", …}``, JSON values.
        on_done: told how many images the process has done.

    Returns:
        A ``Turn``, ``Score``, ``Agreement`` or ``{"samples": …}``, by the kind of the task.

    Raises:
        EngineError: the process failed, with its sentence, or was killed.
    """
    command = child_command("pspnet_edge.measure.worker", json.dumps(task))
    last: Any = {}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                last = json.loads(line)
                if "done" in last:
                    on_done(last["done"])
        except BaseException:
            process.kill()
            raise
    if "result" in last:
        return last["result"]
    if "error" in last:
        raise EngineError(last["error"])
    what = f"{task['kind']} {Path(task['engine']).name}"
    raise EngineError(
        f"the process for `{what}` ended with status {process.returncode} and no result: "
        "if the machine is short of memory, benchmark fewer or smaller sizes"
    )


def perform(task: Task, on_done: Callable[[int], None]) -> Mapping[str, object]:
    """Do a task in this process."""
    kind = task["kind"]
    start = time.perf_counter()
    with open_engine(Path(task["engine"])) as engine:
        opened_s = time.perf_counter() - start
        if kind == "time":
            return _time(engine, task, opened_s)
        images = images_of(task["images"], engine.info.pixels)
        if kind == "score":
            assert is_labelled(images)
            return evaluate_engine(engine, images, on_image=on_done)
        with open_engine(Path(task["exact"])) as exact:
            if kind == "agree":
                return _agree(exact, engine, images, on_done)
            return {"samples": write_samples(exact, engine, images, Path(task["folder"]), count=task["count"])}


def images_of(place: Place, pixels: PixelFormat = DEFAULT_PIXELS) -> ImageSet:
    """Open the images that a task names: a labelled ``dataset``, or the images below ``root``."""
    root = Path(place["root"]) if place["root"] else None
    if place["dataset"] is None:
        assert root is not None
        return ImageFiles(root, pixels)
    if "held_out" in place:
        found = held_out_of(place["dataset"], root, place, pixels)
        if found is None:
            raise DataError(f"the images of {root} changed during the benchmark", "run it again with --fresh")
        return found
    return open_dataset(place["dataset"], root, place["split"], pixels)


def peak_memory_bytes() -> int:
    """The most memory that this process has had resident.

    ``getrusage`` will not do: after fork and exec it counts what the parent had.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _time(engine: Engine, task: Task, opened_s: float) -> Turn:
    def opened() -> Source:
        return open_source(None, task["input"])

    batch = engine.info.shape_nhw[0]
    source = opened()
    frames: list[NDArray[np.uint8]] = []
    while len(frames) < _FRAMES and (frame := source.read()) is not None:
        frames.append(np.repeat(frame_at(engine.with_channels(frame), engine.size_hw)[None], batch, axis=0))
    source.close()
    alone = engine_slice(engine, frames, task["seconds"]).facts()
    loop = loop_slice(engine, opened, task["seconds"]).facts() if batch == 1 else None
    return {
        "open_s": round(opened_s, 3),
        "engine": alone,
        "loop": loop,
        "peak_memory_bytes": peak_memory_bytes(),
        "power": None,
    }


def _agree(exact: Engine, engine: Engine, images: ImageSet, on_done: Callable[[int], None]) -> Agreement:
    """The share of pixels that get the class that FP32 gives them."""
    matrix = ConfusionMatrix(len(exact.info.label_set))
    for index in range(len(images)):
        image = images.image(index)
        masks = []
        for opened in (exact, engine):
            frames = np.repeat(frame_at(image, opened.size_hw)[None], opened.info.shape_nhw[0], axis=0)
            masks.append(opened.infer(frames)[0])
        matrix.add(masks[0], masks[1])
        on_done(index + 1)
    return {"agreement": matrix.pixel_accuracy(), "images": len(images)}


def main() -> None:
    """Do the task, print what came of it. An interrupt is the parent's to handle: it ends this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    task = json.loads(sys.argv[1])

    def tell(done: int) -> None:
        print(json.dumps({"done": done}), flush=True)

    try:
        print(json.dumps({"result": perform(task, tell)}), flush=True)
    except PspnetEdgeError as error:
        print(json.dumps({"error": str(error)}), flush=True)


if __name__ == "__main__":
    main()

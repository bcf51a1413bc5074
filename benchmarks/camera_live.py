"""Processor time per frame of a live 1920x1080 source outside inference: from the appsink to the engine's input.

    /usr/bin/python3 benchmarks/camera_live.py [--frames N]

It runs with the Python that has GStreamer's binding, on software twins of a Jetson's elements. What the pipeline itself takes
(sensor, scaling: the video engines' work on a board) is on threads of its own and not counted; everything of ours is: taking
the frame, its pixels, the way through the shared memory of the reader process, and the engine's input.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import statistics
import sys
import time

import numpy as np

os.environ["PSPNET_EDGE_VIDEO"] = "software"

from pspnet_edge.camera.devices import Wanted, open_device
from pspnet_edge.camera.reader_process import SLOTS, slots_in
from pspnet_edge.data.geometry import Geometry

ENGINE_HW = (384, 480)
LIMIT_MS = 1.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=200)
    frames = parser.parse_args().frames
    facts = {
        "source": "1920x1080, 30 FPS",
        "engine": "x".join(map(str, ENGINE_HW)),
        "frames": frames,
        "whole_frames_ms": measured(Wanted("csi", "0", (1920, 1080), 30), frames),
        "engine_size_ms": measured(Wanted("csi", "0", (1920, 1080), 30, engine_hw=ENGINE_HW, whole=False), frames),
        "limit_ms": LIMIT_MS,
    }
    print(json.dumps(facts, indent=2))
    return 0 if facts["engine_size_ms"] <= LIMIT_MS else 1


def measured(wanted: Wanted, frames: int) -> float:
    """Median processor time of this thread for one frame, in milliseconds."""
    device = open_device(wanted)
    first = device.read()
    assert first is not None
    layout = Geometry().layout(first.shape[:2], ENGINE_HW)
    inputs = np.zeros((1, *ENGINE_HW, 3), np.uint8)
    times = []
    with mmap.mmap(-1, SLOTS * first.nbytes) as memory:
        slots = slots_in(memory, first.shape, None)
        for number in range(frames):
            start = time.thread_time()
            frame = device.read()
            assert frame is not None
            slot = slots[number % SLOTS]
            slot.write(frame, None)
            inputs[0] = next(layout.inputs(slot.frame.copy()))
            times.append(1000 * (time.thread_time() - start))
        del slots, slot
    device.close()
    return round(statistics.median(times), 3)


if __name__ == "__main__":
    sys.exit(main())

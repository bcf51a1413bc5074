"""How much masks flicker on video: the pixels that change class and back within three frames.

    python benchmarks/temporal_consistency.py VIDEO [--model NAME|ONNX|PT …] [--frames 300]

writes benchmarks/results/temporal_consistency.md. A pixel flickers at a frame when its class differs from the one before,
and that class is back one or two frames later. It is counted over all pixels, and over those where nothing moves: where dense
optical flow (DIS, Kroeger et al., ECCV 2016) is below ``STILL_PX`` at each of these frames.
"""

from __future__ import annotations

import argparse
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pspnet_edge import Segmenter, bundled
from pspnet_edge.artifact import write_bytes

ROOT = Path(__file__).resolve().parents[1]
STILL_PX = 0.5
WITHIN = 3

Mask = NDArray[np.uint8]


@dataclass
class Flicker:
    """Counts over a video, given its masks in order and where each frame is as still as the one before."""

    pixels: int = 0
    flickering: int = 0
    still_pixels: int = 0
    still_flickering: int = 0
    _masks: deque[Mask] = field(default_factory=lambda: deque(maxlen=WITHIN + 1))
    _still: deque[NDArray[np.bool_]] = field(default_factory=lambda: deque(maxlen=WITHIN))

    def add(self, mask: Mask, still: NDArray[np.bool_]) -> None:
        """Count the pixels that left their class after the oldest of the last four masks and are back by the newest."""
        self._masks.append(mask)
        self._still.append(still)
        if len(self._masks) <= WITHIN:
            return
        before, changed, *after = self._masks
        back = np.logical_or.reduce([later == before for later in after])
        flickers = (changed != before) & back
        resting = np.logical_and.reduce(list(self._still))
        self.pixels += flickers.size
        self.flickering += int(flickers.sum())
        self.still_pixels += int(resting.sum())
        self.still_flickering += int((flickers & resting).sum())


class Stillness:
    """Where a frame shows what the one before showed at the same place."""

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._before: Mask | None = None

    def of(self, frame: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """``bool [H, W]``; all false for the first frame."""
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        before, self._before = self._before, grey
        if before is None:
            return np.zeros(grey.shape, np.bool_)
        flow = self._flow.calc(before, grey, None)
        still: NDArray[np.bool_] = np.hypot(flow[..., 0], flow[..., 1]) < STILL_PX
        return still


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--model", action="append", help="may be repeated; the bundled models")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument(
        "-o", "--output", type=Path, default=ROOT / "benchmarks" / "results" / "temporal_consistency.md"
    )
    options = parser.parse_args()
    lines = [
        "# Flicker on video",
        "",
        f"`{options.video.name}`, {options.frames} frames; still: optical flow under {STILL_PX} pixels a frame. Made by "
        "`benchmarks/temporal_consistency.py`.",
        "",
        "| model | pixels that change class and back within three frames | of those that are still | still pixels |",
        "|---|---|---|---|",
    ]
    for model in options.model or bundled.names():
        flicker, stillness = Flicker(), Stillness()
        with Segmenter(model) as segmenter:
            for index, (frame, mask) in enumerate(segmenter.stream(str(options.video))):
                flicker.add(mask, stillness.of(np.asarray(frame)))
                if index + 1 == options.frames:
                    break
        lines.append(
            f"| {model} | {100 * flicker.flickering / flicker.pixels:.3f} % "
            f"| {100 * flicker.still_flickering / max(flicker.still_pixels, 1):.3f} % "
            f"| {100 * flicker.still_pixels / flicker.pixels:.0f} % |"
        )
        print(lines[-1], flush=True)
    write_bytes(options.output, ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()

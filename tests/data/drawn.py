"""Clean sets of drawn shapes of many kinds, on which `data check` must find nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from .planted import write

Mask = NDArray[np.uint8]
Shape = Callable[[Mask, int, int, int, int, np.random.Generator], object]


def _outlined(mask: Mask, x: int, y: int, size: int, value: int, random: np.random.Generator) -> None:
    cv2.rectangle(mask, (x, y), (x + size, y + size), (value,), -1)
    other = int(random.integers(1, max(2, mask.max())))
    cv2.rectangle(mask, (x, y), (x + size, y + size), (other,), int(random.integers(1, 3)))


def _nested(mask: Mask, x: int, y: int, size: int, value: int, random: np.random.Generator) -> None:
    for ring in range(4):
        cv2.circle(mask, (x, y), max(2, size - ring * size // 4), (1 + (value + ring) % max(1, int(mask.max())),), -1)


def _fence(mask: Mask, x: int, y: int, size: int, value: int, random: np.random.Generator) -> None:
    for place in range(x, x + 2 * size, 6):
        cv2.line(mask, (place, y), (place, y + size), (value,), 1)


SHAPES: dict[str, Shape] = {
    "boxes": lambda m, x, y, s, v, r: cv2.rectangle(m, (x, y), (x + s, y + s // 2), (v,), -1),
    "discs": lambda m, x, y, s, v, r: cv2.circle(m, (x, y), s // 2, (v,), -1),
    "ellipses": lambda m, x, y, s, v, r: cv2.ellipse(m, (x, y), (s, s // 3), float(r.integers(180)), 0, 360, (v,), -1),
    "poles": lambda m, x, y, s, v, r: cv2.rectangle(m, (x, y - s), (x + int(r.integers(3)), y + s), (v,), -1),
    "lines": lambda m, x, y, s, v, r: cv2.line(m, (x, y), (y, x), (v,), int(r.integers(1, 4))),
    "letters": lambda m, x, y, s, v, r: cv2.putText(
        m, "Stop 12", (x // 2, max(20, y)), cv2.FONT_HERSHEY_SIMPLEX, s / 50 + 0.4, (v,), int(r.integers(1, 3))
    ),
    "outlines": _outlined,
    "rings": _nested,
    "fences": _fence,
}


def draw_set(root: Path, shape: str, seed: int, images: int = 4) -> Path:
    """A folder data set of one kind of shape; sizes and the count of classes come from the seed."""
    random = np.random.default_rng(seed)
    classes, size_hw = [(2, (120, 160)), (3, (96, 128)), (5, (240, 320)), (12, (180, 240)), (4, (101, 77))][seed % 5]
    hues = np.uint8([[[180 * i // classes, 150 + 80 * (i % 2), 90 + 60 * (i % 3)] for i in range(classes)]])  # type: ignore[arg-type]
    colours = cv2.cvtColor(hues, cv2.COLOR_HSV2BGR)[0]
    for index in range(images):
        mask = np.zeros(size_hw, np.uint8)
        if classes > 2:
            mask[: int(random.integers(size_hw[0] // 4, size_hw[0] // 2))] = classes - 1
        for _ in range(int(random.integers(3, 9))):
            x, y = int(random.integers(size_hw[1])), int(random.integers(size_hw[0]))
            size = int(random.integers(max(6, size_hw[0] // 12), size_hw[0] // 3))
            SHAPES[shape](mask, x, y, size, int(random.integers(1, classes)), random)
        image = colours[mask] + random.normal(0, 6, (*size_hw, 1)) + random.uniform(-20, 20, 3)
        if seed % 3 == 0:
            image = cv2.GaussianBlur(image, (3, 3), 0)
        write(root / "images" / f"{index:03d}.jpg", image.clip(0, 255).astype(np.uint8), cv2.IMWRITE_JPEG_QUALITY, 92)
        write(root / "masks" / f"{index:03d}.png", mask)
    (root / "classes.txt").write_text("".join(f"class {index}\n" for index in range(classes)))
    return root

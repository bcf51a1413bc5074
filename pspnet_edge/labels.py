"""Class names, palettes and the ids that masks use.

Every mask in the package is ``uint8 [H, W]``: class ids from 0, and ``IGNORE`` where the label says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

IGNORE = 255


@dataclass(frozen=True)
class LabelSet:
    """The classes of a data set or a model, in id order.

    ``palette`` holds one RGB triple (0–255) a class.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]

    def __post_init__(self) -> None:
        if len(self.classes) != len(self.palette):
            raise ValueError(f"label set {self.name!r} has {len(self.classes)} classes and {len(self.palette)} colours")
        if not 1 <= len(self.classes) < IGNORE:
            raise ValueError(f"label set {self.name!r} has {len(self.classes)} classes; 1 to 254 fit a uint8 mask")

    def __len__(self) -> int:
        return len(self.classes)

    def facts(self) -> dict[str, Any]:
        """As JSON values, for sidecars, checkpoints and graph metadata."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "palette": [list(colour) for colour in self.palette],
        }

    @staticmethod
    def from_facts(facts: dict[str, Any]) -> LabelSet:
        """The inverse of ``facts``.

        Raises:
            KeyError, TypeError, ValueError: the values are not what ``facts`` gives.
        """
        palette = tuple((int(r), int(g), int(b)) for r, g, b in facts["palette"])
        return LabelSet(str(facts["name"]), tuple(str(name) for name in facts["classes"]), palette)

    def bgr_table(self) -> NDArray[np.uint8]:
        """``uint8 [256, 3]``: the BGR colour of every value a mask can hold; unknown ids and IGNORE are black."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self)] = np.asarray(self.palette, np.uint8)[:, ::-1]
        return table


CAMVID = LabelSet(
    "camvid",
    ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"),
    (
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (60, 40, 222),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    ),
)

CITYSCAPES = LabelSet(
    "cityscapes",
    (
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
        "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    ),
    (
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
        (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60),
        (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
    ),
)  # fmt: skip


def voc_palette(count: int) -> tuple[tuple[int, int, int], ...]:
    """The first ``count`` RGB colours of the PASCAL VOC colour map (bits of the id spread over the channels)."""
    colours = []
    for index in range(count):
        rgb, bits = [0, 0, 0], index
        for shift in range(7, -1, -1):
            for channel in range(3):
                rgb[channel] |= ((bits >> channel) & 1) << shift
            bits >>= 3
        colours.append((rgb[0], rgb[1], rgb[2]))
    return tuple(colours)


VOC = LabelSet(
    "voc",
    (
        "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
        "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
    ),
    voc_palette(21),
)  # fmt: skip

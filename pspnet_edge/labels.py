"""Class names, palettes and the ids that masks use.

Every mask in the package is ``uint8 [H, W]``: class ids from 0, and ``IGNORE`` where the label says nothing.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from .records import JsonRecord

IGNORE = 255
LONGEST_CLASS_NAME = 200
_BACKGROUND_NAMES = frozenset(
    {"background", "_background_", "__background__", "void", "unlabeled", "unlabelled", "ignore"}
)


class LabelFacts(TypedDict):
    """A label set as JSON values."""

    name: str
    classes: list[str]
    palette: list[list[int]]


@dataclass(frozen=True)
class LabelSet(JsonRecord):
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

    def facts(self) -> LabelFacts:
        """As JSON values, for sidecars, checkpoints and graph metadata."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "palette": [list(colour) for colour in self.palette],
        }

    @staticmethod
    def from_facts(facts: Mapping[str, Any]) -> LabelSet:
        """The inverse of ``facts``.

        Raises:
            KeyError, TypeError, ValueError: the values are not what ``facts`` gives.
        """
        palette = tuple((int(r), int(g), int(b)) for r, g, b in facts["palette"])
        return LabelSet(str(facts["name"]), tuple(str(name) for name in facts["classes"]), palette)

    @property
    def background_ids(self) -> tuple[int, ...]:
        """Classes that name what is not an object, by name or by the colour black: overlays leave them clear."""
        named = zip(self.classes, self.palette)
        return tuple(
            index
            for index, (name, colour) in enumerate(named)
            if name.strip().lower() in _BACKGROUND_NAMES or colour == (0, 0, 0)
        )

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


# Okabe and Ito's colours without black (https://jfly.uni-koeln.de/color/), then light and dark relatives of them.
_BRIGHT = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
    (153, 221, 255), (170, 68, 153), (187, 204, 51), (255, 170, 187), (68, 187, 153), (136, 34, 85), (153, 153, 51),
    (102, 68, 204), (238, 136, 102),
)  # fmt: skip


def bright_palette(classes: Sequence[str]) -> tuple[tuple[int, int, int], ...]:
    """RGB colours for classes that bring none: bright, and told apart with any colour vision up to 16 classes.

    A background class is black, and overlays leave it clear. Beyond 16 classes hues are spread by the golden ratio.
    """
    colours, used = [], 0
    for name in classes:
        if name.strip().lower() in _BACKGROUND_NAMES:
            colours.append((0, 0, 0))
            continue
        colours.append(_BRIGHT[used] if used < len(_BRIGHT) else _spread_hue(used))
        used += 1
    return tuple(colours)


def _spread_hue(index: int) -> tuple[int, int, int]:
    value = (1.0, 0.8, 0.62)[index % 3]
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.75, value)
    return round(255 * red), round(255 * green), round(255 * blue)


VOC = LabelSet(
    "voc",
    (
        "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
        "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
    ),
    voc_palette(21),
)  # fmt: skip

"""hszhao/semseg, by the paper's first author."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .layout import Layout
from .settings import Settings, whole_numbers
from .weights import ForeignWeights

MARKER = "ppm.features."

_NAMES = (
    (r"backbone\.stem\.(\d)", r"layer0.\1"),
    (r"backbone\.(.+)", r"\1"),
    (r"pyramid\.stages\.(\d+)\.0", r"ppm.features.\1.1"),
    (r"pyramid\.stages\.(\d+)\.1", r"ppm.features.\1.2"),
    (r"fuse\.(\d)", r"cls.\1"),
    (r"classifier", r"cls.4"),
    (r"aux_head\.0\.(\d)", r"aux.\1"),
    (r"aux_head\.2", r"aux.4"),
)

# In our names, in the order of semseg's CamVid list.
_CAMVID = (
    "building", "tree", "sky", "car", "sign", "road", "pedestrian", "fence", "pole", "pavement", "bicyclist",
)  # fmt: skip


def layout(weights: ForeignWeights, meta: Mapping[str, Any], settings: Settings) -> Layout:
    """Every block of the last two stages dilates, by 2 and by 4, and everything is resized corner to corner."""
    bins = whole_numbers(settings.get("TRAIN", "bins") or settings.get("bins"), "bins")
    return Layout(
        _NAMES,
        {"align_corners": True},
        assumed=("output stride 8 with dilation in every block", "align_corners=True"),
        bins=bins,
        left_out=(("aux.", "only training reads it"),),
        orders={"camvid": _CAMVID},
        settings=settings.source,
    )

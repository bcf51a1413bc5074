"""The measured mIoU of the bundled models: by size and precision, from figures that ship in the package."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from .. import bundled
from ..artifact import sidecar_path
from ..engine.backend import Precision

_FIGURES = Path(__file__).parent / "measured.json"
Size = tuple[int, int]


@dataclass(frozen=True)
class Quality:
    """The mIoU of a model at one size and precision."""

    model: str
    size_hw: Size
    precision: Precision
    miou: float
    """The lowest over the runtimes that it was measured in; of INT8 the symmetric graph's where that was measured,
    because TensorRT gets it."""
    data: str
    """What it was measured on, such as ``camvid test``."""


class _Entry(TypedDict):
    model: str
    size: str
    precision: str
    symmetric: bool
    """Of INT8: the graph that TensorRT gets."""
    data: str
    miou: float


def bundled_qualities() -> tuple[Quality, ...]:
    """Every bundled model at every size and precision that was measured for the weights in this package.

    A model without such figures has those of its model card, at its own size.
    """
    entries = json.loads(_FIGURES.read_text(encoding="utf-8"))["entries"]
    found: list[Quality] = []
    for name in bundled.names():
        facts = json.loads(sidecar_path(bundled.onnx_path(name)).read_text(encoding="utf-8"))
        weights = facts["checkpoint_sha256"]
        own = [entry for entry in entries if (entry["model"], entry["checkpoint_sha256"]) == (name, weights)]
        found += _lowest(own or _from_card(name, facts["input_hw"]))
    return tuple(found)


def _lowest(entries: list[_Entry]) -> list[Quality]:
    groups: dict[tuple[str, str], list[_Entry]] = {}
    for entry in entries:
        groups.setdefault((entry["size"], entry["precision"]), []).append(entry)
    found = []
    for (size, precision), group in groups.items():
        taken = [entry for entry in group if entry["symmetric"]] or group
        worst = min(taken, key=lambda entry: float(entry["miou"]))
        height, width = (int(side) for side in size.split("x"))
        found.append(Quality(worst["model"], (height, width), _precision(precision), worst["miou"], worst["data"]))
    return found


def _from_card(name: str, input_hw: list[int]) -> list[_Entry]:
    """The table of measured figures in a model card: a column named ``precision`` and one named ``… test mIoU``."""
    path = bundled.card_path(name)
    if not path.is_file():
        return []
    lines = [_cells(line) for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    found: list[_Entry] = []
    column, data = None, ""
    for cells in lines:
        if cells[0] == "precision":
            titles = [(index, title) for index, title in enumerate(cells) if title.endswith("test mIoU")]
            column, data = (titles[0][0], titles[0][1].removesuffix(" mIoU").lower()) if titles else (None, "")
            continue
        precision, _, flavour = cells[0].lower().partition(" ")
        if column is None or precision not in ("fp32", "fp16", "int8"):
            continue
        found.append(
            {
                "model": name,
                "size": f"{input_hw[0]}x{input_hw[1]}",
                "precision": precision,
                "symmetric": flavour == "symmetric",
                "data": data,
                "miou": float(cells[column]),
            }
        )
    return found


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _precision(text: str) -> Precision:
    if text == "fp32":
        return "fp32"
    return "fp16" if text == "fp16" else "int8"

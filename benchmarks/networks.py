"""The laboratory: candidates for the network family under one short recipe, beside other projects' networks.

    python benchmarks/networks.py train --camvid CamVid -o runs/networks [--only NAME …] [--epochs 60] [--scratch]
    python benchmarks/networks.py measure -o runs/networks [--only NAME …] [--rounds 20]
    python benchmarks/networks.py table -o runs/networks

`train` gives every candidate the same data (CamVid's training split), seed, augmentation and number of passes, and writes
its mIoU on the validation split; the test split is never looked at. Without ``--scratch`` our networks start from ImageNet.
`measure` times OpenVINO engines at 384×480 in one interleaved run on one core, by the processor's time rather than the
clock's, so that other work on the machine counts for little, and predicts an Orin Nano in INT8. `table` writes
benchmarks/results/networks.md from what both left. YOLO26-sem is installed into an environment of the run's folder and is never a dependency;
its weights are random at the start, as all are with ``--scratch``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxslim
import openvino
import torch
from torch import Tensor, nn

from pspnet_edge.artifact import sidecar_path, write_bytes, write_json
from pspnet_edge.data.datasets import Dataset, SceneSet, open_dataset
from pspnet_edge.data.geometry import frame_at
from pspnet_edge.estimate.predict import estimate
from pspnet_edge.labels import CAMVID
from pspnet_edge.model.checkpoint import save_checkpoint
from pspnet_edge.model.pspnet import PSPNet

ROOT = Path(__file__).resolve().parents[1]
SIZE_HW = (384, 480)
RESULTS = ROOT / "benchmarks/results/networks.json"


def decoder(
    strides: tuple[int, ...], widths: tuple[int, ...], laterals: tuple[int, ...], **more: Any
) -> dict[str, Any]:
    """Fields of ``Preset``."""
    return {"decoder_strides": strides, "decoder_widths": widths, "lateral_widths": laterals} | more


@dataclass(frozen=True)
class Candidate:
    """One of our networks: a preset, what differs from it, and what the change is meant to try."""

    preset: str
    idea: str
    changes: dict[str, Any] = field(default_factory=dict)

    def network(self) -> PSPNet:
        """With random weights."""
        return PSPNet(self.preset, len(CAMVID), self.changes)


_FULL = decoder((16, 8, 4), (96, 64, 32), (48, 32, 16))
_WIDE = decoder((16, 8, 4), (128, 96, 48), (64, 48, 24), pyramid_width=96, fuse_width=160)
CANDIDATES = {
    "lite0-os16": Candidate("pspnet_lite0", "today's network"),
    "lite0": Candidate("pspnet_lite0", "trunk at stride 32, decoder to stride 4", {"output_stride": 32} | _FULL),
    "lite0-narrow": Candidate(
        "pspnet_lite0", "narrower decoder",
        {"output_stride": 32, "pyramid_width": 48, "fuse_width": 96} | decoder((16, 8, 4), (64, 48, 24), (32, 24, 12)),
    ),
    "lite0-stride8": Candidate(
        "pspnet_lite0", "logits at stride 8",
        {"output_stride": 32, "fuse_width": 96} | decoder((16, 8), (64, 64), (48, 32)),
    ),
    "lite0-depthwise": Candidate(
        "pspnet_lite0", "decoder of depthwise 5×5",
        {"output_stride": 32, "fuse_width": 96}
        | decoder((16, 8, 4), (64, 64, 32), (48, 32, 16), decoder_kernel="depthwise"),
    ),
    "cascade": Candidate(
        "pspnet_lite0", "trunk on the image at half size, thin full-size branch (ICNet)",
        {"output_stride": 32, "trunk_divisor": 2, "detail_width": 32, "fuse_width": 96}
        | decoder((16, 8, 4), (64, 48, 32), (48, 32, 16)),
    ),
    "cascade-os16": Candidate(
        "pspnet_lite0", "the same, trunk at stride 16 of the half image",
        {"output_stride": 16, "trunk_divisor": 2, "detail_width": 32, "fuse_width": 96}
        | decoder((16, 8, 4), (64, 48, 32), (48, 32, 16)),
    ),
    "lite1-wide": Candidate("pspnet_lite1", "lite1 trunk, wide decoder", {"output_stride": 32} | _WIDE),
    "lite2": Candidate(
        "pspnet_lite2", "lite2 trunk", {"output_stride": 32} | decoder((16, 8, 4), (96, 64, 48), (48, 32, 24))
    ),
    "lite2-wide": Candidate("pspnet_lite2", "lite2 trunk, wide decoder", {"output_stride": 32} | _WIDE),
    "plain": Candidate(
        "pspnet_plain", "ResNet-18 of 0.6 times the width, trunk at stride 32, logits at stride 8",
    ),
}  # fmt: skip


class Foreign(nn.Module):
    """Another project's network as our trainer sees one: normalisation, logits and an aux output.

    Args:
        network: normalised RGB ``float [N, 3, H, W]`` → logits, or (logits, aux logits) in training.
        mean: what is taken from RGB in 0–255.
        std: what it is divided by.
        logits_stride: pixels of the input per value of the logits.
    """

    preset = "foreign"
    align_corners = False
    quantiser = None

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], logits_stride: int) -> None:
        super().__init__()
        self.network, self.mean, self.std, self.logits_stride = network, mean, std, logits_stride
        self.shape = SimpleNamespace(decoder_widths=())

    def forward(self, x: Tensor) -> Tensor:
        found = self.network(x)
        logits: Tensor = found[0] if isinstance(found, (tuple, list)) else found
        return logits

    def forward_with_aux(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The logits and, where the network has one, its aux output."""
        found = self.network(x)
        return (found[0], found[1]) if isinstance(found, (tuple, list)) else (found, found)


def yolo(scale: str) -> Callable[[], nn.Module]:
    """YOLO26-sem of Ultralytics, which must be importable; see ``install_yolo``."""

    def make() -> nn.Module:
        from ultralytics.nn.tasks import SemanticSegmentationModel

        network = SemanticSegmentationModel(f"yolo26{scale}-sem.yaml", nc=len(CAMVID), verbose=False)
        return Foreign(network, (0.0,) * 3, (255.0,) * 3, 8)

    return make


def smp_pspnet(encoder: str) -> Callable[[], nn.Module]:
    """PSPNet of segmentation-models-pytorch with random weights; its logits have the size of the input."""

    def make() -> nn.Module:
        import segmentation_models_pytorch as smp

        mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
        return Foreign(smp.PSPNet(encoder, encoder_weights=None, classes=len(CAMVID)), mean, std, 1)

    return make


PEERS: dict[str, Callable[[], nn.Module]] = {
    "YOLO26n-sem": yolo("n"),
    "YOLO26s-sem": yolo("s"),
    "smp PSPNet-resnet18": smp_pspnet("resnet18"),
    "smp PSPNet-mobilenet_v2": smp_pspnet("mobilenet_v2"),
}


def install_yolo(folder: Path) -> None:
    """Make ``import ultralytics`` work from a folder of the run, without its dependencies changing ours."""
    place = folder / "ultralytics"
    if not (place / "ultralytics").is_dir():
        packages = ("ultralytics", "ultralytics-thop", "psutil", "pyyaml", "requests", "py-cpuinfo", "polars")
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", place, *packages]
        subprocess.run(list(map(str, command)), check=True)
    sys.path.append(str(place))


def short_run(
    network: nn.Module, epochs: int, training: Dataset, validation: Dataset, scratch: bool, workers: int
) -> dict[str, Any]:
    """Train under the laboratory's recipe; mIoU on ``validation``, per class, and what it took."""
    from pspnet_edge.train.distributed import joined
    from pspnet_edge.train.recipe import Recipe
    from pspnet_edge.train.step import Run
    from pspnet_edge.train.validate import validate

    recipe = Recipe(
        epochs=epochs, batch=16, learning_rate=2e-3, backbone_factor=1.0 if scratch else 0.3, warmup_epochs=2.0,
        average_decay=0.99, scenes_share=0.0,
    )  # fmt: skip
    start = time.monotonic()
    with joined("auto") as world:
        run = Run(recipe, network, training, None, None, world, 1, workers)  # type: ignore[arg-type]
        batches = run.micro_batches(range(epochs))
        losses = [run.epoch(epoch, batches, lambda step, steps, loss: None) for epoch in range(epochs)]
        matrix = validate(run.average.model, validation, world)
    per_class = dict(zip(CAMVID.classes, (round(float(value), 4) for value in matrix.iou())))
    return {
        "val_miou": round(float(matrix.miou()), 4),
        "per_class": per_class,
        "epochs": epochs,
        "scratch": scratch,
        "loss": round(losses[-1], 4),
        "losses": [round(loss, 4) for loss in losses],
        "seconds": round(time.monotonic() - start, 1),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
    }


def make_network(name: str, scratch: bool) -> nn.Module:
    """A candidate or a peer; ours start from ImageNet unless from scratch."""
    torch.manual_seed(0)
    if name in PEERS:
        return PEERS[name]()
    network = CANDIDATES[name].network()
    if not scratch and not network.shape.scratch:
        network.backbone.load_imagenet()
    return network


def train(options: argparse.Namespace) -> None:
    """Train what has no figure yet."""
    training, validation = (open_dataset("camvid", options.camvid, split) for split in ("train", "val"))
    names = options.only or [*CANDIDATES, *(PEERS if options.scratch else ())]
    for name in names:
        target = options.output / f"{name.replace(' ', '_')}-{'scratch' if options.scratch else 'imagenet'}.json"
        if target.exists():
            continue
        if name.startswith("YOLO"):
            install_yolo(options.output)
        network = make_network(name, options.scratch)
        facts = short_run(network, options.epochs, training, validation, options.scratch, options.workers)
        write_json(target, {"name": name} | facts)
        print(name, facts["val_miou"], f"{facts['seconds']} s", flush=True)


def command(*arguments: object) -> None:
    """Run ``pspnet-edge``."""
    subprocess.run([sys.executable, "-m", "pspnet_edge", *map(str, arguments)], check=True, capture_output=True)


def engines_of(name: str, folder: Path) -> tuple[dict[str, Path], dict[str, float]]:
    """Engines of a candidate with random weights by precision, and what is known without running them."""
    network = CANDIDATES[name].network().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 0.7)  # or hundreds of layers of random weights overflow
    checkpoint, model = folder / f"{name}.pt", folder / f"{name}.onnx"
    table = folder / f"{name}.calib.json"
    save_checkpoint(checkpoint, network, CAMVID, {})
    command("export", checkpoint, "-o", model)
    command("calibrate", model, "--dataset", "scenes", "--images", 4, "--rounding", "nearest", "-o", table)
    engines = {}
    for precision in ("int8", "fp16"):
        engines[precision] = folder / f"{name}-{precision}.engine"
        more = ("--calibration", table) if precision == "int8" else ()
        command("build", model, "--precision", precision, "--runtime", "openvino", "-o", engines[precision], *more)
    facts = json.loads(sidecar_path(model).read_text())
    orin = estimate(model, "int8", "orin-nano")
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return engines, {
        "gmac": facts["gmac"],
        "parameters_m": round(parameters / 1e6, 2),
        "orin_nano_fps": round(orin.fps),
    }


def peer_graph(name: str, folder: Path) -> Path:
    """A peer from uint8 frame to uint8 mask, as one ONNX file."""
    peer = PEERS[name]().eval().requires_grad_(False)  # tracing takes its weights as constants

    class FrameToMask(nn.Module):
        def forward(self, frames: Tensor) -> Tensor:
            x = frames.permute(0, 3, 1, 2).float()[:, [2, 1, 0]]
            mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (peer.mean, peer.std))
            logits = peer((x - mean) / std)
            return nn.functional.interpolate(logits, size=SIZE_HW, mode="bilinear").argmax(1).to(torch.uint8)

    path = folder / f"{name.replace(' ', '_')}.onnx"
    frames = torch.zeros(1, *SIZE_HW, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(FrameToMask(), (frames,), path, opset_version=17, dynamo=False)
    onnx.save(onnxslim.slim(str(path)), path)
    return path


def measure(options: argparse.Namespace) -> None:
    """Time candidates and peers, and write ``latency.json``."""
    core = openvino.Core()
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1}
    requests, known = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only or [*CANDIDATES, *PEERS]:
            torch.manual_seed(0)
            if name in PEERS:
                if name.startswith("YOLO"):
                    install_yolo(options.output)
                files, known[name] = {"fp16": peer_graph(name, Path(folder))}, {}
            else:
                files, known[name] = engines_of(name, Path(folder))
            for precision, path in files.items():
                requests[name, precision] = core.compile_model(
                    core.read_model(path.read_bytes()), "CPU", settings
                ).create_infer_request()
        frames = [frame_at(SceneSet("test")[index * 20][0], SIZE_HW)[None] for index in range(3)]
        taken: dict[tuple[str, str], list[float]] = {key: [] for key in requests}
        for _ in range(options.rounds):
            for key, request in requests.items():
                for frame in frames:
                    start = time.process_time()
                    request.infer({0: frame}, share_inputs=True, share_outputs=True)
                    taken[key].append(time.process_time() - start)
    for (name, precision), seconds in taken.items():
        known[name][f"{precision}_ms"] = round(float(np.percentile(seconds, 10)) * 1e3, 2)
        print(f"{name:24s} {precision:5s} {known[name][f'{precision}_ms']:7.2f} ms", flush=True)
    write_json(options.output / "latency.json", known)


def table(options: argparse.Namespace) -> None:
    """Write benchmarks/results/networks.{json,md} from what `train` and `measure` left."""
    latency = json.loads((options.output / "latency.json").read_text())
    runs = [json.loads(path.read_text()) for path in sorted(options.output.glob("*-*.json"))]
    lines = [
        "# The laboratory of networks",
        "",
        "Made by `python benchmarks/networks.py`; its docstring says what the columns are. mIoU on CamVid's validation split after",
        f"a short recipe ({', '.join(sorted({run['device'] for run in runs}))}), processor time per frame on one core at 384×480.",
        "",
        "| network | idea | GMAC | M parameters | INT8 ms | 16-bit ms | Orin Nano INT8, estimated FPS | val mIoU from ImageNet | from scratch |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, facts in latency.items():
        found = {
            run["scratch"]: f"{run['val_miou']:.4f} ({run['epochs']} passes)" for run in runs if run["name"] == name
        }
        idea = CANDIDATES[name].idea if name in CANDIDATES else ""
        cells = [facts.get(key, "") for key in ("gmac", "parameters_m", "int8_ms", "fp16_ms", "orin_nano_fps")]
        row = [name, idea, *cells, found.get(False, ""), found.get(True, "")]
        lines.append("| " + " | ".join(map(str, row)) + " |")
    write_bytes(RESULTS.with_suffix(".md"), ("\n".join(lines) + "\n").encode())
    write_json(RESULTS, {"latency": latency, "runs": runs})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, work in (("train", train), ("measure", measure), ("table", table)):
        command = commands.add_parser(name)
        command.set_defaults(work=work)
        command.add_argument("--only", action="append", metavar="NAME")
        command.add_argument("-o", "--output", type=Path, default=Path("runs/networks"))
        command.add_argument("--camvid", type=Path, default=ROOT.parent / "shared/data/camvid")
        command.add_argument("--epochs", type=int, default=60)
        command.add_argument("--scratch", action="store_true", help="no ImageNet weights")
        command.add_argument("--workers", type=int, default=1)
        command.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    options.work(options)


if __name__ == "__main__":
    main()

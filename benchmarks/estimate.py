"""Estimates held against figures that others published for Jetson boards, and the roofline's constants fitted to them.

    python benchmarks/estimate.py            the table with the constants that the package has
    python benchmarks/estimate.py --fit      find the constants again; they are put into estimate/roofline.py by hand
    python benchmarks/estimate.py --boards   only the bundled models on today's boards: results/boards.md

The networks are built in ``published_networks.py`` with random weights. Beside the error of the fit stands that of
leave-one-out: each device, then each source, predicted with constants that were fitted without it.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxslim
import published_networks as networks
import torch
from torch import nn
from zoo import ROOT

from pspnet_edge.artifact import write_bytes, write_json
from pspnet_edge.estimate.boards import BOARDS
from pspnet_edge.estimate.kernels import Kernel, fused_kernels, read_graph
from pspnet_edge.estimate.plan import estimated_candidates, front
from pspnet_edge.estimate.roofline import FITTED, Constants, layer_times

INFERENCE, GRADIENTS, ISAAC = "jetson-inference", "super-gradients", "Isaac ROS"
IDEIN, CHOI, THE0807 = (
    "Idein/aicast_jetson_benchmark",
    "hokwangchoi/jetson-orin-nano-benchmarks",
    "the0807/YOLOv8-ONNX-TensorRT",
)
ALLOWED = 1.5


@dataclass(frozen=True)
class Published:
    """A figure that somebody measured."""

    source: str
    network: str
    size_hw: tuple[int, int]
    board: str
    precision: str
    ms: float


def _jetson_inference() -> list[Published]:
    """README: FP16, JetPack 4.2.1, MAX-N. ResNet-18 at stride 32, as issue 704 says of the output's size."""
    rows = [(512, 256, 48, 480), (1024, 512, 12, 175), (2048, 1024, 3, 47), (576, 320, 26, 360), (864, 480, 14, 190)]
    rows += [(512, 320, 34, 370), (640, 360, 23, 325), (320, 320, 45, 508), (512, 320, 34, 375), (512, 400, 28, 340)]
    rows += [(640, 512, 17, 224)]
    found = []
    for (width, height, nano, xavier), classes in zip(rows, (21, 21, 21, 5, 5, 21, 21, 21, 21, 21, 21)):
        for board, fps in (("nano", nano), ("agx-xavier", xavier)):
            found.append(Published(INFERENCE, f"FCN-ResNet18, {classes}", (height, width), board, "fp16", 1000 / fps))
    return found


def _super_gradients() -> list[Published]:
    """README: Xavier NX, TensorRT, FP16, batch 1; below 1024×2048 with a resize of the input and of the logits."""
    halves, three_quarters, whole = (512, 1024), (768, 1536), (1024, 2048)
    rows = [("PP-LiteSeg-T", halves, 26.20), ("PP-LiteSeg-T", three_quarters, 38.03), ("PP-LiteSeg-B", halves, 31.69)]
    rows += [
        ("PP-LiteSeg-B", three_quarters, 49.89),
        ("STDC1-Seg", halves, 27.54),
        ("STDC1-Seg", three_quarters, 43.88),
    ]
    rows += [("STDC2-Seg", halves, 32.03), ("STDC2-Seg", three_quarters, 54.48)]
    rows += [("DDRNet-23-slim", whole, 45.18), ("DDRNet-23", whole, 106.26)]
    return [Published(GRADIENTS, network, size, "xavier-nx", "fp16", ms) for network, size, ms in rows]


def _orin() -> list[Published]:
    size = (640, 640)
    found = [
        Published(CHOI, "YOLOv8n", size, "orin-nano-super", p, ms)
        for p, ms in (("fp32", 8.37), ("fp16", 4.43), ("int8", 3.49))
    ]
    for letter, fp16, int8 in (("n", 7.3, 5.8), ("s", 11.4, 8.2), ("m", 23.6, 17.1)):
        found += [
            Published(THE0807, f"YOLOv8{letter}", size, "orin-nano", p, ms)
            for p, ms in (("fp16", fp16), ("int8", int8))
        ]
    found += [
        Published(IDEIN, "YOLOX-s-leaky", size, "orin-nano", p, ms)
        for p, ms in (("fp32", 20.9), ("fp16", 10.7), ("int8", 8.6))
    ]
    found += [Published(IDEIN, "YOLOX-s-leaky", size, "nano", p, ms) for p, ms in (("fp32", 153.3), ("fp16", 93.7))]
    # Throughput of a whole ROS graph (encoder, TensorRT, decoder); the middle of the published releases.
    for board, low, high in (
        ("orin-nano", 142, 163),
        ("orin-nx", 212, 250),
        ("agx-orin", 371, 436),
        ("thor", 449, 449),
    ):
        found.append(Published(ISAAC, "PeopleSemSegNet ShuffleSeg", (544, 960), board, "int8", 2000 / (low + high)))
    return found


PUBLISHED = (*_jetson_inference(), *_super_gradients(), *_orin())

BUILD: dict[str, Callable[[], nn.Module]] = {
    "FCN-ResNet18, 5": lambda: networks.FcnResNet18(5),
    "FCN-ResNet18, 21": lambda: networks.FcnResNet18(21),
    "PP-LiteSeg-T": lambda: networks.PpLiteSeg(networks.STDC1, 64, (128, 64, 32), 32),
    "PP-LiteSeg-B": lambda: networks.PpLiteSeg(networks.STDC2, 96, (128, 96, 64), 64),
    "STDC1-Seg": lambda: networks.StdcSeg(networks.STDC1),
    "STDC2-Seg": lambda: networks.StdcSeg(networks.STDC2),
    "DDRNet-23-slim": lambda: networks.DdrNet(32, 64, 64),
    "DDRNet-23": lambda: networks.DdrNet(64, 128, 128),
    "PeopleSemSegNet ShuffleSeg": networks.ShuffleSeg,
    "YOLOv8n": lambda: networks.yolov8("n"),
    "YOLOv8s": lambda: networks.yolov8("s"),
    "YOLOv8m": lambda: networks.yolov8("m"),
    "YOLOX-s-leaky": networks.yolox_s_leaky,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true", help="find the constants anew and print them")
    parser.add_argument("--graphs", type=Path, help="keep the exported networks here, for another run")
    parser.add_argument("--boards", action="store_true", help="only the table of bundled models on boards")
    options = parser.parse_args()
    if options.boards:
        write_bytes(ROOT / "benchmarks/results/boards.md", boards_page().encode())
        return
    with tempfile.TemporaryDirectory() as folder:
        graphs = options.graphs or Path(folder)
        kernels = [kernels_of(figure, graphs) for figure in PUBLISHED]
    constants = fitted(PUBLISHED, kernels) if options.fit else FITTED
    print(constants)
    ratios = predicted_ms(PUBLISHED, kernels, constants) / np.array([figure.ms for figure in PUBLISHED])
    by_device = left_out(kernels, [figure.board for figure in PUBLISHED])
    by_source = left_out(kernels, [figure.source for figure in PUBLISHED])
    print(page(ratios, by_device, by_source, constants))
    if options.fit and constants != FITTED:
        print("put these constants into pspnet_edge/estimate/roofline.py, then run without --fit")
        return
    rows = [
        asdict(figure)
        | {"estimated_ms": figure.ms * ratio, "ratio": ratio, "device_left_out": device, "source_left_out": source}
        for figure, ratio, device, source in zip(PUBLISHED, ratios, by_device, by_source)
    ]
    facts = {"constants": asdict(constants), "allowed": ALLOWED}
    facts |= {"fit": errors(ratios), "device_left_out": errors(by_device), "source_left_out": errors(by_source)}
    write_json(ROOT / "benchmarks/results/estimate.json", facts | {"rows": rows})
    write_bytes(ROOT / "benchmarks/results/estimate.md", page(ratios, by_device, by_source, constants).encode())


def kernels_of(figure: Published, folder: Path) -> tuple[Kernel, ...]:
    """The kernels of a published network, exported into ``folder`` unless it is there."""
    height, width = figure.size_hw
    path = folder / f"{figure.network}-{height}x{width}.onnx".replace(" ", "_")
    if not path.is_file():
        network: nn.Module = BUILD[figure.network]()
        resized = figure.source == GRADIENTS and height < 1024
        if resized:
            network = networks.ResizedAround(network, figure.size_hw)
        export(network, (1024, 2048) if resized else figure.size_hw, path)
    return fused_kernels(read_graph(path), int8=figure.precision == "int8")


def export(network: nn.Module, size_hw: tuple[int, int], path: Path) -> None:
    torch.manual_seed(0)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the tracer warns of every shape that becomes a number
        torch.onnx.export(network.eval(), (torch.zeros(1, 3, *size_hw),), path, opset_version=17, dynamo=False)
    path.write_bytes(onnxslim.slim(onnx.load(path)).SerializeToString())


def predicted_ms(
    figures: Sequence[Published], kernels: Sequence[tuple[Kernel, ...]], constants: Constants
) -> np.ndarray:
    return np.array(
        [
            1000 * sum(layer.seconds for layer in layer_times(made, BOARDS[figure.board], figure.precision, constants))
            for figure, made in zip(figures, kernels)
        ]
    )


def fitted(figures: Sequence[Published], kernels: Sequence[tuple[Kernel, ...]]) -> Constants:
    """The constants with the least mean absolute logarithm of predicted over published, each source weighing alike.

    One after another is moved up or down by a share that shrinks; shares of a peak stay below 1.
    """
    counts = {source: sum(figure.source == source for figure in figures) for source in {f.source for f in figures}}
    weights = np.array([1 / counts[figure.source] for figure in figures])
    published = np.array([figure.ms for figure in figures])

    def loss(constants: Constants) -> float:
        return float(
            (weights * np.abs(np.log(predicted_ms(figures, kernels, constants) / published))).sum() / weights.sum()
        )

    best = Constants(cuda=0.6, tensor=0.5, bandwidth=0.7, launch_us=5)
    least = loss(best)
    for step in (1.3, 1.1, 1.03):
        moved = True
        while moved:
            moved = False
            for name, factor in itertools.product(asdict(best), (step, 1 / step)):
                value = round(getattr(best, name) * factor, 4)
                tried = replace(best, **{name: value if name == "launch_us" else min(value, 1.0)})
                if tried != best and loss(tried) < least - 1e-6:
                    best, least, moved = tried, loss(tried), True
    return best


def left_out(kernels: Sequence[tuple[Kernel, ...]], groups: Sequence[str]) -> np.ndarray:
    """Predicted over published, each group with constants that were fitted to the others."""
    ratios = np.zeros(len(groups))
    for group in dict.fromkeys(groups):
        inside = [index for index, name in enumerate(groups) if name == group]
        others = [index for index, name in enumerate(groups) if name != group]
        constants = fitted([PUBLISHED[i] for i in others], [kernels[i] for i in others])
        figures = [PUBLISHED[i] for i in inside]
        ratios[inside] = predicted_ms(figures, [kernels[i] for i in inside], constants) / [
            figure.ms for figure in figures
        ]
    return ratios


def errors(ratios: np.ndarray) -> dict[str, float]:
    """Median and largest factor between predicted and published, and the share within what is allowed."""
    factors = np.exp(np.abs(np.log(ratios)))
    return {
        "median_factor": round(float(np.median(factors)), 3),
        "largest_factor": round(float(factors.max()), 3),
        "share_within_allowed": round(float((factors <= ALLOWED).mean()), 3),
    }


def page(ratios: np.ndarray, by_device: np.ndarray, by_source: np.ndarray, constants: Constants) -> str:
    lines = ["# Estimates beside published figures", "", "Made by `python benchmarks/estimate.py`.", ""]
    lines += ["| constants | median factor | within a factor of 1.5 | worst |", "|---|---|---|---|"]
    for name, found in (
        ("fitted to all", ratios),
        ("fitted without the device", by_device),
        ("fitted without the source", by_source),
    ):
        e = errors(found)
        lines.append(
            f"| {name} | {e['median_factor']:.2f} | {e['share_within_allowed']:.0%} of {len(found)} | {e['largest_factor']:.2f} |"
        )
    lines += ["", f"Constants: {', '.join(f'{name} {value:g}' for name, value in asdict(constants).items())}.", ""]
    lines += [
        "| source | network | size | board | precision | published, ms | estimated, ms | factor | without the device | without the source |"
    ]
    lines += ["|---|---|---|---|---|---|---|---|---|---|"]
    for f, ratio, device, source in zip(PUBLISHED, ratios, by_device, by_source):
        lines.append(
            f"| {f.source} | {f.network} | {f.size_hw[0]}×{f.size_hw[1]} | {BOARDS[f.board].title} | {f.precision} | {f.ms:.2f} "
            f"| {f.ms * ratio:.2f} | {ratio:.2f} | {device:.2f} | {source:.2f} |"
        )
    return "\n".join(lines) + "\n"


TODAYS = ("orin-nano", "orin-nano-super", "orin-nx", "agx-orin", "thor")


def boards_page() -> str:
    """Every bundled model, size and precision on every board of today, with both kinds of ends."""
    lines = ["# Bundled models on boards, estimated", "", "Made by `python benchmarks/estimate.py --boards`.", ""]
    lines += [
        "ms: with our head and tail kernels, the default; beside it with the plan's own (`--head graph --tail graph`). "
        "FPS: of the former, with its error bar. Front: no other of the board is faster and more accurate.",
        "",
        "| board | model, size, precision | ms | ms, plan's own ends | FPS | mIoU | front |",
        "|---|---|---|---|---|---|---|",
    ]
    for board in TODAYS:
        every = estimated_candidates(board)
        best = front(every)
        for one in sorted(every, key=lambda each: each.latency_ms):
            assert one.miou is not None
            assert one.graph_ends_ms is not None
            lines.append(
                f"| {BOARDS[board].title} | {one.model} {one.size_hw[0]}×{one.size_hw[1]} {one.precision.upper()} "
                f"| {one.latency_ms:.2f} | {one.graph_ends_ms:.2f} | {one.fps:.0f} ({one.fps_low:.0f}–{one.fps_high:.0f}) "
                f"| {one.miou:.4f} | {'yes' if one in best else ''} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

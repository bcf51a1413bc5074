"""Other projects' small segmentation networks beside ours, from uint8 frame to uint8 mask, in one interleaved run.

    python benchmarks/peers.py [--rounds 15] [--quick]

segmentation-models-pytorch's PSPNet on four encoders and torchvision's LRASPP, each in PyTorch eager, ONNX Runtime and
OpenVINO (FP32, and the 16-bit format that OpenVINO takes by itself where the processor has it). All get the same frames
and the same surroundings: colour order, normalisation, upsampling, argmax and the cast to uint8 are in the graph, and the
sessions are those that our engines run in. Weights of the peers are random, which does not change their speed; nothing
here says how good a mask is. A quick look runs few rounds and writes nothing.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxslim
import openvino
import segmentation_models_pytorch as smp
import torch
import torchvision
from speed import processor
from torch import Tensor, nn
from zoo import ROOT

from pspnet_edge import bundled
from pspnet_edge.artifact import write_bytes, write_json
from pspnet_edge.data.datasets import SceneSet
from pspnet_edge.data.geometry import frame_at
from pspnet_edge.engine.backends import open_engine
from pspnet_edge.engine.build import build_engine, prepare_model
from pspnet_edge.engine.onnxruntime import OnnxRuntimeSession
from pspnet_edge.engine.openvino.session import OpenVinoSession
from pspnet_edge.estimate.kernels import fused_kernels, read_graph

SIZE_HW = (384, 480)
CLASSES = 11
OURS = f"pspnet-edge {bundled.DEFAULT}"
BAR_PEER = "smp PSPNet resnet18"
BAR_TIMES = 5.0
EAGER, ONNX_RUNTIME, OPENVINO = "PyTorch eager", "ONNX Runtime", "OpenVINO"
Infer = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Contender:
    """A network in a runtime."""

    network: str
    runtime: str
    precision: str
    infer: Infer


@dataclass(frozen=True)
class Row:
    """What a contender took, and how many times as long as our fastest INT8 engine in the same rounds."""

    network: str
    runtime: str
    precision: str
    gmac: float
    parameters_m: float
    ms: float
    quartiles_ms: tuple[float, float]
    times_ours_int8: float


class FrameToMask(nn.Module):
    """What a camera loop needs around a network that maps normalised RGB to logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", 255 * torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("deviation", 255 * torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, frames: Tensor) -> Tensor:
        x = frames.permute(0, 3, 1, 2).float()[:, [2, 1, 0]]
        logits = self.network((x - self.mean) / self.deviation)
        logits = logits["out"] if isinstance(logits, dict) else logits
        return logits.argmax(1).to(torch.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--frames", type=int, default=5, help="frames a round, beside one that warms up")
    parser.add_argument("--quick", action="store_true", help="two rounds of two frames, and nothing is written")
    options = parser.parse_args()
    rounds, number = (2, 2) if options.quick else (options.rounds, options.frames)
    frames = [frame_at(SceneSet("test")[index][0], SIZE_HW)[None] for index in range(number)]
    with tempfile.TemporaryDirectory() as folder:
        contenders, sizes = ours(Path(folder))
        for name, network in peers().items():
            found, sizes[name] = peer(name, network, frames[0], Path(folder))
            contenders += found
        seconds = interleaved(contenders, frames, rounds)
    rows = summarised(contenders, sizes, seconds)
    verdict = judged(rows)
    print(table(rows), *verdict["words"], sep="\n")
    if options.quick:
        return
    versions = {m.__name__: m.__version__ for m in (torch, torchvision, smp, onnxruntime, openvino)}
    facts = {"processor": processor(), "threads": torch.get_num_threads(), "versions": versions, "size_hw": SIZE_HW}
    facts |= {"rounds": rounds, "frames_a_round": number, "verdict": verdict}
    write_json(ROOT / "benchmarks/results/peers.json", facts | {"rows": [asdict(row) for row in rows]})
    page = [
        "# Beside other projects' networks",
        "",
        "Made by `python benchmarks/peers.py`: from uint8 frame to uint8 mask at ",
    ]
    page[-1] += (
        f"{SIZE_HW[0]}×{SIZE_HW[1]}, {processor()}, {torch.get_num_threads()} threads, {rounds} rounds of {number} frames, "
    )
    page[-1] += "medians and quartiles over the rounds; the peers have random weights."
    page += [
        "",
        table(rows),
        "",
        *verdict["words"],
        "",
        ", ".join(f"{name} {version}" for name, version in versions.items()),
    ]
    write_bytes(ROOT / "benchmarks/results/peers.md", ("\n".join(page) + "\n").encode())


def peers() -> dict[str, nn.Module]:
    encoders = ("resnet18", "mobilenet_v2", "efficientnet-b0", "resnet50")
    torch.manual_seed(0)
    found: dict[str, nn.Module] = {
        f"smp PSPNet {encoder}": smp.PSPNet(encoder, encoder_weights=None, classes=CLASSES) for encoder in encoders
    }
    found["torchvision LRASPP MobileNetV3"] = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=CLASSES
    )
    return found


def ours(folder: Path) -> tuple[list[Contender], dict[str, tuple[float, float]]]:
    """Our bundled model in every precision and runtime of the processor, and its size."""
    found = []
    for runtime, title in (("openvino", OPENVINO), ("onnxruntime", ONNX_RUNTIME)):
        for precision in ("fp32", "fp16", "int8"):
            path = folder / f"{runtime}-{precision}.engine"
            build_engine(prepare_model(None), precision, runtime, path)
            found.append(Contender(OURS, title, precision, open_engine(path).infer))
    return found, {OURS: size_of(bundled.onnx_path(bundled.DEFAULT))}


def peer(name: str, network: nn.Module, frame: np.ndarray, folder: Path) -> tuple[list[Contender], tuple[float, float]]:
    """A peer in every runtime, and its size; its exported graph must give the masks of PyTorch."""
    module = FrameToMask(network).eval()
    static = with_fixed_pools(module, frame)
    path = folder / f"{name}.onnx"
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the tracer warns of every shape that becomes a number
        # Traced first, because smp computes something else while it is exported.
        traced = torch.jit.trace(static, (torch.from_numpy(frame),), check_trace=False)
        torch.onnx.export(traced, (torch.from_numpy(frame),), path, opset_version=17, dynamo=False)
    path.write_bytes(onnxslim.slim(onnx.load(path)).SerializeToString())

    def eager(frames: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(frames)).numpy()

    found = [
        Contender(name, EAGER, "fp32", eager),
        Contender(name, ONNX_RUNTIME, "fp32", OnnxRuntimeSession(path.read_bytes(), name).infer),
        Contender(name, OPENVINO, "fp32", OpenVinoSession(path.read_bytes(), "fp32", name).infer),
        Contender(name, OPENVINO, "fp16", OpenVinoSession(path.read_bytes(), "fp16", name).infer),
    ]
    same = float((found[1].infer(frame) == eager(frame)).mean())
    if same < 0.99:
        raise SystemExit(f"the exported {name} gives another mask than PyTorch ({same:.1%} of the pixels agree)")
    return found, size_of(path)


def with_fixed_pools(module: nn.Module, frame: np.ndarray) -> nn.Module:
    """A copy whose adaptive pools have a window, as far as they divide their input: the exporter needs to know it."""
    copied = copy.deepcopy(module)
    sizes: dict[nn.Module, tuple[int, int]] = {}
    for pool in [part for part in copied.modules() if isinstance(part, nn.AdaptiveAvgPool2d)]:
        pool.register_forward_hook(lambda pool, inputs, output: sizes.update({pool: tuple(inputs[0].shape[2:])}))
    with torch.inference_mode():
        copied(torch.from_numpy(frame))
    for parent in list(copied.modules()):
        for name, pool in list(parent.named_children()):
            if pool not in sizes:
                continue
            bins = np.broadcast_to(np.array(pool.output_size), 2)
            if (bins > 1).all() and not (np.array(sizes[pool]) % bins).any():
                height, width = np.array(sizes[pool]) // bins
                setattr(parent, name, nn.AvgPool2d((int(height), int(width))))
    return copied


def size_of(path: Path) -> tuple[float, float]:
    """GMAC and millions of parameters of an exported graph, whose BatchNorms are folded."""
    kernels = fused_kernels(read_graph(path), int8=False)
    return sum(kernel.macs for kernel in kernels) / 1e9, sum(kernel.weights for kernel in kernels) / 1e6


def interleaved(contenders: list[Contender], frames: list[np.ndarray], rounds: int) -> np.ndarray:
    """``float [contenders, rounds]``: seconds a frame. The first frame of a turn and the first round are not counted."""
    seconds = np.zeros((len(contenders), rounds + 1))
    for turn in range(rounds + 1):
        for place, contender in enumerate(contenders):
            contender.infer(frames[0])  # threads of the one before come to rest, and this one's caches fill
            start = time.perf_counter()
            for frame in frames:
                contender.infer(frame)
            seconds[place, turn] = (time.perf_counter() - start) / len(frames)
    return seconds[:, 1:]


def summarised(contenders: list[Contender], sizes: dict[str, tuple[float, float]], seconds: np.ndarray) -> list[Row]:
    int8 = [place for place, c in enumerate(contenders) if (c.network, c.precision) == (OURS, "int8")]
    base = seconds[min(int8, key=lambda place: float(np.median(seconds[place])))]
    rows = []
    for contender, times in zip(contenders, seconds):
        low, middle, high = (round(float(1000 * np.percentile(times, share)), 2) for share in (25, 50, 75))
        gmac, parameters = sizes[contender.network]
        ratio = round(float(np.median(times / base)), 2)
        named = (contender.network, contender.runtime, contender.precision)
        rows.append(Row(*named, round(gmac, 2), round(parameters, 2), middle, (low, high), ratio))
    return rows


def judged(rows: list[Row]) -> dict[str, object]:
    """Whether our INT8 engine is as fast as it should be, in words too."""
    eager = next(row for row in rows if (row.network, row.runtime) == (BAR_PEER, EAGER)).times_ours_int8
    words = [f"{OURS} in INT8 is {eager:g} times as fast as {BAR_PEER} in PyTorch eager; {BAR_TIMES:g} are wanted."]
    gmac = next(row.gmac for row in rows if row.network == OURS)
    ahead = {}
    for name in dict.fromkeys(row.network for row in rows if row.network != OURS):
        best = min((row for row in rows if row.network == name), key=lambda row: row.ms)
        ahead[name] = best.times_ours_int8 > 1
        cost = (
            "costs as many GMAC or more" if best.gmac >= gmac else "costs fewer GMAC, so that ours need not be faster"
        )
        words.append(
            f"{name} at its best ({best.runtime}, {best.precision}) takes {best.times_ours_int8:g} times as long as ours; it {cost}."
        )
    dearer = {row.network for row in rows if row.network != OURS and row.gmac >= gmac}
    met = eager >= BAR_TIMES and all(ahead[name] for name in dearer)
    return {"times_as_fast_as_eager": eager, "ahead": ahead, "met": met, "words": words}


def table(rows: list[Row]) -> str:
    lines = [
        "| network | GMAC | parameters (M) | runtime | precision | ms a frame | quartiles | times ours in INT8 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.network} | {r.gmac} | {r.parameters_m} | {r.runtime} | {r.precision} | {r.ms} | {r.quartiles_ms[0]}–{r.quartiles_ms[1]} | {r.times_ours_int8} |"
        for r in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""The rebuilt networks are the published ones, as far as their size tells."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("published_networks")


@pytest.mark.parametrize(
    ("build", "arguments", "size_hw", "gmac", "parameters_m", "output"),
    [
        # DDRNet's paper, table 4; ultralytics' and Hailo's model tables; the size of NVIDIA's ONNX in FP32.
        ("DdrNet", (32, 64, 64), (1024, 2048), 36.3, 5.7, (19, 1024, 2048)),
        ("DdrNet", (64, 128, 128), (1024, 2048), 143.1, 20.1, (19, 1024, 2048)),
        ("yolov8", ("n",), (640, 640), 8.7 / 2, 3.2, (84, 8400)),
        ("yolov8", ("s",), (640, 640), 28.6 / 2, 11.2, (84, 8400)),
        ("yolov8", ("m",), (640, 640), 78.9 / 2, 25.9, (84, 8400)),
        ("yolox_s_leaky", (), (640, 640), 26.74 / 2, 8.97, (85, 8400)),
        ("ShuffleSeg", (), (544, 960), None, 3.71 / 4, (544, 960)),
        ("FcnResNet18", (21,), (1024, 2048), None, None, (21, 32, 64)),
    ],
)
def test_size(
    networks: ModuleType,
    build: str,
    arguments: tuple[object, ...],
    size_hw: tuple[int, int],
    gmac: float | None,
    parameters_m: float | None,
    output: tuple[int, ...],
) -> None:
    network = getattr(networks, build)(*arguments).eval().to("meta")  # shapes alone, no arithmetic
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        made = network(torch.zeros(1, 3, *size_hw, device="meta"))
    assert tuple(made.shape) == (1, *output)
    if gmac is not None:
        assert counter.get_total_flops() / 2e9 == pytest.approx(gmac, rel=0.01)
    if parameters_m is not None:
        assert sum(weights.numel() for weights in network.parameters()) / 1e6 == pytest.approx(parameters_m, rel=0.025)

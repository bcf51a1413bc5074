"""TensorRT and TensorRT-RTX: plans of the bundled model, built, checked layer by layer, and run."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from .. import bundled
from ..artifact import scratch_folder
from ..engine.backends import open_engine
from ..engine.build import build_engine
from ..engine.facts import EngineFacts
from ..engine.tensorrt.builder import BuildOptions
from ..engine.tensorrt.gpu import find_gpu
from ..engine.tensorrt.plan_file import read_header
from ..lazy import available
from .gpu import needed_gpu
from .kernel_checks import bundled_frames
from .outcome import Answer, Failed, Skipped, require

_AGREEMENT = {"fp32": 0.995, "fp16": 0.99, "int8": 0.97}
"""Of the pixels with ONNX Runtime's FP32 masks; FP32 is TF32 on the GPU."""


def check_tensorrt() -> Answer:
    """FP32, FP16 and INT8 plans with head and tail in the graph and in the kernels."""
    needed_gpu()
    if not available("tensorrt"):
        raise Skipped("TensorRT is not installed")
    return _check_runtime("tensorrt", run=True)


def check_tensorrt_rtx() -> Answer:
    """FP16 and INT8 plans by TensorRT-RTX, which builds without a GPU and runs on a PC's."""
    if not available("tensorrt_rtx"):
        raise Skipped("TensorRT-RTX is not installed")
    return _check_runtime("tensorrt-rtx", run=find_gpu() is not None)


def check_layers(precision: str, facts: EngineFacts) -> None:
    """Fail where a plan computes convolutions in another precision than was asked for.

    Args:
        precision: what the plan was built for.
        facts: its sidecar.
    """
    kinds = Counter(facts["precision_by_convolution"].values())
    if not kinds:
        raise Failed("the builder's dump names no convolution, so nothing is known about precision")
    if precision == "int8":
        placed, built = facts["int8_convolutions"]["placed"], facts["int8_convolutions"]["built"]
        require(placed == built > 0, f"{placed} convolutions should be INT8 and {built} are")
    if precision != "fp32":
        require(kinds["fp32"] == 0, f"{kinds['fp32']} convolutions fall back to FP32")


def _check_runtime(runtime: str, run: bool) -> Answer:
    figures: dict[str, object] = {}
    cases = list(bundled_frames(1)) if run and available("onnxruntime") else []
    with scratch_folder() as folder:
        for precision in ("fp32", "fp16", "int8") if run else ("fp16", "int8"):
            for ends in ("graph", "kernel") if run else ("graph",):
                path, name = folder / "e.engine", f"{precision}_{ends}"
                options = BuildOptions(head=ends, tail=ends)
                facts = build_engine(bundled.DEFAULT, precision, runtime, path, options=options)
                check_layers(precision, facts)
                header = read_header(path)
                require(header is not None and header.runtime == runtime, "the plan has no header that is known")
                figures[f"{name}_build_s"] = facts["build_s"]
                if run:
                    figures |= _run(path, precision, name, cases)
    done = "built and run" if run else "built, not run for want of a GPU"
    return Answer(f"plans of {runtime} are {done}, every convolution in its precision", figures)


def _run(path: Path, precision: str, name: str, cases: list[Any]) -> dict[str, object]:
    figures: dict[str, object] = {}
    with open_engine(path) as engine:
        for _, frames, masks in cases:
            agreement = float((engine.infer(frames) == masks).mean())
            figures[f"{name}_agreement"] = round(agreement, 5)
            require(
                agreement >= _AGREEMENT[precision],
                f"{name}: {agreement:.2%} of the pixels agree with ONNX Runtime only",
            )
        frames = np.zeros((*engine.info.shape_nhw, 3), np.uint8)
        taken = []
        for _ in range(120):
            start = time.perf_counter()
            engine.infer(frames)
            taken.append(1_000 * (time.perf_counter() - start))
    p50, p95 = np.percentile(taken[20:], [50, 95])
    return figures | {f"{name}_p50_ms": round(float(p50), 3), f"{name}_p95_ms": round(float(p95), 3)}

"""A whole network on the GPU where TensorRT is missing: PyTorch computes it on the runner's stream."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import bundled
from ..engine.tensorrt.runner import Runner
from ..engine.tensorrt.tail import KernelTail
from ..lazy import available
from ..lazy import require as import_package
from .gpu import needed_gpu, tail_facts_of
from .kernel_checks import bundled_frames
from .outcome import Answer, Skipped, require
from .runner_checks import CountingMemory

_AGREEMENT = 0.999


def check_network() -> Answer:
    """The bundled network in FP16 by PyTorch, then the tail in our kernel, against ONNX Runtime on the processor."""
    needed_gpu()
    if not (available("torch") and available("onnxruntime")):
        raise Skipped("it takes torch and onnxruntime")
    torch: Any = import_package("torch", "compute the network")
    if not torch.cuda.is_available():
        raise Skipped(f"this PyTorch ({torch.__version__}) cannot use the GPU")
    from ..model.checkpoint import load_checkpoint

    network = load_checkpoint(bundled.checkpoint_path(bundled.DEFAULT)).model.eval().half().cuda()
    agreements, replays = [], 0
    for tail, frames, masks in bundled_frames():
        memory = CountingMemory()
        logits = np.empty((1, tail.classes, *tail.logits_hw), np.float16)
        with memory.current():
            executor = TorchNetwork(torch, network, memory, frames.shape, logits.shape)
            behind = KernelTail(executor, memory, tail_facts_of(logits, tail.align_corners), masks.shape)
        runner = Runner(behind, memory, masks.shape)
        found = [runner.infer(frames).copy() for _ in range(8)]
        runner.close()
        replays += memory.replays
        agreements += [float((each == masks).mean()) for each in found]
    worst = min(agreements)
    require(worst >= _AGREEMENT, f"only {worst:.3%} of the pixels agree with ONNX Runtime")
    return Answer(
        f"{worst:.3%} of the pixels agree with ONNX Runtime, {replays} of {len(agreements)} frames were replayed",
        {"agreement": round(worst, 6), "replays": replays},
    )


class TorchNetwork:
    """An executor of ``uint8 [N, H, W, 3]`` BGR to FP16 logits, by a PyTorch network on the runner's stream."""

    def __init__(
        self, torch: Any, network: Any, memory: CountingMemory, frames: tuple[int, ...], logits: tuple[int, ...]
    ) -> None:
        self._torch, self._network = torch, network
        self._frames, self._logits = frames, logits
        self._stream = torch.cuda.ExternalStream(memory.stream)
        half = {"dtype": torch.float16, "device": "cuda"}
        self._mean = torch.tensor(network.mean, **half).reshape(1, 3, 1, 1)
        self._std = torch.tensor(network.std, **half).reshape(1, 3, 1, 1)

    def enqueue(self, frames: int, masks: int, stream: int) -> None:
        """See ``runner.Executor``."""
        torch = self._torch
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            pixels = torch.as_tensor(_At(frames, self._frames, "|u1"), device="cuda")
            rgb = pixels.permute(0, 3, 1, 2).flip(1).half()
            found = self._network((rgb - self._mean) / self._std)
            torch.as_tensor(_At(masks, self._logits, "<f2"), device="cuda").copy_(found)

    def close(self) -> None:
        """See ``runner.Executor``."""
        self._stream.synchronize()


class _At:
    """Memory of the device, described as PyTorch reads it."""

    def __init__(self, address: int, shape: tuple[int, ...], kind: str) -> None:
        self.__cuda_array_interface__ = {"data": (address, False), "shape": shape, "typestr": kind, "version": 3}

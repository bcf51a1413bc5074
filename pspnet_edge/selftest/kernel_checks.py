"""The kernels, on the processor and on the GPU, against their definitions and against the ONNX graph."""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import bundled
from ..child import child_command
from ..data.geometry import frame_at
from ..data.scenes import Drive
from ..engine.tensorrt.host_kernels import HostKernels
from ..engine.tensorrt.kernels import compiled_kernels, find_nvcc, kernels_for, shipped_cubin, shipped_ptx
from ..engine.tensorrt.memory import CudaMemory, Shape3
from ..engine.tensorrt.proof import Masks, mask_complaint, masks_on_gpu
from ..engine.tensorrt.tail import tail_launch
from ..errors import BuildError
from ..graph.onnx_file import read_model
from ..graph.tail import Tail, without_tail
from ..lazy import available
from ..lazy import require as import_package
from .gpu import CASES, device, milliseconds, needed_gpu, tail_facts_of
from .head_cases import compare_heads, input_on_device, input_on_processor, time_heads
from .outcome import Answer, Skipped, require


def check_kernels_on_processor(headers: Path | None = None) -> Answer:
    """The kernels' header, compiled by g++; ``headers`` is the folder of another header."""
    try:
        kernels = HostKernels(headers) if headers else HostKernels()
    except BuildError as error:
        if shutil.which("g++") is None:
            raise Skipped(str(error)) from error
        raise
    inputs, masks = compare_heads(input_on_processor(kernels)), _compare(kernels.masks)
    return _answer(masks, inputs)


def check_kernels_on_gpu() -> Answer:
    """Every form of the kernels that this GPU takes: shipped machine code, PTX, and what nvcc makes here."""
    capability = needed_gpu().compute_capability
    forms: dict[str, bytes] = {}
    if (cubin := shipped_cubin(capability)) is not None:
        forms["shipped machine code"] = cubin
    if tuple(map(int, capability.split("."))) >= (7, 5):
        forms["shipped PTX"] = shipped_ptx()
    if find_nvcc() is not None:
        forms["machine code by nvcc"] = compiled_kernels(capability)
    require(bool(forms), f"no kernels ship for compute capability {capability}, and nvcc is missing")
    with device():  # keeps the context, which would be made again for every mask
        inputs = sum(compare_heads(input_on_device, image) for image in forms.values())
        masks = sum(_compare(partial(masks_on_device, image)) for image in forms.values())
    return _answer(masks, inputs, f" ({', '.join(forms)})")


def _answer(masks: int, inputs: int, forms: str = "") -> Answer:
    seen = (
        f"{masks} masks are those of the ONNX graph and {inputs} inputs those of the resized frame, bit by bit{forms}"
    )
    return Answer(seen, {"masks": masks, "inputs": inputs})


def check_memory_of_kernels() -> Answer:
    """The kernels under NVIDIA's compute-sanitizer, which sees what is read or written out of bounds."""
    needed_gpu()
    tool = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if tool is None:
        raise Skipped("compute-sanitizer of the CUDA toolkit is not here")
    for kind in ("memcheck", "racecheck", "initcheck"):
        command = [tool, "--tool", kind, "--error-exitcode", "9", *child_command(__name__)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
        last = (done.stdout + done.stderr).strip().splitlines()[-1:] or [""]
        require(done.returncode == 0, f"{kind} exits {done.returncode}: {last[0]}")
    return Answer("memcheck, racecheck and initcheck find nothing")


def check_speed_of_kernels() -> Answer:
    """The kernels' times on this GPU.

    The tail's with logits in FP32 and FP16, blocks of three shapes, and logits in mapped memory; the head's of pictures
    that are interpolated (640×480), averaged over whole pixels (960×768) and over parts (1920×1080).
    """
    capability = needed_gpu().compute_capability
    figures: dict[str, float] = {}
    for classes, in_hw, out_hw in ((11, (96, 120), (384, 480)), (19, (256, 512), (1024, 2048))):
        size = f"{out_hw[0]}x{out_hw[1]}x{classes}"
        for dtype in (np.float32, np.float16):
            logits = np.zeros((1, classes, *in_hw), dtype)
            with device(CudaMemory(mapped=True)) as memory:
                mapped, own = memory.allocate(logits.nbytes), memory.allocate_device(logits.nbytes)
                masks = memory.allocate_device(out_hw[0] * out_hw[1])
                for block in ((32, 8, 1), (16, 16, 1), (64, 4, 1)):
                    enqueue = _launch(memory, logits, (1, *out_hw), (own, masks), block)
                    name = f"{size}_{np.dtype(dtype).name}_{block[0]}x{block[1]}_ms"
                    figures[name] = round(milliseconds(memory, enqueue), 4)
                enqueue = _launch(memory, logits, (1, *out_hw), (mapped.address, masks), (32, 8, 1))
                figures[f"{size}_{np.dtype(dtype).name}_mapped_ms"] = round(milliseconds(memory, enqueue), 4)
                memory.free_device(masks)
                memory.free_device(own)
                memory.free(mapped)
    with device(CudaMemory(mapped=True)) as memory:
        pictures = ((480, 640), (768, 960), (1080, 1920))
        figures |= time_heads(memory, pictures, (384, 480), kernels_for(capability))
    usual = {
        name.removesuffix("_ms").replace("_32x8", ""): value
        for name, value in figures.items()
        if "_32x8_" in name or (name.startswith("head_") and "_mapped" not in name)
    }
    return Answer(", ".join(f"{name} {value} ms" for name, value in usual.items()), figures)


def _launch(
    memory: CudaMemory,
    logits: NDArray[np.floating],
    shape_nhw: tuple[int, int, int],
    addresses: tuple[int, int],
    block: Shape3,
) -> Callable[[], None]:
    facts = tail_facts_of(logits, False)
    name, _, _, numbers = tail_launch(facts, shape_nhw)
    kernel = memory.load_kernel(base64.b64decode(facts["kernels"]), name)
    grid = (-(-shape_nhw[2] // (4 * block[0])), -(-shape_nhw[1] // block[1]), shape_nhw[0])
    return lambda: kernel(grid, block, addresses, numbers)


def bundled_frames(count: int = 2) -> Iterator[tuple[Tail, NDArray[np.uint8], NDArray[np.uint8]]]:
    """The bundled model's tail, drawn frames ``uint8 [1, H, W, 3]`` and the masks that ONNX Runtime gives them."""
    for tail, frame, _, masks in _by_onnxruntime(count):
        yield tail, frame, masks


def bundled_logits(count: int = 2) -> Iterator[tuple[Tail, NDArray[np.float32], NDArray[np.uint8]]]:
    """The bundled model's tail, its logits for drawn frames, and the masks of the whole graph, by ONNX Runtime."""
    for tail, _, logits, masks in _by_onnxruntime(count):
        yield tail, logits, masks


def _by_onnxruntime(
    count: int,
) -> Iterator[tuple[Tail, NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]]:
    runtime = import_package("onnxruntime", "compare with the ONNX graph")
    whole = read_model(bundled.onnx_path(bundled.DEFAULT))
    cut, tail = without_tail(whole)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    sessions = [
        runtime.InferenceSession(model.proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for model in (cut, whole)
    ]
    drive = Drive()
    for index in range(count):
        frame = frame_at(drive.frame(40 * index).image, whole.shape_nhw[1:])[None]
        logits, masks = (session.run(None, {"frames": frame})[0] for session in sessions)
        yield tail, frame, logits, masks


def masks_on_device(
    kernels: bytes, logits: NDArray[np.floating], size_hw: tuple[int, int], align_corners: bool
) -> NDArray[np.uint8]:
    """As ``HostKernels.masks``, by the product's tail on the GPU."""
    with device() as memory:
        return masks_on_gpu(memory, tail_facts_of(logits, align_corners, kernels), logits, size_hw)


def _compare(masks: Masks) -> int:
    """How many masks agree in every pixel; fails at the first that does not."""
    compared = 0
    for classes, in_hw, out_hw in CASES:
        normal = np.random.default_rng(classes).normal(size=(2, classes, *in_hw))
        for align_corners in (False, True):
            for dtype in (np.float32, np.float16):
                # Few distinct values give ties, which the first class must win.
                for logits in (normal.astype(dtype), np.round(normal).astype(dtype)):
                    complaint = mask_complaint(masks, logits, out_hw, align_corners)
                    require(not complaint, complaint)
                    compared += len(logits)
    if available("onnxruntime"):
        for tail, stored, expected in bundled_logits():
            found = masks(stored, expected.shape[1:], tail.align_corners)
            wrong = int((found != expected).sum())
            require(wrong == 0, f"{wrong} of {expected.size} pixels differ from the bundled model's graph")
            compared += 1
    return compared


if __name__ == "__main__":
    # What compute-sanitizer watches.
    with device():
        for number, (of, small, large) in enumerate(CASES[1:]):
            drawn = np.random.default_rng(number).normal(size=(2, of, *small)).astype(np.float16)
            masks_on_device(kernels_for(needed_gpu().compute_capability), drawn, large, False)
        compare_heads(input_on_device, kernels_for(needed_gpu().compute_capability))

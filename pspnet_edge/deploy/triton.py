"""A model repository for the Triton Inference Server, which many streams on one server share.

REPOSITORY/NAME/config.pbtxt
REPOSITORY/NAME/1/model.py model.engine model.engine.json    backend python: any runtime of this package
REPOSITORY/NAME/1/model.plan                                 backend tensorrt: a plan for this machine's GPU
REPOSITORY/NAME/1/model.onnx                                 backend onnxruntime: FP32
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..artifact import ensure_writable, make_folder, scratch_folder, write_bytes
from ..engine.backends import backend_of, choose_runtime, open_engine
from ..engine.build import build_engine, choose_precision
from ..engine.model import Model
from ..engine.tensorrt.builder import BuildOptions
from ..errors import OptionError, OutputError
from ..graph.onnx_file import ModelFile, read_model
from ..pack_file import NAME_PATTERN, plain_name
from ..records import JsonRecord

BACKENDS = ("auto", "python", "tensorrt", "onnxruntime")
_FILES = {"python": "model.engine", "tensorrt": "model.plan", "onnxruntime": "model.onnx"}
_MOST_INSTANCES = 64
_MOST_BATCH = 256
_QUEUE_DELAY_US = 2000

_PROGRAM = '''"""Runs an engine of pspnet-edge inside Triton; made by `pspnet-edge pack --for triton`."""

from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from pspnet_edge import open_engine


def array_of(tensor):
    # Triton 24.10 and earlier misreads arrays of NumPy 2, which DLPack does not, at the price of a line in the log.
    return tensor.as_numpy() if np.__version__.startswith("1.") else np.from_dlpack(tensor)


class TritonPythonModel:
    def initialize(self, args):
        folder = Path(args["model_repository"]) / args["model_version"]
        self.engine = open_engine(folder / "model.engine")
        self.batch = np.zeros((*self.engine.info.shape_nhw, self.engine.info.channels), np.uint8)

    def execute(self, requests):
        frames = [array_of(pb_utils.get_input_tensor_by_name(request, "frames")) for request in requests]
        masks = self.segment(np.concatenate(frames))
        ends = np.cumsum([len(each) for each in frames])[:-1]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("masks", part)])
            for part in np.split(masks, ends)
        ]

    def segment(self, frames):
        """The masks of any number of frames, by batches of the engine's size."""
        masks = np.empty(frames.shape[:3], np.uint8)
        for start in range(0, len(frames), len(self.batch)):
            taken = frames[start : start + len(self.batch)]
            self.batch[: len(taken)] = taken
            masks[start : start + len(taken)] = self.engine.infer(self.batch)[: len(taken)]
        return masks

    def finalize(self):
        self.engine.close()
'''


@dataclass(frozen=True)
class TritonModel(JsonRecord):
    """A model in a repository."""

    repository: Path
    name: str
    backend: str
    precision: str
    runtime: str
    max_batch: int
    """0 where every request is exactly one batch of the model."""
    instances: int


def write_repository(
    model: Model,
    folder: Path,
    *,
    name: str | None = None,
    backend: str = "auto",
    precision: str = "auto",
    runtime: str = "auto",
    calibration: Path | None = None,
    instances: int = 1,
    max_batch: int = 8,
) -> TritonModel:
    """Write a model into a repository folder, which may hold others.

    Args:
        model: what is served.
        folder: the repository.
        name: of the model there; None takes the model's.
        backend: Triton's: ``python`` runs an engine of this package, ``tensorrt`` a plan, ``onnxruntime`` the ONNX
            file. ``auto`` is ``tensorrt`` on a GPU, else ``python``.
        precision: of the engine or plan.
        runtime: of the engine that ``python`` runs.
        calibration: the table for INT8; None takes the model's own.
        instances: how many run at once.
        max_batch: how many frames ``python`` gathers from waiting requests.

    Raises:
        OptionError: values that do not fit together.
        OutputError: the folder cannot be written, or holds a model of that name.
        BuildError, ModelError, CalibrationError: the engine cannot be built.
    """
    name = name or plain_name(model.name)
    if not re.fullmatch(NAME_PATTERN, name):
        raise OptionError(
            f"{name[:80]!r} is not a name for a model", "give letters, digits, '-', '_'", parameter="name"
        )
    if backend not in BACKENDS:
        raise OptionError(f"unknown backend {backend!r}", f"choose {', '.join(BACKENDS)}", parameter="triton_backend")
    if not 1 <= instances <= _MOST_INSTANCES or not 1 <= max_batch <= _MOST_BATCH:
        raise OptionError(
            f"{instances} instances with a batch of {max_batch} are out of range",
            f"give up to {_MOST_INSTANCES} instances and a batch of up to {_MOST_BATCH}",
        )
    place = folder / name
    if place.exists():
        raise OutputError(f"{place} is there already", "remove it, or give another --name")
    chosen = choose_runtime(runtime)
    if backend == "auto":
        backend = "tensorrt" if chosen == "tensorrt" else "python"
    if backend == "tensorrt" and chosen != "tensorrt":
        raise OptionError("a plan is built by TensorRT on a GPU, which is not here", "take --triton-backend python")
    source = read_model(model.path)
    if backend == "onnxruntime":
        if precision not in ("auto", "fp32"):
            raise OptionError(
                "Triton's onnxruntime gets the FP32 model", "take --triton-backend python", parameter="precision"
            )
        precision, content = "fp32", {"model.onnx": model.path.read_bytes()}
    else:
        precision = choose_precision(precision, model, chosen, calibration)
        content = _built(model, chosen, precision, calibration, backend)
    batch = max(max_batch, source.shape_nhw[0]) if backend == "python" else 0
    version = place / "1"
    make_folder(version)
    for file, part in content.items():
        ensure_writable(version / file)
        write_bytes(version / file, part)
    on_gpu = backend == "tensorrt" or (backend == "python" and backend_of(chosen).on_gpu)
    # Last: Triton loads a model once it has its configuration.
    write_bytes(place / "config.pbtxt", _configuration(source, name, backend, batch, instances, on_gpu).encode())
    return TritonModel(folder, name, backend, precision, chosen, batch, instances)


def _built(model: Model, runtime: str, precision: str, calibration: Path | None, backend: str) -> dict[str, bytes]:
    # The kernels are ours, and Triton runs the plan alone.
    options = BuildOptions(head="graph", tail="graph") if backend == "tensorrt" else None
    with scratch_folder() as folder:
        path = folder / "model.engine"
        build_engine(model, precision, runtime, path, calibration=calibration, options=options)
        if backend == "tensorrt":
            return {"model.plan": path.read_bytes()}
        with open_engine(path):
            pass
        sidecar = path.with_name("model.engine.json")
        return {
            "model.engine": path.read_bytes(),
            "model.engine.json": sidecar.read_bytes(),
            "model.py": _PROGRAM.encode(),
        }


def _configuration(source: ModelFile, name: str, backend: str, max_batch: int, instances: int, on_gpu: bool) -> str:
    """Triton's model configuration, as protobuf text."""
    batch, height, width = source.shape_nhw
    graph = source.proto.graph
    takes, gives = ("frames", "masks") if backend == "python" else (graph.input[0].name, graph.output[0].name)
    lead = [] if max_batch else [batch]
    frame, mask = [*lead, height, width, source.channels], [*lead, height, width]
    platform = 'platform: "tensorrt_plan"' if backend == "tensorrt" else f'backend: "{backend}"'
    text = f"""name: "{name}"
{platform}
default_model_filename: "{"model.py" if backend == "python" else _FILES[backend]}"
max_batch_size: {max_batch}
input [ {{ name: "{takes}", data_type: TYPE_UINT8, dims: {frame} }} ]
output [ {{ name: "{gives}", data_type: TYPE_UINT8, dims: {mask} }} ]
instance_group [ {{ count: {instances}, kind: {"KIND_GPU" if on_gpu else "KIND_CPU"} }} ]
model_warmup [ {{
  name: "black", batch_size: {1 if max_batch else 0}
  inputs {{ key: "{takes}", value: {{ data_type: TYPE_UINT8, dims: {frame}, zero_data: true }} }}
}} ]
"""
    if max_batch > 1:
        text += f"dynamic_batching {{ max_queue_delay_microseconds: {_QUEUE_DELAY_US} }}\n"
    return text

"""Opening a plan: TensorRT's side of the runner."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import EngineError
from ..facts import EngineFacts
from .gpu import find_gpu
from .head import KernelHead
from .log import Log, logger_for
from .memory import CudaMemory
from .plan_file import check_plan, rebuild_command
from .runner import Executor, FittingExecutor, Runner
from .tail import KernelTail
from .versions import INPUT_FORMATS, Api, load_api

if TYPE_CHECKING:
    from . import typed


def open_plan(path: Path, facts: EngineFacts) -> Runner:
    """Open a plan on the first GPU.

    Args:
        path: the plan; its bytes are those that the sidecar describes.
        facts: the sidecar.

    Raises:
        EngineError: it does not fit the TensorRT or the GPU here, or they fail.
        MissingPackage: TensorRT is not installed.
    """
    api = check_here(path, facts)
    if find_gpu() is None:
        raise EngineError(
            f"{path} runs on an NVIDIA GPU and there is none here: copy it and its sidecar to where one is, or build "
            "with --runtime openvino or onnxruntime"
        )
    batch, height, width = facts["shape_nhw"]
    shape_nhw = (batch, height, width)
    memory = CudaMemory()
    with contextlib.ExitStack() as undone:
        undone.callback(memory.release)
        with memory.current():
            network = TensorRtExecutor(api, path, facts)
            undone.callback(network.close)
            head, tail = facts.get("head"), facts.get("tail")
            after: Executor = KernelTail(network, memory, tail, shape_nhw) if tail else network
            undone.pop_all()
            undone.callback(memory.release)
            undone.callback(after.close)
            executor: Executor | FittingExecutor = after
            if head:
                executor = KernelHead(after, memory, head, shape_nhw, network.input_lanes)
        undone.pop_all()
    return Runner(executor, memory, shape_nhw, facts.get("channels", 3))


def check_here(path: Path, facts: EngineFacts) -> Api:
    """Compare a plan with the TensorRT and the GPU here, and give that TensorRT.

    Raises:
        EngineError: says what no longer fits and the command that rebuilds.
        MissingPackage: the runtime is not installed.
    """
    api = load_api(facts["runtime"], f"run {path.name}")
    check_plan(path, facts, api.version, find_gpu())
    return api


class TensorRtExecutor:
    """One engine and its execution context. Make it with a CUDA context current.

    Args:
        api: which TensorRT.
        path: the plan.
        facts: its sidecar.

    Raises:
        EngineError: TensorRT refuses the plan, or its input and output are not those of the sidecar.
    """

    def __init__(self, api: Api, path: Path, facts: EngineFacts) -> None:
        self._log = Log(lambda done, note: None)
        self._logger = logger_for(api, self._log)
        self._rebuild = rebuild_command(path, facts)
        self._runtime: typed.Runtime = api.trt.Runtime(self._logger)
        dla_core = facts["tensorrt"].get("dla_core")
        if dla_core is not None:
            # The core belongs to the runtime that loads a plan; the plan does not say which it was built for.
            self._runtime.DLA_core = dla_core
        if facts["tensorrt"].get("version_compatible"):
            # Such a plan contains code. The sidecar's fingerprint says that it is the one we built.
            self._runtime.engine_host_code_allowed = True
        engine: typed.ICudaEngine | None = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise EngineError(f"{api.name} cannot load {path} ({self._log.reason()})", "rebuild", self._rebuild)
        self._engine: typed.ICudaEngine = engine
        context: typed.IExecutionContext | None = engine.create_execution_context()
        if context is None:
            raise EngineError(
                f"{path} does not start ({self._log.reason()}): close other programs that use the GPU's memory"
            )
        self._context: typed.IExecutionContext = context
        self._input, self._masks = self._tensor_names(api, facts)
        self.input_lanes = self._lanes(api) if facts.get("head") else 1

    def enqueue(self, frames: int, masks: int, stream: int) -> None:
        """See ``runner.Executor``."""
        self._context.set_tensor_address(self._input, frames)
        self._context.set_tensor_address(self._masks, masks)
        if not self._context.execute_async_v3(stream):
            raise EngineError(f"TensorRT refuses to run ({self._log.reason()})", "rebuild", self._rebuild)

    def close(self) -> None:
        """See ``runner.Executor``."""
        # Each needs the one before it.
        del self._context
        del self._engine
        del self._runtime

    def _tensor_names(self, api: Api, facts: EngineFacts) -> tuple[str, str]:
        """The input's and the output's name, checked against the sidecar."""
        batch, height, width = facts["shape_nhw"]
        kinds = api.trt.DataType
        head, tail, channels = facts.get("head"), facts.get("tail"), facts.get("channels", 3)
        types = {"float32": kinds.FLOAT, "float16": kinds.HALF, "int8": kinds.INT8}
        frames: tuple[object, ...] = (kinds.UINT8, batch, height, width, channels)
        if head:
            frames = (types[head["dtype"]], batch, channels, height, width)
        masks: tuple[object, ...] = (kinds.UINT8, batch, height, width)
        if tail:
            masks = (types[tail.get("dtype", "float32")], batch, tail["classes"], *tail["logits_hw"])
        expected = {api.trt.TensorIOMode.INPUT: frames, api.trt.TensorIOMode.OUTPUT: masks}
        found = {}
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            mode = self._engine.get_tensor_mode(name)
            dimensions: Any = self._engine.get_tensor_shape(name)
            if expected.get(mode) != (self._engine.get_tensor_dtype(name), *dimensions):
                raise EngineError(f"the plan's tensor {name} is not what its sidecar says", "rebuild", self._rebuild)
            found[mode] = name
        if len(found) != 2:
            raise EngineError("the plan does not map frames to masks", "rebuild", self._rebuild)
        return found[api.trt.TensorIOMode.INPUT], found[api.trt.TensorIOMode.OUTPUT]

    def _lanes(self, api: Api) -> int:
        """Channels that lie beside each other in the plan's input."""
        chosen = self._engine.get_tensor_format(self._input)
        lanes = {getattr(api.trt.TensorFormat, name): count for name, count in INPUT_FORMATS.items()}.get(chosen)
        if lanes is None:
            raise EngineError(f"the plan takes its input as {chosen}, which no kernel writes", "rebuild", self._rebuild)
        return lanes

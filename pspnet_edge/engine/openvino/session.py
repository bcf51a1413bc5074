"""One engine loaded into OpenVINO."""

from __future__ import annotations

from collections import deque
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import EngineError
from ...lazy import require
from ..backend import REBUILD, Port, as_computed_here
from ..session import IN_FLIGHT


@cache
def _core() -> Any:
    """One for the whole process, which is never freed.

    OpenVINO's CPU plugin gives the thread that loads it a stack for signal handlers, and at its end restores the one
    before. Of two plugins that end in the order in which they were loaded, the second restores the stack of the first,
    which is unmapped by then, and the next signal (Ctrl-C, a child that ended) is a segmentation fault.
    """
    return require("openvino", "run an OpenVINO engine").Core()


class OpenVinoSession:
    """One ONNX graph compiled for the processor: ``infer`` gives each batch all cores, for the least latency.

    ``submit`` and ``take`` give each of two batches in flight half of them, for the most frames a second: no core waits
    for another at the end of a layer. The graph is compiled for that at the first ``submit``.

    What an FP16 or INT8 engine does not compute in INT8 runs in the 16-bit format of the processor, bfloat16 on x86,
    where it has one.

    Args:
        content: the ONNX graph.
        precision: of the engine.
        name: what errors call it.
    """

    output_is_reused = True

    def __init__(self, content: bytes, precision: str, name: str) -> None:
        options = {"PERFORMANCE_HINT": "LATENCY"}
        if precision == "fp32":
            # Left to itself OpenVINO computes in bfloat16 where the processor can; an FP32 engine must not.
            options["INFERENCE_PRECISION_HINT"] = "f32"
        try:
            core = _core()
            model = core.read_model(as_computed_here(content, precision))
            compiled = core.compile_model(model, "CPU", options)
        # Its binding cannot decode a message that quotes bytes of a damaged engine: UnicodeDecodeError.
        except (RuntimeError, OSError, ValueError) as error:
            reason = str(error).strip().split("\n")[-1]
            raise EngineError(f"OpenVINO cannot load {name} ({reason})", "rebuild it", REBUILD) from error
        self._request = compiled.create_infer_request()
        self._model, self._options = model, options
        self._idle: deque[Any] = deque()
        self._running: deque[Any] = deque()

    def ports(self) -> tuple[list[Port], list[Port]]:
        """Inputs and outputs."""

        def port(value: Any) -> Port:
            shape = value.get_partial_shape()
            sizes = tuple(size.get_length() if size.is_static else None for size in shape)
            return Port(value.get_any_name(), np.dtype(value.get_element_type().to_dtype()).name, sizes)

        return [port(value) for value in self._model.inputs], [port(value) for value in self._model.outputs]

    def infer(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """See ``session.Session``."""
        try:
            return np.asarray(self._request.infer({0: frames}, share_inputs=True, share_outputs=True)[0])
        except RuntimeError as error:
            reason = str(error).strip().split("\n")[-1]
            raise EngineError(f"OpenVINO failed ({reason})", "rebuild it", REBUILD) from error

    def infer_scores(self, frames: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """See ``session.ScoringSession``."""
        masks = self.infer(frames)
        return masks, np.asarray(self._request.get_output_tensor(1).data)

    def submit(self, frames: NDArray[np.uint8]) -> None:
        """See ``session.OverlappingSession``.

        Raises:
            EngineError: as many batches are in flight as fit.
        """
        if not self._idle and not self._running:
            options = self._options | {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": str(IN_FLIGHT)}
            compiled = _core().compile_model(self._model, "CPU", options)
            self._idle.extend(compiled.create_infer_request() for _ in range(IN_FLIGHT))
        if not self._idle:
            raise EngineError(f"{IN_FLIGHT} batches are in flight: take a mask before the next frame")
        request = self._idle.popleft()
        request.get_input_tensor().data[:] = frames
        request.start_async()
        self._running.append(request)

    def take(self) -> NDArray[np.uint8]:
        """See ``session.OverlappingSession``.

        Raises:
            EngineError: no batch is in flight.
        """
        if not self._running:
            raise EngineError("no frame is in flight: submit one before taking a mask")
        request = self._running.popleft()
        request.wait()
        self._idle.append(request)
        return np.asarray(request.get_output_tensor(0).data)

    def close(self) -> None:
        """See ``session.Session``."""
        for request in self._running:
            request.wait()
        self._running.clear()
        self._idle.clear()
        del self._request, self._model

"""Recording work on a stream and replaying it, through cuda-python. Not run here, for want of a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...errors import EngineError
from ...lazy import require


class CudaGraph:
    """Recorded work, instantiated on a stream."""

    def __init__(self, runtime: Any, executable: Any, stream: int) -> None:
        self._runtime = runtime
        self._executable = executable
        self._stream = stream

    def launch(self) -> None:
        """See ``memory.Replay``."""
        _checked(self._runtime.cudaGraphLaunch(self._executable, self._stream))

    def free(self) -> None:
        """See ``memory.Replay``."""
        _checked(self._runtime.cudaGraphExecDestroy(self._executable))


def capture(stream: int, enqueue: Callable[[], None]) -> CudaGraph | None:
    """Record what ``enqueue`` puts on a stream; None when something in it cannot be recorded."""
    runtime = require("cuda.bindings.runtime", "replay CUDA graphs")
    _checked(runtime.cudaStreamBeginCapture(stream, runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal))
    refused = False
    try:
        enqueue()
    except EngineError:
        refused = True
    finally:
        # Ended in every case, because a stream left in capture is of no more use.
        status, graph = runtime.cudaStreamEndCapture(stream)
    if refused or int(status) != 0:
        return None
    try:
        (executable,) = _checked(runtime.cudaGraphInstantiate(graph, 0))
    finally:
        runtime.cudaGraphDestroy(graph)
    return CudaGraph(runtime, executable, stream)


def _checked(answer: tuple[Any, ...]) -> tuple[Any, ...]:
    status, *values = answer
    if int(status) != 0:
        raise EngineError(f"a CUDA graph failed ({status}): run without the package cuda-python, which only speeds up")
    return tuple(values)

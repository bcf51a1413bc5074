"""Recording work on a stream and replaying it in one call."""

from __future__ import annotations

import logging
from collections.abc import Callable

from .driver import Driver, DriverError

_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: what other threads do meanwhile does not spoil the recording
_log = logging.getLogger(__name__)


class CudaGraph:
    """Recorded work, ready to be replayed on the stream that it was recorded on."""

    def __init__(self, driver: Driver, executable: int, stream: int) -> None:
        self._driver = driver
        self._executable = executable
        self._stream = stream

    def launch(self) -> None:
        """See ``memory.Replay``."""
        self._driver.call("cuGraphLaunch", self._executable, self._stream)

    def free(self) -> None:
        """See ``memory.Replay``."""
        self._driver.call("cuGraphExecDestroy", self._executable)


def capture(driver: Driver, stream: int, enqueue: Callable[[], None]) -> CudaGraph | None:
    """Record what ``enqueue`` puts on a stream.

    Returns:
        None when something in it cannot be recorded, or when the driver has no graphs; nothing has run then, and the
        stream is as it was.
    """
    try:
        driver.call("cuStreamBeginCapture_v2", stream, _THREAD_LOCAL)
    except DriverError as error:
        _log.info("no CUDA graph: %s", error)
        return None
    failure: Exception | None = None
    graph = 0
    try:
        enqueue()
    except Exception as error:  # whatever it is, running the same work without a recording decides whether it matters
        failure = error
    finally:
        # In every case, because a stream left in capture is useless.
        try:
            graph = driver.handle_of_capture(stream)
        except DriverError as error:
            failure = failure or error
    if failure is not None or not graph:
        _log.info("no CUDA graph: %s", failure)
        if graph:
            driver.call("cuGraphDestroy", graph)
        return None
    try:
        return CudaGraph(driver, driver.handle("cuGraphInstantiateWithFlags", graph, 0), stream)
    except DriverError as error:
        _log.info("no CUDA graph: %s", error)
        return None
    finally:
        driver.call("cuGraphDestroy", graph)

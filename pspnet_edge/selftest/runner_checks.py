"""The runner and its CUDA graphs on the real device."""

from __future__ import annotations

import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..child import child_command
from ..engine.session import IN_FLIGHT
from ..engine.tensorrt.driver import Driver, DriverError, load_driver
from ..engine.tensorrt.memory import CudaMemory, Replay
from ..engine.tensorrt.reference import reference_masks
from ..engine.tensorrt.runner import Executor, Runner
from ..engine.tensorrt.tail import KernelTail
from ..errors import EngineError
from .gpu import FramesAsLogits, needed_gpu, tail_facts_of
from .kernel_checks import bundled_logits
from .outcome import Answer, Failed, require

_FRAMES = 10_000
Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


class CountingMemory(CudaMemory):
    """Counts recordings and replays.

    Args:
        mapped: as for ``CudaMemory``.
        record: whether work is recorded at all.
        spoil: called inside each recording.
    """

    def __init__(
        self, mapped: bool | None = None, record: bool = True, spoil: Callable[[CudaMemory], None] | None = None
    ) -> None:
        super().__init__(mapped)
        self.replays = 0
        self._record, self._spoil = record, spoil

    def capture(self, enqueue: Callable[[], None]) -> Replay | None:
        """See ``memory.Memory``."""

        def spoiled() -> None:
            enqueue()
            if self._spoil is not None:
                self._spoil(self)

        replay = super().capture(spoiled) if self._record else None
        return None if replay is None else _Counted(self, replay)


class _Counted:
    def __init__(self, memory: CountingMemory, replay: Replay) -> None:
        self._memory, self._replay = memory, replay

    def launch(self) -> None:
        self._memory.replays += 1
        self._replay.launch()

    def free(self) -> None:
        self._replay.free()


def known_pairs(count: int = 32, batch: int = 1) -> list[Pair]:
    """Frames for ``FramesAsLogits`` and their masks."""
    pairs = []
    for seed in range(count):
        frames, logits = FramesAsLogits.frames(seed, batch)
        pairs.append((frames, reference_masks(logits, FramesAsLogits.SIZE_HW, False)))
    return pairs


def open_known(memory: CudaMemory) -> Runner:
    """A runner over ``FramesAsLogits``."""
    with memory.current():
        executor: Executor = FramesAsLogits(memory)
    return Runner(executor, memory, (1, *FramesAsLogits.SIZE_HW))


def run_through(runner: Runner, pairs: Sequence[Pair], count: int) -> None:
    """Send frames with as many in flight as fit, from one array that is overwritten; fails at the first wrong mask."""
    flying: deque[int] = deque()
    frame = np.empty_like(pairs[0][0])
    for number in range(count + IN_FLIGHT):
        if len(flying) == IN_FLIGHT or number >= count:
            done = flying.popleft() if flying else None
            if done is not None:
                wrong = int((runner.take() != pairs[done % len(pairs)][1]).sum())
                require(wrong == 0, f"{wrong} pixels of frame {done} are wrong")
        if number < count:
            frame[:] = pairs[number % len(pairs)][0]
            runner.submit(frame)
            flying.append(number)


def check_runner() -> Answer:
    """Ten thousand frames, two in flight, copied and mapped, and two runners in two threads."""
    needed_gpu()
    pairs = known_pairs()
    for mapped in (False, True):
        runner = open_known(CudaMemory(mapped))
        run_through(runner, pairs, _FRAMES // 2)
        runner.close()
    failures: list[str] = []
    threads = [threading.Thread(target=_run_in_thread, args=(pairs, failures)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    require(not failures, f"two runners in two threads: {failures[0] if failures else ''}")
    closing = open_known(CudaMemory())
    closing.submit(pairs[0][0])
    closing.submit(pairs[1][0])
    closing.close()
    return Answer(f"{_FRAMES} frames come back right, and two runners in two threads", {"frames": _FRAMES})


def check_failure() -> Answer:
    """A kernel that reads an illegal address, in its own process: a sentence, no hang and no crash."""
    needed_gpu()
    command = child_command(__name__)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired as error:
        raise Failed("the runner hangs when the GPU fails") from error
    require(done.returncode == 0 and "the GPU failed" in done.stdout, f"exits {done.returncode}: {_last(done.stderr)}")
    return Answer("an illegal address ends in one sentence, and the runner closes")


def check_graph() -> Answer:
    """Recorded frames equal unrecorded ones, are really replayed, and a refused recording falls back."""
    needed_gpu()
    pairs = known_pairs()
    counts = {}
    for name, memory in {
        "recorded": CountingMemory(),
        "recorded and mapped": CountingMemory(mapped=True),
        "not recorded": CountingMemory(record=False),
        "refused": CountingMemory(spoil=lambda memory: memory.synchronise()),
    }.items():
        runner = open_known(memory)
        run_through(runner, pairs, 200)
        runner.close()
        counts[name] = memory.replays
    require(counts["recorded"] == counts["recorded and mapped"] == 198, f"{counts['recorded']} of 198 are replayed")
    require(counts["refused"] == 0, "a recording that waits for the stream is not refused")
    memory = CountingMemory()
    memory._driver = _WithoutGraphs(load_driver())
    runner = open_known(memory)
    run_through(runner, pairs, 50)
    runner.close()
    require(memory.replays == 0, "error 35 of the driver does not fall back")
    return Answer("198 of 200 frames are replayed, and refused recordings fall back", {"replays": counts["recorded"]})


def check_tail_in_runner() -> Answer:
    """The bundled model's logits through tail, graph and runner: the masks are the ONNX graph's."""
    needed_gpu()
    compared = 0
    for tail, logits, masks in bundled_logits():
        memory = CountingMemory()
        with memory.current():
            network = _DeviceLogits(memory, logits)
            facts = tail_facts_of(logits, tail.align_corners)
            executor = KernelTail(network, memory, facts, masks.shape)
        runner = Runner(executor, memory, masks.shape)
        frames = np.zeros((*masks.shape, 3), np.uint8)
        for _ in range(8):
            wrong = int((runner.infer(frames) != masks).sum())
            require(wrong == 0, f"{wrong} pixels differ from the graph's")
        runner.close()
        require(memory.replays > 0, "the tail was not replayed")
        compared += 1
    return Answer(f"{compared} masks of the bundled model are the ONNX graph's, replayed", {"masks": compared})


class _DeviceLogits:
    """A network that copies logits which are on the device already: work that can be recorded."""

    def __init__(self, memory: CudaMemory, logits: NDArray[np.float32]) -> None:
        self._memory, self._nbytes = memory, logits.nbytes
        self._buffer = memory.allocate(logits.nbytes)
        self._buffer.host[:] = np.ascontiguousarray(logits).view(np.uint8).ravel()

    def enqueue(self, frames: int, masks: int, stream: int) -> None:
        pointer = self._buffer.host.ctypes.data
        load_driver().call("cuMemcpyHtoDAsync_v2", masks, pointer, self._nbytes, stream)

    def close(self) -> None:
        self._memory.free(self._buffer)


class _WithoutGraphs(Driver):
    """The driver as one that is too old answers, to every recording."""

    def __init__(self, driver: Driver) -> None:
        self._functions = driver._functions

    def call(self, name: str, *arguments: object) -> None:
        if name == "cuStreamBeginCapture_v2":
            raise DriverError(name, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH")
        super().call(name, *arguments)


def _run_in_thread(pairs: Sequence[Pair], failures: list[str]) -> None:
    try:
        runner = open_known(CudaMemory())
        run_through(runner, pairs, 1_000)
        runner.close()
    except Exception as error:  # raised again as the failure of the check
        failures.append(str(error))


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]


def _use_illegal_address() -> None:
    """A frame whose logits are read from an address that is not allocated."""
    memory = CudaMemory()
    with memory.current():
        executor = FramesAsLogits(memory)
    usual = executor.enqueue
    executor.enqueue = lambda frames, masks, stream: usual(0xDEAD0000, masks, stream)  # type: ignore[method-assign]
    runner = Runner(executor, memory, (1, *FramesAsLogits.SIZE_HW))
    try:
        runner.infer(known_pairs(1)[0][0])
    except EngineError as error:
        print(error)
    runner.close()


if __name__ == "__main__":
    _use_illegal_address()

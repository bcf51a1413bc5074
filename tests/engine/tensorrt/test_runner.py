"""The runner against a device in the processor's memory that checks the rules of ``memory.Memory``."""

from __future__ import annotations

import base64
import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pspnet_edge.engine.engine import Engine, EngineInfo
from pspnet_edge.engine.tensorrt.memory import Buffer
from pspnet_edge.engine.tensorrt.runner import Runner
from pspnet_edge.engine.tensorrt.tail import KernelTail
from pspnet_edge.errors import EngineError
from pspnet_edge.labels import CAMVID

SHAPE = (1, 3, 4)
Work = Callable[[], None]


class CheckingMemory:
    """Enqueued work waits until somebody waits for it, so what is read, freed or overwritten too early is seen.

    What is wrong is collected and not raised, because the runner turns what a device raises into an ``EngineError``.
    """

    def __init__(self, fail_at: int | None = None, *, mapped: bool = False, records: bool = True) -> None:
        self.wrong: list[str] = []
        self.calls = 0
        self.failed_in = ""
        self.failed_in_capture = False
        self.live: dict[int, tuple[Buffer, NDArray[np.uint8]]] = {}
        self.device_only: dict[int, NDArray[np.uint8]] = {}
        self.graphs = 0
        self.replays = 0
        self.executors = 0
        self.kernels = 0
        self.released = False
        self._fail_at, self._mapped, self._records = fail_at, mapped, records
        self._depth = threading.local()
        self._pending: list[Work] = []
        self._done = 0
        self._recording: list[Work] | None = None
        self._next_address = 1 << 20

    def called(self, name: str, *, in_context: bool = True) -> None:
        self.calls += 1
        self.check(not self.released, f"{name} after release")
        self.check(not in_context or getattr(self._depth, "value", 0) > 0, f"{name} without a context")
        if self.calls == self._fail_at:
            self.failed_in = name
            self.failed_in_capture = self._recording is not None or name == "capture"
            raise RuntimeError(f"injected into {name}")

    def check(self, holds: bool, complaint: str) -> None:
        if not holds:
            self.wrong.append(complaint)

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        self.called("current", in_context=False)
        self._depth.value = getattr(self._depth, "value", 0) + 1
        try:
            yield
        finally:
            self._depth.value -= 1

    @property
    def stream(self) -> int:
        return 77

    def allocate(self, nbytes: int) -> Buffer:
        self.called("allocate")
        host = np.full(nbytes, 0xAA, np.uint8)
        self._next_address += nbytes + 256
        buffer = Buffer(host, self._next_address)
        self.live[buffer.address] = (buffer, host if self._mapped else np.full(nbytes, 0x55, np.uint8))
        return buffer

    def free(self, buffer: Buffer) -> None:
        self.check(buffer.address in self.live, "freed twice")
        self.check(not self._unfinished() or self.failed_in != "", "freed while work was enqueued")
        self.live.pop(buffer.address, None)
        self.called("free")

    def allocate_device(self, nbytes: int) -> int:
        self.called("allocate device")
        self._next_address += nbytes + 256
        self.device_only[self._next_address] = np.full(nbytes, 0x55, np.uint8)
        return self._next_address

    def free_device(self, address: int) -> None:
        self.check(address in self.device_only, "freed twice")
        self.check(not self._unfinished() or self.failed_in != "", "freed while work was enqueued")
        self.device_only.pop(address, None)
        self.called("free device")

    def enqueue_upload(self, buffer: Buffer) -> None:
        self.called("upload")
        self.check(buffer.address in self.live, "upload of a freed buffer")
        written = buffer.host.copy() if self._recording is None else None

        def upload() -> None:
            self.check(written is None or bool((buffer.host == written).all()), "overwritten while in flight")
            self.device(buffer.address)[:] = buffer.host

        self.push(upload)

    def enqueue_download(self, buffer: Buffer) -> None:
        self.called("download")
        self.push(lambda: np.copyto(buffer.host, self.device(buffer.address)))

    def device(self, address: int) -> NDArray[np.uint8]:
        if address in self.device_only:
            return self.device_only[address]
        self.check(address in self.live, "use after free")
        return self.live[address][1] if address in self.live else np.zeros(0, np.uint8)

    def push(self, work: Work) -> None:
        (self._pending if self._recording is None else self._recording).append(work)

    def load_kernel(self, binary: bytes, name: str) -> Callable[..., None]:
        self.called("load kernel")
        self.check((binary, name) == (b"machine code", "tail_masks"), "another kernel")
        self.kernels += 1
        return self._launch_tail

    def _launch_tail(self, grid: tuple[int, ...], block: tuple[int, ...], addresses: tuple, numbers: tuple) -> None:
        """Stands for the kernel: the mask is the argmax of logits that are already of its size."""
        self.called("launch kernel")
        logits, masks = addresses
        classes, rows, columns, height, width, align = numbers
        self.check((4 * grid[0] * block[0] >= width) and (grid[1] * block[1] >= height), "too few threads")
        self.check((grid[2], rows, columns, align) == (1, height, width, 0), "wrong numbers")

        def run() -> None:
            values = self.device(logits).view(np.float32).reshape(classes, height, width)
            self.device(masks)[:] = values.argmax(0).astype(np.uint8).ravel()

        self.push(run)

    def record(self) -> object:
        self.called("record")
        self.check(self._recording is None, "an event inside a recording")
        return self._done + len(self._pending)

    def wait(self, mark: object) -> None:
        self.called("wait")
        assert isinstance(mark, int)
        while self._done < mark and self._pending:
            self._pending.pop(0)()
            self._done += 1

    def synchronise(self) -> None:
        self.called("synchronise")
        self.wait_all()

    def wait_all(self) -> None:
        while self._unfinished():
            self._pending.pop(0)()
            self._done += 1

    def capture(self, enqueue: Work) -> Recording | None:
        self.called("capture")
        if not self._records:
            return None
        self._recording = []
        try:
            enqueue()
            return Recording(self, self._recording)
        finally:
            self._recording = None

    def release(self) -> None:
        self.check(
            not self.live and not self.device_only and not self.graphs and not self.executors,
            "released before the rest was freed",
        )
        self.called("release", in_context=False)
        self.released = True

    def _unfinished(self) -> bool:
        return bool(self._pending)


class Recording:
    def __init__(self, memory: CheckingMemory, work: list[Work]) -> None:
        self._memory, self._work = memory, work
        memory.graphs += 1

    def launch(self) -> None:
        self._memory.called("launch")
        self._memory.replays += 1
        for work in self._work:
            self._memory.push(work)

    def free(self) -> None:
        self._memory.graphs -= 1
        self._memory.called("free graph")


class FakeNetwork:
    """A mask that depends on every pixel of its frame."""

    def __init__(self, memory: CheckingMemory) -> None:
        self._memory = memory
        memory.executors += 1

    def enqueue(self, frames: int, masks: int, stream: int) -> None:
        memory = self._memory
        memory.called("execute")
        memory.check(stream == memory.stream, "another stream")
        memory.check(memory.device(frames).size == 3 * memory.device(masks).size == 36, "wrong sizes")
        memory.push(lambda: np.copyto(memory.device(masks), expected(memory.device(frames).reshape(*SHAPE, 3)).ravel()))

    def close(self) -> None:
        self._memory.executors -= 1
        self._memory.called("close network")


class FakeLogits(FakeNetwork):
    """Logits whose argmax is the mask of ``FakeNetwork``."""

    def enqueue(self, frames: int, masks: int, stream: int) -> None:
        memory = self._memory
        memory.called("execute")
        memory.check(memory.device(masks).size == 4 * 256 * 12, "wrong size of logits")

        def run() -> None:
            ids = expected(memory.device(frames).reshape(*SHAPE, 3))
            memory.device(masks)[:] = (
                (np.arange(256)[:, None, None] == ids).astype(np.float32).reshape(-1).view(np.uint8)
            )

        memory.push(run)


def expected(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return frames[..., 0] ^ (frames[..., 1] >> 1) ^ (frames[..., 2] << 1)


def opened(memory: CheckingMemory) -> Runner:
    return Runner(FakeNetwork(memory), memory, SHAPE)


TAIL = {
    "classes": 256,
    "logits_hw": [3, 4],
    "align_corners": False,
    "kernels": base64.b64encode(b"machine code").decode(),
}


def opened_with_tail(memory: CheckingMemory) -> Runner:
    with memory.current():
        network = FakeLogits(memory)
        try:
            executor = KernelTail(network, memory, TAIL, SHAPE)
        except RuntimeError as error:
            network.close()
            memory.release()
            raise EngineError(f"the GPU failed ({error})") from error
    return Runner(executor, memory, SHAPE)


def open_run_close(memory: CheckingMemory, opened: Callable[[CheckingMemory], Runner] = opened) -> None:
    runner = opened(memory)
    overlapped(runner, 12, seed=2)
    runner.close()


def check_all_is_freed(memory: CheckingMemory) -> None:
    # A context that cannot be entered keeps the one thing from being freed that was next: a network with its tail.
    lost = len(memory.live) + len(memory.device_only) + memory.graphs + memory.executors
    if memory.failed_in == "current":
        assert lost <= 1 + memory.kernels
        memory.wrong = [text for text in memory.wrong if text != "released before the rest was freed"]
    else:
        assert lost == 0
        assert memory.released or memory.failed_in == "release"
    assert memory.wrong == []


def overlapped(runner: Runner, count: int, seed: int) -> int:
    """Frames through the runner, with none, one or two in flight at random; returns how many came out right."""
    choose, pixels = random.Random(seed), np.random.default_rng(seed)
    waiting: list[NDArray[np.uint8]] = []
    begun = done = 0
    frame = np.empty((*SHAPE, 3), np.uint8)
    while done < count:
        if begun < count and (not waiting or (len(waiting) < 2 and choose.random() < 0.6)):
            frame[:] = pixels.integers(0, 256, frame.shape)  # one array for all frames, as a camera loop has
            runner.submit(frame)
            waiting.append(expected(frame))
            begun += 1
        else:
            assert (runner.take() == waiting.pop(0)).all()
            done += 1
    return done


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("records", [True, False])
def test_ten_thousand_frames(mapped: bool, records: bool) -> None:
    memory = CheckingMemory(mapped=mapped, records=records)
    runner = opened(memory)
    assert overlapped(runner, 10_000, seed=1) == 10_000
    assert (memory.replays > 9_990) == records
    runner.close()
    check_all_is_freed(memory)


def test_a_failure_at_every_call_frees_everything() -> None:
    whole = CheckingMemory()
    open_run_close(whole)
    check_all_is_freed(whole)
    assert fail_at_each_call(whole.calls, opened, first=1) == 2 * 4  # what two slots do while they are recorded


def fail_at_each_call(calls: int, opened: Callable[[CheckingMemory], Runner], first: int) -> int:
    """How many of the injected failures did not end the runner, because they only kept work from being recorded."""
    survived = 0
    for fail_at in range(first, calls + 1):
        memory = CheckingMemory(fail_at)
        said = ""
        try:
            open_run_close(memory, opened)
        except EngineError as error:
            said = str(error)
        assert memory.failed_in_capture == (said == ""), memory.failed_in
        assert said == "" or ("injected into" in said and "\n" not in said)
        survived += said == ""
        check_all_is_freed(memory)
    return survived


def test_the_tail_in_a_kernel() -> None:
    whole = CheckingMemory()
    open_run_close(whole, opened_with_tail)
    check_all_is_freed(whole)
    assert fail_at_each_call(whole.calls, opened_with_tail, first=2) == 2 * 5


def test_a_refused_recording_is_said_once_and_frames_go_on(caplog: pytest.LogCaptureFixture) -> None:
    memory = CheckingMemory(records=False)
    runner = opened(memory)
    assert overlapped(runner, 20, seed=5) == 20
    runner.close()
    check_all_is_freed(memory)
    assert memory.replays == 0
    assert [record.getMessage() for record in caplog.records] == [
        "frames are not replayed as a CUDA graph (the driver or the engine refuses it): each takes a little longer "
        "to start"
    ]


def test_ten_thousand_frames_with_failures_at_random() -> None:
    choose, done = random.Random(3), 0
    while done < 10_000:
        memory = CheckingMemory(choose.randrange(1, 4_000))
        with contextlib.suppress(EngineError):
            runner = opened(memory)
            done += overlapped(runner, 300, seed=done)
            runner.close()
        check_all_is_freed(memory)


def test_a_thousand_openings_leave_nothing() -> None:
    threads = threading.active_count()
    for number in range(1_000):
        memory = CheckingMemory(mapped=number % 2 == 0)
        runner = opened(memory)
        assert overlapped(runner, 6, seed=number) == 6
        runner.close()
        check_all_is_freed(memory)
    assert threading.active_count() == threads


def test_after_a_failure_the_runner_says_so_and_closes_quietly() -> None:
    memory = CheckingMemory(60)
    runner = opened(memory)
    with pytest.raises(EngineError, match="the GPU failed"):
        overlapped(runner, 50, seed=4)
    with pytest.raises(EngineError, match="closed or has failed: open it again"):
        runner.infer(np.zeros((*SHAPE, 3), np.uint8))
    runner.close()
    check_all_is_freed(memory)


def test_two_runners_in_two_threads_and_closed_in_a_third() -> None:
    memories = [CheckingMemory(), CheckingMemory(mapped=True)]
    runners = [opened(memory) for memory in memories]
    done: list[int] = []
    threads = [
        threading.Thread(target=lambda runner=runner, seed=seed: done.append(overlapped(runner, 5_000, seed)))
        for seed, runner in enumerate(runners)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [5_000, 5_000]
    for runner, memory in zip(runners, memories):
        runner.close()
        check_all_is_freed(memory)


def test_through_an_engine_four_threads_get_masks_of_their_own_that_outlive_it() -> None:
    memory = CheckingMemory()
    engine = Engine(EngineInfo(Path("plan.engine"), "tensorrt", "fp32", SHAPE, CAMVID, {}), opened(memory))
    batches = [np.full((*SHAPE, 3), 10 * number, np.uint8) for number in range(8)]

    def ask(first: int) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        asked = [batches[(first + turn) % len(batches)] for turn in range(50)]
        return [(engine.infer(frames), expected(frames)) for frames in asked]

    with ThreadPoolExecutor(4) as threads:
        answers = [pair for pairs in threads.map(ask, range(4)) for pair in pairs]
    for buffer, _ in memory.live.values():
        buffer.host[:] = 0xEE  # as the memory of a closed engine may be
    engine.close()
    assert all(np.array_equal(mask, wanted) for mask, wanted in answers)
    check_all_is_freed(memory)


def test_closing_waits_for_what_is_in_flight() -> None:
    memory = CheckingMemory()
    runner = opened(memory)
    runner.submit(np.zeros((*SHAPE, 3), np.uint8))
    runner.submit(np.ones((*SHAPE, 3), np.uint8))
    runner.close()
    check_all_is_freed(memory)


def test_misuse_is_refused_and_does_no_harm() -> None:
    memory = CheckingMemory()
    runner = opened(memory)
    frame = np.zeros((*SHAPE, 3), np.uint8)
    with pytest.raises(EngineError, match="no frame is in flight"):
        runner.take()
    runner.submit(frame)
    with pytest.raises(EngineError, match="take its mask before infer"):
        runner.infer(frame)
    runner.submit(frame)
    with pytest.raises(EngineError, match="2 frames are in flight"):
        runner.submit(frame)
    runner.take()
    runner.take()
    for _ in range(3):
        with pytest.raises(ValueError, match="broadcast"):
            runner.submit(np.zeros((9, 9, 3), np.uint8))
    assert (runner.infer(frame) == 0).all()
    runner.close()
    check_all_is_freed(memory)


def test_two_threads_on_one_runner_are_refused() -> None:
    memory = CheckingMemory()
    runner = opened(memory)
    entered, leave = threading.Event(), threading.Event()

    def slow_wait(mark: object) -> None:
        entered.set()
        leave.wait()
        memory.wait_all()

    memory.wait = slow_wait  # type: ignore[method-assign]
    thread = threading.Thread(target=runner.infer, args=(np.zeros((*SHAPE, 3), np.uint8),))
    thread.start()
    entered.wait()
    with pytest.raises(EngineError, match="two threads use one engine at once"):
        runner.take()
    leave.set()
    thread.join()
    runner.close()
    check_all_is_freed(memory)

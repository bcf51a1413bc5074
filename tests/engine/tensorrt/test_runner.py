"""The runner against a device in the processor's memory that checks the rules of ``memory.Memory``."""

from __future__ import annotations

import base64
import contextlib
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pspnet_edge.data.geometry import Geometry
from pspnet_edge.engine.engine import Engine, EngineInfo
from pspnet_edge.engine.session import FittingSession, View
from pspnet_edge.engine.tensorrt.head import HeadLaunch, KernelHead, head_facts
from pspnet_edge.engine.tensorrt.host_kernels import HostKernels
from pspnet_edge.engine.tensorrt.memory import Buffer
from pspnet_edge.engine.tensorrt.runner import Runner
from pspnet_edge.engine.tensorrt.tail import KernelTail
from pspnet_edge.errors import EngineError
from pspnet_edge.graph.head import Head
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
        buffer = Buffer(host, self._address_of(nbytes))
        self.live[buffer.address] = (buffer, host if self._mapped else np.full(nbytes, 0x55, np.uint8))
        return buffer

    def free(self, buffer: Buffer) -> None:
        self.check(buffer.address in self.live, "freed twice")
        self.check(not self._unfinished() or self.failed_in != "", "freed while work was enqueued")
        self.live.pop(buffer.address, None)
        self.called("free")

    def allocate_device(self, nbytes: int) -> int:
        self.called("allocate device")
        address = self._address_of(nbytes)
        self.device_only[address] = np.full(nbytes, 0x55, np.uint8)
        return address

    def _address_of(self, nbytes: int) -> int:
        self._next_address += nbytes + 256
        return self._next_address - nbytes - 256

    def free_device(self, address: int) -> None:
        self.check(address in self.device_only, "freed twice")
        self.check(not self._unfinished() or self.failed_in != "", "freed while work was enqueued")
        self.device_only.pop(address, None)
        self.called("free device")

    def store(self, content: NDArray[np.generic]) -> int:
        self.called("store")
        self.wait_all()
        address = self._address_of(content.nbytes)
        self.device_only[address] = np.frombuffer(content.tobytes(), np.uint8).copy()
        return address

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
        for begin, content in (*self.device_only.items(), *((key, pair[1]) for key, pair in self.live.items())):
            if begin <= address < begin + content.nbytes:
                return content[address - begin :]
        self.check(False, "use after free")
        return np.zeros(0, np.uint8)

    def push(self, work: Work) -> None:
        (self._pending if self._recording is None else self._recording).append(work)

    def load_kernel(self, binary: bytes, name: str) -> Callable[..., None]:
        self.called("load kernel")
        self.check(binary == b"machine code" and name in ("tail_masks", "head_float"), "another kernel")
        self.kernels += 1
        return self._launch_tail if name == "tail_masks" else self._launch_head

    def _launch_head(self, grid: tuple[int, ...], block: tuple[int, ...], addresses: tuple, numbers: tuple) -> None:
        """The kernel itself, compiled for the processor."""
        self.called("launch kernel")
        pixels, table, levels, given = addresses
        channels, height, width = numbers[2], numbers[4], numbers[5]
        self.check(grid[0] * block[0] >= width and grid[1] * block[1] >= height and grid[2] == 1, "too few threads")

        def run() -> None:
            launch = HeadLaunch("head_float", (1, 1, 1), numbers, self.device(table).view(np.int32))
            stored = self.device(levels).view(np.float32).reshape(channels, 256)
            found = host_kernels().input(self.device(pixels), stored, launch, channels * height * width)
            self.device(given)[: found.nbytes] = found.view(np.uint8)

        self.push(run)

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


class FakeInput(FakeNetwork):
    """The mask of ``FakeNetwork``, of pixels that came as floats with their channels first."""

    def enqueue(self, frames: int, masks: int, stream: int) -> None:
        memory = self._memory
        memory.called("execute")
        batch = memory.device(masks).size // 12
        memory.check(memory.device(frames).size == batch * 4 * 36, "wrong size of the input")

        def run() -> None:
            values = memory.device(frames).view(np.float32).reshape(batch, 3, 3, 4)
            memory.device(masks)[:] = expected(values.transpose(0, 2, 3, 1).astype(np.uint8)).ravel()

        memory.push(run)


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


HEAD = head_facts(Head((0, 1, 2), np.tile(np.arange(256, dtype=np.float32), (3, 1))), b"machine code")


@lru_cache(maxsize=1)
def host_kernels() -> HostKernels:
    return HostKernels()


def opened_with_head(memory: CheckingMemory, batch: int = 1) -> Runner:
    shape = (batch, *SHAPE[1:])
    with memory.current():
        network = FakeInput(memory)
        try:
            executor = KernelHead(network, memory, HEAD, shape)
        except RuntimeError as error:
            network.close()
            memory.release()
            raise EngineError(f"the GPU failed ({error})") from error
    return Runner(executor, memory, shape)


def open_run_close(memory: CheckingMemory, opened: Callable[[CheckingMemory], Runner] = opened) -> None:
    runner = opened(memory)
    overlapped(runner, 12, seed=2)
    runner.close()


def check_all_is_freed(memory: CheckingMemory) -> None:
    # A context that cannot be entered keeps the one thing from being freed that was next: a network with its kernel.
    lost = len(memory.live) + len(memory.device_only) + memory.graphs + memory.executors
    if memory.failed_in == "current":
        assert lost <= 1 + 2 * memory.kernels
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


needs_gpp = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not here")


@needs_gpp
def test_the_head_in_a_kernel() -> None:
    whole = CheckingMemory()
    open_run_close(whole, opened_with_head)
    check_all_is_freed(whole)
    assert fail_at_each_call(whole.calls, opened_with_head, first=2) == 2 * 5


def views_of(fit: str, sizes: list[tuple[int, int]], seed: int, channels: int = 3) -> tuple[list[View], NDArray]:
    """Pictures of such sizes and the masks that belong to them."""
    pixels = np.random.default_rng(seed)
    views, masks = [], []
    for size_hw in sizes:
        frame = pixels.integers(0, 256, (*size_hw, channels), np.uint8)
        layout = Geometry(fit).layout(size_hw, SHAPE[1:])
        views.append(View(frame, layout.windows[0]))
        masks.append(expected(next(layout.inputs(np.ascontiguousarray(frame[..., :3])))))
    return views, np.stack(masks)


@needs_gpp
@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("channels", [3, 4])
def test_pictures_of_any_size_are_brought_to_the_engines(fit: str, channels: int) -> None:
    memory = CheckingMemory()
    runner = opened_with_head(memory, batch=2)
    assert isinstance(runner, FittingSession)
    assert runner.fits
    sizes = [[(7, 9), (7, 9)], [(7, 9), (30, 20)], [(3, 4), (3, 4)], [(41, 17), (2, 3)]]
    waiting: list[NDArray] = []
    for number in range(60):
        # Each size comes six times, so that it is recorded and replayed on both slots before another comes.
        views, masks = views_of(fit, sizes[number // 6 % len(sizes)], number, channels)
        if len(waiting) == 2:
            assert (runner.take() == waiting.pop(0)).all()
        runner.submit_views(views)
        waiting.append(masks)
    for masks in waiting:
        assert (runner.take() == masks).all()
    assert memory.replays == 60 - 2 * 10
    # One picture in a batch of two, and frames of the engine's size again.
    views, masks = views_of(fit, [(50, 60)], 99, channels)
    runner.submit_views(views)
    assert (runner.take()[0] == masks[0]).all()
    frames = np.random.default_rng(1).integers(0, 256, (2, *SHAPE[1:], 3), np.uint8)
    assert (runner.infer(frames) == expected(frames)).all()
    runner.close()
    check_all_is_freed(memory)


@needs_gpp
def test_a_failure_while_sizes_change_frees_everything() -> None:
    def changing(memory: CheckingMemory) -> None:
        runner = opened_with_head(memory)
        for number in range(8):
            views, masks = views_of("stretch", [[(7, 9), (20, 9)][number % 2]], number)
            runner.submit_views(views)
            assert (runner.take() == masks).all()
        runner.close()

    whole = CheckingMemory()
    changing(whole)
    check_all_is_freed(whole)
    for fail_at in range(2, whole.calls + 1):
        memory = CheckingMemory(fail_at)
        with contextlib.suppress(EngineError):
            changing(memory)
        check_all_is_freed(memory)


def test_a_runner_without_the_heads_kernel_refuses_other_sizes() -> None:
    memory = CheckingMemory()
    runner = opened(memory)
    assert not runner.fits
    with pytest.raises(EngineError, match="rebuild it with --head kernel"):
        runner.submit_views(views_of("stretch", [(9, 9)], 0)[0])
    runner.close()


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
        with pytest.raises(ValueError, match="expected"):
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

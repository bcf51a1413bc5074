from __future__ import annotations

import multiprocessing.util
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from pspnet_edge.data.datasets import SceneSet  # noqa: E402
from pspnet_edge.errors import DataError  # noqa: E402
from pspnet_edge.labels import CAMVID, LabelSet  # noqa: E402
from pspnet_edge.train import batches  # noqa: E402
from pspnet_edge.train.batches import TrainingSamples, choose_workers, micro_batches  # noqa: E402
from pspnet_edge.train.distributed import ALONE, World  # noqa: E402

CPU = torch.device("cpu")


@dataclass
class Numbered:
    """Images whose every pixel is their index."""

    count: int
    broken: int = -1
    label_set: LabelSet = CAMVID

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int):
        if index == self.broken:
            raise DataError("mask7.png is cut short: restore it")
        return self.image(index), np.zeros((40, 40), np.uint8)

    def image(self, index: int):
        return np.full((40, 40, 3), index, np.uint8)

    def name(self, index: int) -> str:
        return str(index)


def samples(real, extra=None) -> TrainingSamples:
    return TrainingSamples(real, extra, 0.25 if extra else 0.0, (32, 32), (1.0, 2.0), 3)


def test_processes_and_accumulation_steps_divide_the_batches_of_a_single_process() -> None:
    of_all = samples(Numbered(17), SceneSet("val"))
    whole = list(micro_batches(of_all, range(1, 3), 4, 1, 0, ALONE))
    assert len(whole) == 2 * (len(of_all) // 4)
    by_rank = [list(micro_batches(of_all, range(1, 3), 4, 2, 0, World(CPU, rank, 2))) for rank in range(2)]
    for number, batch in enumerate(whole):
        parts = [part for ranks in by_rank for part in ranks[2 * number : 2 * number + 2]]
        for position in range(3):
            assert torch.equal(torch.cat([part[position] for part in parts]), batch[position])


def test_workers_change_nothing_and_an_epoch_can_be_begun_anywhere() -> None:
    alone = list(micro_batches(samples(Numbered(9)), range(3), 4, 1, 0, ALONE))
    helped = list(micro_batches(samples(Numbered(9)), range(2, 3), 4, 1, 2, ALONE))
    assert all(torch.equal(first[0], second[0]) for first, second in zip(alone[4:], helped))


def test_reading_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    next(micro_batches(samples(Numbered(9)), range(1), 4, 1, 0, ALONE))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_worker_is_the_same_one_sentence(workers: int) -> None:
    with pytest.raises(DataError) as caught:
        list(micro_batches(samples(Numbered(9, broken=7)), range(3), 4, 1, workers, ALONE))
    assert str(caught.value) == "mask7.png is cut short: restore it"


def test_loader_processes_share_nothing_in_the_file_system(tmp_path, monkeypatch) -> None:
    """Not even while they work: after a SIGKILL it would stay."""
    monkeypatch.setattr(multiprocessing.util, "get_temp_dir", lambda: pytest.fail("a socket in the temporary folder"))
    monkeypatch.setattr(torch.UntypedStorage, "_new_using_fd_cpu", lambda size: pytest.fail("shared memory"))
    assert len(list(micro_batches(samples(Numbered(9)), range(2), 4, 1, 2, ALONE))) == 4


def test_loader_processes_end_with_a_training_that_is_killed() -> None:
    """Also where the batches that they have ready fill the pipe."""
    program = (
        "import multiprocessing, sys, time; sys.path[:] = sys.argv[1].split(chr(10)); "
        "from tests.train.test_batches import *; "
        "batches = micro_batches(samples(Numbered(90)), range(9), 40, 1, 2, ALONE); next(batches); time.sleep(1); "
        "print(*(child.pid for child in multiprocessing.active_children()), flush=True); time.sleep(60)"
    )
    where = "\n".join([str(Path(__file__).parents[2]), *sys.path])
    with subprocess.Popen([sys.executable, "-c", program, where], stdout=subprocess.PIPE, text=True) as training:
        assert training.stdout is not None
        workers = [int(pid) for pid in training.stdout.readline().split()]
        training.kill()
    assert len(workers) == 2
    deadline = time.monotonic() + 20
    while any(is_running(pid) for pid in workers):
        assert time.monotonic() < deadline, "they wait for ever"
        time.sleep(0.1)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_gpu_gets_several_loader_processes_and_a_processor_one(monkeypatch) -> None:
    monkeypatch.setattr(batches.os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    gpu = torch.device("cuda")
    assert choose_workers(None, ALONE) == 1
    assert choose_workers(None, World(gpu)) == 8
    assert choose_workers(None, World(gpu, 0, 4, 4)) == 3
    assert choose_workers(0, World(gpu)) == 0

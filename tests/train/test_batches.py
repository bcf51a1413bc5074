from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from pspnet_edge.data.datasets import SceneSet  # noqa: E402
from pspnet_edge.errors import DataError  # noqa: E402
from pspnet_edge.labels import CAMVID, LabelSet  # noqa: E402
from pspnet_edge.train.batches import TrainingSamples, shares  # noqa: E402
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


def test_processes_and_parts_share_every_batch_of_one_alone() -> None:
    of_all = samples(Numbered(17), SceneSet("val"))
    whole = list(shares(of_all, range(1, 3), 4, 1, 0, ALONE))
    assert len(whole) == 2 * (len(of_all) // 4)
    by_rank = [list(shares(of_all, range(1, 3), 4, 2, 0, World(CPU, rank, 2))) for rank in range(2)]
    for number, batch in enumerate(whole):
        pieces = [piece for ranks in by_rank for piece in ranks[2 * number : 2 * number + 2]]
        for position in range(3):
            assert torch.equal(torch.cat([piece[position] for piece in pieces]), batch[position])


def test_workers_change_nothing_and_an_epoch_can_be_begun_anywhere() -> None:
    alone = list(shares(samples(Numbered(9)), range(3), 4, 1, 0, ALONE))
    helped = list(shares(samples(Numbered(9)), range(2, 3), 4, 1, 2, ALONE))
    assert all(torch.equal(first[0], second[0]) for first, second in zip(alone[4:], helped))


def test_reading_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    next(shares(samples(Numbered(9)), range(1), 4, 1, 0, ALONE))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_worker_is_the_same_one_sentence(workers: int) -> None:
    with pytest.raises(DataError) as caught:
        list(shares(samples(Numbered(9, broken=7)), range(3), 4, 1, workers, ALONE))
    assert str(caught.value) == "mask7.png is cut short: restore it"

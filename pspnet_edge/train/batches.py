"""From a data set to batches of tensors.

What a sample is depends on (seed, epoch, index) alone, so a run can be resumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from ..data.datasets import Dataset
from ..data.transforms import random_view


class TrainingSamples(TorchDataset[tuple[Tensor, Tensor]]):
    """Augmented samples of ``real`` and, as a small share, of ``extra``, keyed by (epoch, index)."""

    def __init__(
        self,
        real: Dataset,
        extra: Dataset | None,
        extra_share: float,
        crop_hw: tuple[int, int],
        scales: tuple[float, float],
        seed: int,
    ) -> None:
        self._real = real
        self._extra = extra
        self._extra_count = round(len(real) * extra_share) if extra is not None else 0
        self._crop_hw = crop_hw
        self._scales = scales
        self._seed = seed

    def __len__(self) -> int:
        return len(self._real) + self._extra_count

    def epoch_order(self, epoch: int) -> list[tuple[int, int]]:
        """The keys of one epoch in the order they are used."""
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self))
        return [(epoch, int(index)) for index in order]

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        epoch, index = key
        rng = np.random.default_rng([self._seed, epoch, index, 1])
        if index < len(self._real):
            image, mask = self._real[index]
        else:
            assert self._extra is not None
            image, mask = self._extra[int(rng.integers(len(self._extra)))]
        image, mask = random_view(image, mask, self._crop_hw, rng, scales=self._scales)
        return torch.from_numpy(np.ascontiguousarray(image)), torch.from_numpy(mask)


def epoch_batches(samples: TrainingSamples, epoch: int, batch: int, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of one epoch: ``uint8 [N, H, W, 3]`` BGR and ``int64 [N, H, W]``; an incomplete last one is left."""
    loader = DataLoader(
        samples,
        batch_size=batch,
        sampler=_Keys(samples.epoch_order(epoch)),
        num_workers=workers,
        drop_last=True,
        prefetch_factor=4 if workers else None,
    )
    for images, masks in loader:
        yield images, masks.long()


class _Keys(Sequence[tuple[int, int]]):
    """A sampler that hands out (epoch, index) keys."""

    def __init__(self, keys: list[tuple[int, int]]) -> None:
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, position):  # type: ignore[no-untyped-def]
        return self._keys[position]


def normalised(frames: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """BGR ``uint8 [N, H, W, 3]`` → normalised RGB ``float [N, 3, H, W]`` in channels-last memory."""
    rgb = frames.flip(-1).float()
    scaled = (rgb - torch.tensor(mean)) / torch.tensor(std)
    return scaled.permute(0, 3, 1, 2)

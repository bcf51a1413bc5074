"""From a data set to batches of tensors.

A sample depends only on (seed, epoch, index), so a run can be resumed, and divided among any number of processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from ..child import end_with_parent
from ..data.datasets import Dataset, Mask
from ..data.transforms import Window, random_window, recoloured
from ..errors import DataError, PspnetEdgeError
from .distributed import World

SOFT_STRIDE = 4
"""Pixels of a crop between two of the teacher's answers."""

PREFETCHED = 4
"""Micro-batches that each loader process prepares in advance."""

_GPU_WORKERS = 8


class SoftLabels(Protocol):
    """A teacher's probabilities: ``uint8 [h, w, classes]`` for each image; see ``distil``."""

    def __getitem__(self, index: int) -> NDArray[np.uint8]: ...


Sample = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]
"""Image, mask and the teacher's probabilities of one crop."""

MicroBatch = tuple[Tensor, Tensor, Tensor]
"""The same of N crops; see ``micro_batches``."""


class TrainingSamples(TorchDataset[Sample]):
    """Augmented samples of ``real`` and, as a small fraction, of ``extra``, keyed by (epoch, index).

    With ``soft`` the teacher's probabilities of each real image are included; those of extra images are all zero.
    """

    def __init__(
        self,
        real: Dataset,
        extra: Dataset | None,
        extra_fraction: float,
        crop_hw: tuple[int, int],
        scales: tuple[float, float],
        seed: int,
        soft: SoftLabels | None = None,
        rotate: float = 0.0,
    ) -> None:
        self._real = real
        self._extra = extra
        self._extra_count = round(len(real) * extra_fraction) if extra is not None else 0
        self._crop_hw = crop_hw
        self._scales = scales
        self._seed = seed
        self._soft = soft
        self._rotate = rotate

    def __len__(self) -> int:
        return len(self._real) + self._extra_count

    def epoch_order(self, epoch: int) -> list[tuple[int, int]]:
        """The keys of one epoch in the order in which they are used."""
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self))
        return [(epoch, int(index)) for index in order]

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        rng = np.random.default_rng([self._seed, epoch, index, 1])
        if index < len(self._real):
            image, mask = self._real[index]
        else:
            assert self._extra is not None
            image, mask = self._extra[int(rng.integers(len(self._extra)))]
        window = random_window(mask, self._crop_hw, rng, scales=self._scales, rotate=self._rotate)
        view = recoloured(window.of_image(image), rng)
        return view, window.of_mask(mask), self._teaching(index, window, mask)

    def _teaching(self, index: int, window: Window, mask: Mask) -> NDArray[np.uint8]:
        if self._soft is None:
            return np.empty(0, np.uint8)
        if index >= len(self._real):
            size_hw = (self._crop_hw[0] // SOFT_STRIDE, self._crop_hw[1] // SOFT_STRIDE)
            return np.zeros((*size_hw, len(self._real.label_set)), np.uint8)
        return window.of_probabilities(self._soft[index], mask.shape, SOFT_STRIDE)


@dataclass(frozen=True)
class _Collated:
    """A micro-batch on its way from a loader process.

    It travels as arrays, through a pipe. Tensors would need shared memory, of which a container has 64 MB, and sockets
    in the temporary folder, which a killed training leaves behind.
    """

    columns: tuple[NDArray[np.uint8], ...] | MicroBatch

    @classmethod
    def of(cls, samples: list[Sample]) -> _Collated:
        return cls(tuple(np.stack(column) for column in zip(*samples, strict=True)))

    def tensors(self) -> MicroBatch:
        images, masks, soft = (torch.as_tensor(column) for column in self.columns)
        return images, masks, soft

    def pin_memory(self) -> _Collated:
        """Called by the loader's own thread where it pins."""
        images, masks, soft = (tensor.pin_memory() for tensor in self.tensors())
        return _Collated((images, masks, soft))


def micro_batches(
    samples: TrainingSamples, epochs: range, batch: int, accumulate: int, workers: int, world: World
) -> Iterator[MicroBatch]:
    """What this process computes of every batch of every epoch; an incomplete last batch is left out.

    Each micro-batch is ``uint8 [N, H, W, 3]`` BGR, ``int64 [N, H, W]`` and the teacher's ``uint8 [N, H/4, W/4,
    classes]``, which is empty where there is no teacher; ``accumulate`` of them are one step. The loader processes live
    as long as the iterator and prepare the next epoch in time.
    """
    of_process = batch // world.size
    keys = _Keys(samples, epochs, batch, range(world.rank * of_process, (world.rank + 1) * of_process))
    loader = DataLoader(
        samples,
        batch_size=of_process // accumulate,
        sampler=keys,
        num_workers=workers,
        collate_fn=_Collated.of,
        prefetch_factor=PREFETCHED if workers else None,
        worker_init_fn=_begin_worker,
        # Its own generator, so that reading draws nothing from the one that dropout uses.
        generator=torch.Generator(),
        pin_memory=world.device.type == "cuda",
    )
    for collated in _with_plain_errors(loader):
        frames, labels, teaching = (tensor.to(world.device, non_blocking=True) for tensor in collated.tensors())
        yield frames, labels.long(), teaching


def choose_workers(wanted: int | None, world: World) -> int:
    """How many loader processes to use.

    Args:
        wanted: what the user asked for; None takes one on a CPU, which is busy with the training itself, and up to
            eight on a GPU.
        world: the processes that compute together.
    """
    if wanted is not None:
        return wanted
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1 if world.device.type == "cpu" else max(1, min(_GPU_WORKERS, processors // world.local_size - 1))


def _with_plain_errors(loader: DataLoader[Sample]) -> Iterator[_Collated]:
    """The batches; an error of a loader process loses the traceback that PyTorch puts into its message."""
    try:
        yield from loader
    except PspnetEdgeError as error:
        raise type(error)(str(error).rstrip().rpartition("\n")[2].removeprefix(_full_name(error))) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            "a process that prepares batches was killed, probably for lack of memory", "lower --workers"
        ) from error


def _full_name(error: Exception) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}: "


def _begin_worker(_: int) -> None:
    # Otherwise, when its parent is killed, a worker waits forever for its batches to be read.
    end_with_parent()
    # A worker is one of several processes; OpenCV's own threads would take the processor from the training step.
    cv2.setNumThreads(0)


class _Keys(Sampler[tuple[int, int]]):
    """Yields the (epoch, index) keys of one process's part of every batch."""

    def __init__(self, samples: TrainingSamples, epochs: range, batch: int, positions: range) -> None:
        self._samples = samples
        self._epochs = epochs
        self._batch = batch
        self._positions = positions

    def __len__(self) -> int:
        return len(self._epochs) * (len(self._samples) // self._batch) * len(self._positions)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for epoch in self._epochs:
            order = self._samples.epoch_order(epoch)
            for start in range(0, len(order) - self._batch + 1, self._batch):
                yield from (order[start + position] for position in self._positions)


def normalised(frames: Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> Tensor:
    """Frames ``uint8 [N, H, W, C]`` → normalized ``float [N, C, H, W]`` in channels-last memory.

    BGR becomes RGB; a single channel and a fourth stay where they are.
    """
    rgb = torch.cat([frames[..., :3].flip(-1), frames[..., 3:]], -1).float()
    scaled = (rgb - torch.as_tensor(mean, device=frames.device)) / torch.as_tensor(std, device=frames.device)
    return scaled.permute(0, 3, 1, 2)

"""Which images calibrate a model."""

from __future__ import annotations

from dataclasses import dataclass

from ..labels import LabelSet
from .datasets import Dataset, Image, Mask


@dataclass(frozen=True)
class Subset:
    """Some pairs of a data set, in a given order."""

    dataset: Dataset
    indices: tuple[int, ...]

    @property
    def label_set(self) -> LabelSet:
        """Of the whole set."""
        return self.dataset.label_set

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Image, Mask]:
        return self.dataset[self.indices[index]]

    def name(self, index: int) -> str:
        """What the pair is called in the whole set."""
        return self.dataset.name(self.indices[index])


def evenly_spaced(dataset: Dataset, count: int) -> Subset:
    """At most ``count`` pairs, evenly spaced, so that every sequence of a video data set is there."""
    count = min(count, len(dataset))
    return Subset(dataset, tuple(position * len(dataset) // count for position in range(count)))

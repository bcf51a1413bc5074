"""Some pairs of a data set, chosen without chance."""

from __future__ import annotations

from dataclasses import dataclass

from ..labels import LabelSet
from ..pixels import PixelFormat
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

    @property
    def pixels(self) -> PixelFormat:
        """Of the whole set."""
        return self.dataset.pixels

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Image, Mask]:
        return self.dataset[self.indices[index]]

    def image(self, index: int) -> Image:
        """The image of one pair; its mask is not read."""
        return self.dataset.image(self.indices[index])

    def mask(self, index: int) -> Mask:
        """The mask of one pair."""
        return self.dataset.mask(self.indices[index])

    def name(self, index: int) -> str:
        """What the pair is called in the whole set."""
        return self.dataset.name(self.indices[index])


def evenly_spaced(dataset: Dataset, count: int) -> Subset:
    """At most ``count`` pairs, evenly spaced, so that every sequence of a video data set is there."""
    return Subset(dataset, evenly(len(dataset), count))


def evenly(total: int, count: int) -> tuple[int, ...]:
    """At most ``count`` of the indices below ``total``, evenly spaced."""
    count = min(count, total)
    return tuple(position * total // count for position in range(count))

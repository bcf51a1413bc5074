"""Some images of a set, chosen without chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import overload

from ..labels import LabelSet
from ..pixels import PixelFormat
from .datasets import Dataset, Image, ImageSet, Mask, is_labelled


@dataclass(frozen=True)
class SomeImages:
    """Some images of a set, in a given order."""

    dataset: ImageSet
    indices: tuple[int, ...]

    @property
    def pixels(self) -> PixelFormat:
        """Of the whole set."""
        return self.dataset.pixels

    def __len__(self) -> int:
        return len(self.indices)

    def image(self, index: int) -> Image:
        """One image; a mask that it has is not read."""
        return self.dataset.image(self.indices[index])

    def name(self, index: int) -> str:
        """What it is called in the whole set."""
        return self.dataset.name(self.indices[index])


@dataclass(frozen=True)
class Subset(SomeImages):
    """Some pairs of a data set, in a given order."""

    dataset: Dataset

    @property
    def label_set(self) -> LabelSet:
        """Of the whole set."""
        return self.dataset.label_set

    def __getitem__(self, index: int) -> tuple[Image, Mask]:
        return self.dataset[self.indices[index]]

    def mask(self, index: int) -> Mask:
        """The mask of one pair."""
        return self.dataset.mask(self.indices[index])


@overload
def some_of(images: Dataset, indices: tuple[int, ...]) -> Subset: ...
@overload
def some_of(images: ImageSet, indices: tuple[int, ...]) -> ImageSet: ...
def some_of(images: ImageSet, indices: tuple[int, ...]) -> ImageSet:
    """Some images of a set, with their labels where it has them."""
    return Subset(images, indices) if is_labelled(images) else SomeImages(images, indices)


@overload
def evenly_spaced(images: Dataset, count: int) -> Subset: ...
@overload
def evenly_spaced(images: ImageSet, count: int) -> ImageSet: ...
def evenly_spaced(images: ImageSet, count: int) -> ImageSet:
    """At most ``count`` images, evenly spaced, so that every sequence of a video data set is there."""
    return some_of(images, evenly(len(images), count))


def evenly(total: int, count: int) -> tuple[int, ...]:
    """At most ``count`` of the indices below ``total``, evenly spaced."""
    count = min(count, total)
    return tuple(position * total // count for position in range(count))

"""What the masks of a training set hold, and what will go wrong with it: said before the first step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.datasets import Dataset, iterate
from ..data.subset import evenly_spaced
from ..labels import IGNORE

_SAMPLED = 200
_MUCH_IGNORED = 0.02


@dataclass(frozen=True)
class LabelCounts:
    """How many pixels of the masks have each id.

    ``pixels`` is ``int64 [256]``, IGNORE included; ``complete`` says whether every mask was read or only a sample.
    """

    classes: tuple[str, ...]
    pixels: NDArray[np.int64]
    complete: bool

    def frequencies(self) -> NDArray[np.float64]:
        """``float [classes]``: each class's share of the labelled pixels; all 0 where nothing is labelled."""
        known = self.pixels[: len(self.classes)].astype(np.float64)
        return np.asarray(known / max(known.sum(), 1))

    def warnings(self) -> list[str]:
        """One sentence for each thing about the labels that training cannot recover from."""
        frequencies = self.frequencies()
        missing = [name for name, share in zip(self.classes, frequencies) if share == 0]
        ignored = float(self.pixels[IGNORE] / max(int(self.pixels.sum()), 1))
        if ignored == 1:
            return ["every pixel of the masks is 255, which means ignore: nothing can be learned from them"]
        if not missing or not self.complete:
            return []
        named = ", ".join(missing)
        verb = "never occurs" if len(missing) == 1 else "never occur"
        text = f"{named} {verb} in the training masks"
        if ignored >= _MUCH_IGNORED:
            text += (
                f", and 255 (ignore) covers {ignored:.1%} of them: if 255 is an object, as in black-and-white masks of "
                f"0 and 255, save it as its class id instead"
            )
        else:
            text += ": check classes.txt and the ids in the masks with `pspnet-edge data check`"
        return [text]


def count_labels(dataset: Dataset, complete: bool) -> LabelCounts:
    """Count the ids in the masks, in all or in an evenly spaced sample.

    Raises:
        DataError: an image or mask that cannot be read.
    """
    chosen = dataset if complete or len(dataset) <= _SAMPLED else evenly_spaced(dataset, _SAMPLED)
    pixels = np.zeros(256, np.int64)
    for _, mask in iterate(chosen):
        pixels += np.bincount(mask.ravel(), minlength=256)
    return LabelCounts(dataset.label_set.classes, pixels, len(chosen) == len(dataset))

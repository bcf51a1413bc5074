"""The start of quantization-aware training: a trained network, and the ranges of its activations on images."""

from __future__ import annotations

import torch
from torch import Tensor

from ..data.datasets import Dataset
from ..data.subset import evenly_spaced
from ..histogram import Histogram
from ..model.pspnet import PSPNet
from ..model.quantiser import Pairs, Quantiser
from .validate import prediction

IMAGES = 32
_METHOD = "mse"


def quantise(model: PSPNet, dataset: Dataset) -> None:
    """Make a trained network compute as its INT8 graph does, with ranges measured on ``IMAGES`` images of a data set.

    Raises:
        CalibrationError: an activation is not finite.
    """
    histograms: list[Histogram] = []

    def see(index: int, x: Tensor) -> Tensor:
        if index == len(histograms):
            histograms.append(Histogram())
        histograms[index].add(x.numpy())
        return x

    model.eval()
    chosen = evenly_spaced(dataset, IMAGES)
    for index in range(len(chosen)):
        with Pairs(model.never_quantised(), see, lambda index, weights: weights):
            prediction(model, chosen.image(index), torch.device("cpu"))
    ranges = [histogram.amax(_METHOD) for histogram in histograms]
    ranges[0] = _lossless_range(model) or ranges[0]
    model.quantiser = Quantiser(ranges)


def _lossless_range(model: PSPNet) -> float | None:
    """The range in which a step is one grey level of a frame; None where normalization leaves no such range.

    It is ``graph/quantize.pixel_steps`` for a network that is no graph yet.
    """
    means, deviations = set(model.mean), set(model.std)
    if len(means) == len(deviations) == 1 and min(means) in (127.0, 128.0):
        return 127 / min(deviations)
    return None

"""mIoU of an engine over a labelled split."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..data.datasets import Dataset
from ..data.geometry import frame_at, mask_at
from ..engine.base import Engine
from ..errors import OptionError
from ..metrics import ConfusionMatrix


def evaluate_engine(
    engine: Engine, dataset: Dataset, *, on_image: Callable[[int], None] = lambda done: None
) -> dict[str, Any]:
    """Segment every image and compare at the label's own size, in one confusion matrix over the split.

    Args:
        engine: its classes must be those of the data set.
        dataset: images and masks.
        on_image: called with the number of images done.

    Returns:
        ``miou``, ``per_class_iou`` by class name, ``pixel_accuracy``, ``images``, ``compute_ms`` (median time of
        one batch in the engine).

    Raises:
        OptionError: the classes differ.
        DataError: an image or mask cannot be used.
    """
    labels = dataset.label_set
    if engine.info.label_set.classes != labels.classes:
        raise OptionError(
            f"the engine's classes ({_few(engine.info.label_set.classes)}) are not those of {labels.name} "
            f"({_few(labels.classes)}): evaluate on the data set that it was trained for"
        )
    matrix = ConfusionMatrix(len(labels))
    times: list[float] = []
    batch_size = engine.info.shape_nhw[0]
    frames = np.zeros((batch_size, *engine.size_hw, 3), np.uint8)
    for first in range(0, len(dataset), batch_size):
        # The last batch may be partly filled; what stands in its other places is not counted.
        pairs = [dataset[index] for index in range(first, min(first + batch_size, len(dataset)))]
        for place, (image, _) in enumerate(pairs):
            frames[place] = frame_at(image, engine.size_hw)
        start = time.perf_counter()
        masks = engine.infer(frames)
        times.append(time.perf_counter() - start)
        for predicted, (_, label) in zip(masks, pairs):
            matrix.add(label, mask_at(predicted, (label.shape[0], label.shape[1])))
        on_image(first + len(pairs))
    return {
        "miou": matrix.miou(),
        "per_class_iou": dict(zip(labels.classes, matrix.iou().tolist())),
        "pixel_accuracy": matrix.pixel_accuracy(),
        "images": len(dataset),
        "compute_ms": round(1000 * float(np.median(times)), 3),
    }


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f" … {len(names)} in all" if len(names) > 3 else "")

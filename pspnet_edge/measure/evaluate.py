"""mIoU of an engine over a labelled split."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..data.datasets import Dataset
from ..data.geometry import STRETCHED, UNKNOWN, Geometry, Layout, mask_at
from ..engine.engine import Engine
from ..engine.segment import segment_frame
from ..errors import DataError
from ..metrics import ConfusionMatrix
from ..records import counted
from .facts import Score
from .processes import ALONE, Processes

_log = logging.getLogger(__name__)

_Item = TypeVar("_Item")
_Loaded = TypeVar("_Loaded")
_Example = tuple[NDArray[np.uint8], NDArray[np.uint8], Layout]
"""An image, at the engine's size or whole; its label; how the one lies in the other."""
_AHEAD = 8
"""Images that wait decoded."""


def evaluate_engine(
    engine: Engine,
    dataset: Dataset,
    *,
    on_image: Callable[[int], None] = lambda done: None,
    processes: Processes = ALONE,
    geometry: Geometry = STRETCHED,
) -> Score:
    """Segment every image and compare at the label's own size, in one confusion matrix over the split.

    Images are read, decoded and resized ahead by other threads. Of several processes each takes its share of the
    images; their matrices hold whole numbers, so that their sum does not depend on how many processes there are.

    Args:
        engine: its classes must be those of the data set.
        dataset: images and masks.
        on_image: called with the number of images that this process has done.
        processes: those that evaluate together; all of them get the result.
        geometry: how images go into the engine. Pixels that no engine looked at, such as those beside a crop, count as
            ignored.

    Returns:
        ``miou``, ``per_class_iou`` by class name, ``confusion_matrix`` (pixels, a row per label and a
        column per prediction), ``pixel_accuracy``, ``coverage`` (share of the labelled pixels that
        the engine did not leave unknown, and on which the rest is measured), ``images``, ``compute_ms`` (median time of
        one batch in the engine), ``processes``, and ``times_ms``: mean wall time an image of the process that took
        longest, as ``total`` and its parts ``load`` (waiting for the image), ``infer`` and ``confusion``.

    Raises:
        DataError: the classes differ, or an image or mask cannot be used.
    """
    labels = dataset.label_set
    if engine.info.label_set.classes != labels.classes:
        raise DataError(
            f"the engine's classes ({_few(engine.info.label_set.classes)}) are not those of the data set "
            f"({_few(labels.classes)}): give --root the data set that it was trained for"
        )
    share = processes.share(len(dataset))
    shares = processes.gather(lambda: _counted(engine, dataset, share, on_image, geometry))
    matrix = ConfusionMatrix(len(labels))
    for counts, _, _, _ in shares:
        matrix.counts += counts
    unsure = sum(pixels for _, _, _, pixels in shares)
    judged = int(matrix.counts.sum())
    _log.info("mIoU %.4f over %s", matrix.miou(), counted(len(dataset), "image"))
    slowest = max((spent for _, spent, _, _ in shares), key=lambda spent: spent["total"])
    return {
        "miou": matrix.miou(),
        "per_class_iou": dict(zip(labels.classes, matrix.iou().tolist())),
        "confusion_matrix": matrix.counts.tolist(),
        "pixel_accuracy": matrix.pixel_accuracy(),
        "coverage": judged / (judged + unsure) if judged + unsure else float("nan"),
        "images": len(dataset),
        "compute_ms": round(
            1000 * float(np.median([seconds for _, _, batches, _ in shares for seconds in batches])), 3
        ),
        "processes": processes.count,
        "times_ms": {part: round(1000 * seconds / max(len(share), 1), 3) for part, seconds in slowest.items()},
    }


def _counted(
    engine: Engine, dataset: Dataset, share: range, on_image: Callable[[int], None], geometry: Geometry
) -> tuple[NDArray[np.int64], dict[str, float], list[float], int]:
    """Of some images: confusion counts, seconds of each part and batch, and labelled pixels left unknown."""
    matrix = ConfusionMatrix(len(dataset.label_set))
    spent = {"total": 0.0, "load": 0.0, "infer": 0.0, "confusion": 0.0}
    batches: list[float] = []
    unsure = 0
    frames = np.zeros((engine.info.shape_nhw[0], *engine.size_hw, engine.info.channels), np.uint8)
    start = lap = time.perf_counter()

    def split(part: str) -> float:
        nonlocal lap
        before, lap = lap, time.perf_counter()
        spent[part] += lap - before
        return lap - before

    def load(index: int) -> _Example:
        image, label = dataset[index]
        layout = geometry.layout((image.shape[0], image.shape[1]), engine.size_hw)
        # Tiles are cut when it is their turn: of a large image they take more memory than the image.
        return (image if geometry.tiles else next(layout.inputs(image))), label, layout

    def segmented(examples: list[_Example]) -> list[NDArray[np.uint8]]:
        if geometry.tiles:
            masks = [segment_frame(engine, image, geometry) for image, _, _ in examples]
            batches.append(split("infer"))
            return masks
        # The last batch may be partly filled; the rest of it is not counted.
        for place, (frame, _, _) in enumerate(examples):
            frames[place] = frame
        split("load")
        found = engine.infer(frames)
        batches.append(split("infer"))
        return [layout.mask([mask]) for mask, (_, _, layout) in zip(found, examples)]

    done = 0
    limited = engine.info.facts.get("min_confidence") is not None
    for examples in _batches(_loaded_ahead(load, share), 1 if geometry.tiles else len(frames)):
        split("load")
        for predicted, (_, label, _) in zip(segmented(examples), examples):
            full = mask_at(predicted, (label.shape[0], label.shape[1]))
            unsure += _add(matrix, label, full, geometry, limited)
        split("confusion")
        done += len(examples)
        on_image(done)
    spent["total"] = time.perf_counter() - start
    return matrix.counts, spent, batches, unsure


def _add(
    matrix: ConfusionMatrix,
    label: NDArray[np.uint8],
    predicted: NDArray[np.uint8],
    geometry: Geometry,
    limited: bool,
) -> int:
    """Count one image, without what lies outside of a crop and what is not confident enough.

    Returns how many labelled pixels are left out.
    """
    unsure = 0
    if limited or geometry.fit == "crop" or geometry.roi is not None:
        left_out = predicted == UNKNOWN
        unsure = int(np.count_nonzero(left_out & (label != UNKNOWN))) if limited else 0
        label = np.where(left_out, UNKNOWN, label)
    matrix.add(label, predicted)
    return unsure


def _loaded_ahead(load: Callable[[_Item], _Loaded], items: Iterable[_Item]) -> Iterator[_Loaded]:
    """What ``load`` makes of each item, in order, made by threads while the caller works on earlier ones."""
    pool = ThreadPoolExecutor(min(_AHEAD, os.cpu_count() or 1), "load")
    waiting: deque[Future[_Loaded]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(load, item))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    batch: list[_Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f" … {len(names)} in all" if len(names) > 3 else "")

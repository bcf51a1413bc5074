"""Segment pictures of any size with an engine of one size."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ..data.geometry import STRETCHED, Geometry, Window, mask_at
from .engine import Engine
from .session import View


def segment_frame(
    engine: Engine,
    frame: NDArray[np.uint8],
    geometry: Geometry = STRETCHED,
    on_batch: Callable[[], None] = lambda: None,
) -> NDArray[np.uint8]:
    """Class ids ``uint8 [H, W]`` of one frame, the caller's own.

    Memory beside the frame and its mask is that of one batch of the engine, however large the frame is.

    Args:
        engine: its batch is filled with tiles where there are any.
        frame: ``uint8 [H, W, C]``.
        geometry: how it goes into the engine.
        on_batch: called after each call of the engine.

    Raises:
        OptionError: the geometry does not fit the frame.
        EngineError: the runtime failed.
    """
    frame = engine.with_channels(frame)
    frame_hw = (frame.shape[0], frame.shape[1])
    layout = geometry.layout(frame_hw, engine.size_hw)
    batch = engine.info.shape_nhw[0]
    inputs = np.zeros((0 if engine.fits else batch, *engine.size_hw, *frame.shape[2:]), np.uint8)
    found: NDArray[np.uint8] | None = None
    pieces = itertools.repeat(frame, len(layout.windows)) if engine.fits else layout.inputs(frame)
    for windows in _batches(zip(layout.windows, pieces, strict=True), batch):
        if engine.fits:
            masks = engine.infer_views([View(frame, window) for window, _ in windows])
        else:
            for place, (_, each) in enumerate(windows):
                inputs[place] = each
            masks = engine.infer(inputs)
        on_batch()
        if len(layout.windows) == 1:
            return mask_at(layout.mask([masks[0]]), frame_hw)
        found = layout.empty_mask() if found is None else found
        for mask, (window, _) in zip(masks, windows, strict=False):
            layout.put(found, window, mask)
    assert found is not None
    return found


def _batches(
    items: Iterator[tuple[Window, NDArray[np.uint8]]], size: int
) -> Iterator[list[tuple[Window, NDArray[np.uint8]]]]:
    batch: list[tuple[Window, NDArray[np.uint8]]] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch

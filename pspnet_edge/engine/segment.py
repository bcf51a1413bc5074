"""Segment pictures of any size with an engine of one size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..data.geometry import STRETCHED, Geometry, mask_at
from .engine import Engine
from .session import View


def view_of(engine: Engine, frame: NDArray[np.uint8], geometry: Geometry = STRETCHED) -> View:
    """What an engine sees of a frame ``uint8 [H, W, C]`` by a geometry without tiles."""
    frame = engine.with_channels(frame)
    return View(frame, geometry.layout((frame.shape[0], frame.shape[1]), engine.size_hw).windows[0])


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
    found = None if len(layout.windows) == 1 else layout.empty_mask()
    for start in range(0, len(layout.windows), batch):
        windows = layout.windows[start : start + batch]
        masks = engine.infer_views([View(frame, window) for window in windows])
        on_batch()
        if found is None:
            return mask_at(layout.mask([masks[0]]), frame_hw)
        for mask, window in zip(masks, windows, strict=False):
            layout.put(found, window, mask)
    assert found is not None
    return found

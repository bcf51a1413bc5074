"""What a runtime offers to the rest of the package: the contract that every backend implements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ..data.geometry import Window


class Session(Protocol):
    """A runtime that holds one engine, for one thread at a time. It trusts its input; ``Engine`` has checked it."""

    output_is_reused: bool
    """Whether the array that ``infer`` returns is overwritten by the next call; ``Engine`` copies it then."""

    def infer(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """``uint8 [N, H, W, 3]`` BGR → ``uint8 [N, H, W]``."""

    def close(self) -> None:
        """Free what the runtime holds. Called once."""


@runtime_checkable
class ScoringSession(Session, Protocol):
    """A session that can tell how sure it is, where its engine was built with scores."""

    def infer_scores(self, frames: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """``uint8 [N, H, W, 3]`` BGR → masks ``uint8 [N, H, W]`` and scores ``float32 [N, h, w]``, 0–1."""


IN_FLIGHT = 2
"""Batches that an ``OverlappingSession`` takes before the first must be fetched."""


@runtime_checkable
class OverlappingSession(Session, Protocol):
    """A session that works on one batch while the next is written and the last is read: up to ``IN_FLIGHT`` of them."""

    def submit(self, frames: NDArray[np.uint8]) -> None:
        """Begin with ``uint8 [N, H, W, 3]``, which may be overwritten as soon as this returns."""

    def take(self) -> NDArray[np.uint8]:
        """Wait for the oldest batch: ``uint8 [N, H, W]``, overwritten by the next ``submit`` but one."""


@dataclass(frozen=True)
class View:
    """What an engine sees of a picture."""

    frame: NDArray[np.uint8]
    """``uint8 [H, W, C]``; more channels than the network takes are passed over, as the last of BGRx."""
    window: Window
    """Which part of the frame, and where it lies in the engine's input."""


@runtime_checkable
class FittingSession(OverlappingSession, Protocol):
    """A session that brings pictures of any size to the engine's, as ``data.geometry.Layout.inputs`` does."""

    fits: bool
    """Whether its engine was built so."""

    def submit_views(self, views: Sequence[View]) -> None:
        """Begin with up to ``N`` pictures, which may be overwritten as soon as this returns; then ``take``."""

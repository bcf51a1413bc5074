"""One runtime for several threads and streams.

Runtimes work for one thread at a time, and those that overlap batches return masks in the order in which batches were
submitted, whoever asks. So users take turns at a lock, and whoever waits for its mask puts aside those of the others.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from .session import IN_FLIGHT, FittingSession, OverlappingSession, ScoringSession, Session, View

Masks = NDArray[np.uint8]


class SharedSession:
    """Owns a session and gives out shares of it.

    Args:
        session: closed with any share.
        name: of the engine, for errors.
    """

    def __init__(self, session: Session, name: str) -> None:
        self._lock = threading.RLock()
        self._session: Session = session
        self._overlapping = session if isinstance(session, OverlappingSession) else None
        self._fitting = session if isinstance(session, FittingSession) and session.fits else None
        self._name = name
        self._flying: deque[Share] = deque()

    def open_share(self) -> Share:
        """One more user; one that overlaps if the session does."""
        return Share(self) if self._overlapping is None else OverlappingShare(self)

    def infer(self, frames: NDArray[np.uint8]) -> Masks:
        """See ``Session``; the array is the caller's own."""
        with self._lock:
            # Some runtimes refuse to infer while batches are in flight.
            while self._flying:
                self._land()
            masks = self._session.infer(frames)
            return masks.copy() if self._session.output_is_reused else masks

    def infer_scores(self, frames: NDArray[np.uint8]) -> tuple[Masks, NDArray[np.float32]]:
        """See ``ScoringSession``; the arrays are the caller's own."""
        with self._lock:
            while self._flying:
                self._land()
            if not isinstance(self._session, ScoringSession):
                raise _closed(self._name)
            masks, scores = self._session.infer_scores(frames)
            return masks.copy(), scores.copy()

    def submit(self, share: Share, frames: NDArray[np.uint8]) -> None:
        """Begin a batch of one user, after putting aside the oldest of others if there is no room.

        Raises:
            EngineError: the user has as many batches to take as fit.
        """
        self._begin(share, lambda: self._overlap().submit(frames))

    @property
    def fits(self) -> bool:
        """Whether the session takes pictures of any size."""
        return self._fitting is not None

    def submit_views(self, share: Share, views: Sequence[View]) -> None:
        """The same with pictures of any size."""

        def begin() -> None:
            if self._fitting is None:
                raise _closed(self._name)
            self._fitting.submit_views(views)

        self._begin(share, begin)

    def _begin(self, share: Share, submit: Callable[[], None]) -> None:
        with self._lock:
            self._overlap()
            if len(share.landed) + self._flying.count(share) >= IN_FLIGHT:
                raise EngineError(f"{IN_FLIGHT} batches are in flight: take a mask before the next frame")
            while len(self._flying) >= IN_FLIGHT:
                self._land()
            submit()
            self._flying.append(share)

    def take(self, share: Share) -> Masks:
        """The oldest masks of one user.

        Raises:
            EngineError: it has no batch in flight.
        """
        with self._lock:
            while not share.landed:
                self._overlap()
                if share not in self._flying:
                    raise EngineError("no frame is in flight", "submit one before taking a mask")
                self._land()
            return share.landed.popleft()

    def close(self) -> None:
        """Close the session, once no thread is in it; all shares are closed then."""
        with self._lock:
            session, self._session = self._session, ClosedSession(self._name)
            self._overlapping = self._fitting = None
            self._flying.clear()
            session.close()

    def _land(self) -> None:
        """Wait for the oldest batch in flight and keep its masks for whom they belong to."""
        session = self._overlap()
        share = self._flying.popleft()
        share.landed.append(session.take().copy())

    def _overlap(self) -> OverlappingSession:
        if self._overlapping is None:
            raise _closed(self._name)
        return self._overlapping


class Share:
    """A session for one user of a ``SharedSession``."""

    output_is_reused = False

    def __init__(self, shared: SharedSession) -> None:
        self.landed: deque[Masks] = deque()
        self._shared = shared

    def open_another(self) -> Share:
        """For one more user."""
        return self._shared.open_share()

    def infer(self, frames: NDArray[np.uint8]) -> Masks:
        """See ``Session``."""
        return self._shared.infer(frames)

    def infer_scores(self, frames: NDArray[np.uint8]) -> tuple[Masks, NDArray[np.float32]]:
        """See ``ScoringSession``."""
        return self._shared.infer_scores(frames)

    def close(self) -> None:
        """See ``Session``."""
        self._shared.close()


class OverlappingShare(Share):
    """A share of a session that overlaps batches."""

    def submit(self, frames: NDArray[np.uint8]) -> None:
        """See ``OverlappingSession``."""
        self._shared.submit(self, frames)

    @property
    def fits(self) -> bool:
        """See ``FittingSession``."""
        return self._shared.fits

    def submit_views(self, views: Sequence[View]) -> None:
        """See ``FittingSession``."""
        self._shared.submit_views(self, views)

    def take(self) -> Masks:
        """See ``OverlappingSession``; the array is the caller's own."""
        return self._shared.take(self)


class ClosedSession:
    """What is left of a session that was closed."""

    output_is_reused = False

    def __init__(self, name: str) -> None:
        self._name = name

    def infer(self, frames: NDArray[np.uint8]) -> Masks:
        """See ``Session``."""
        raise _closed(self._name)

    def close(self) -> None:
        """See ``Session``."""


def _closed(name: str) -> EngineError:
    return EngineError(f"{name} was closed", "open it again, or use it inside its with block")

"""Passing things from several threads to one: each source has its own lane."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Lanes(Generic[Item]):
    """A lane keeps what was put into it in order until it is taken.

    A live lane holds one thing, the newest, and counts what it threw away; another lane makes its thread wait for room.

    Args:
        live: one flag a lane.
        depth: how many things a lane that is not live may hold.
    """

    def __init__(self, live: Sequence[bool], depth: int) -> None:
        self._live = tuple(live)
        self._depth = depth
        self._waiting: list[deque[Item]] = [deque() for _ in live]
        self._unfinished = set(range(len(live)))
        self._next = 0
        self._closed = False
        self._changed = threading.Condition()
        self.dropped = [0] * len(self._live)

    def put(self, lane: int, item: Item) -> bool:
        """Hand over; False when there is no taker."""
        queue = self._waiting[lane]
        with self._changed:
            if self._live[lane]:
                self.dropped[lane] += len(queue)
                queue.clear()
            else:
                self._changed.wait_for(lambda: self._closed or len(queue) < self._depth)
            if self._closed:
                return False
            queue.append(item)
            self._changed.notify_all()
            return True

    def take(self, most: int, timeout_s: float | None = None) -> list[Item] | None:
        """Up to ``most`` things, from the lanes in turn; empty when the time is up, None at the end.

        It waits until there are as many or, where only live lanes could bring more, for the first one.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            self._changed.wait_for(lambda: self._is_ready(most), left)
            if self._closed or not (self._unfinished or any(self._waiting)):
                return None
            if not self._is_ready(most):
                return []
            taken = self._take_in_turn(most)
            self._changed.notify_all()
            return taken

    def finish(self, lane: int) -> None:
        """Nothing more comes on this lane; what waits there is still taken."""
        with self._changed:
            self._unfinished.discard(lane)
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing takes frames any more: wake both sides."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _is_ready(self, most: int) -> bool:
        waiting = sum(map(len, self._waiting))
        if self._closed or waiting >= most or not self._unfinished:
            return True
        return waiting > 0 and all(self._live[lane] for lane in self._unfinished)

    def _take_in_turn(self, most: int) -> list[Item]:
        taken: list[Item] = []
        while len(taken) < most and any(self._waiting):
            queue = self._waiting[self._next]
            self._next = (self._next + 1) % len(self._waiting)
            if queue:
                taken.append(queue.popleft())
        return taken

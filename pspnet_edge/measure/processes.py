"""The processes of one command, on one machine or several: what ``torchrun`` started, or this one alone.

``torch`` is imported only under ``torchrun``: a board has neither.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from ..errors import PspnetEdgeError
from ..lazy import require

_Result = TypeVar("_Result")


class Processes:
    """All processes of a command as one of them sees them.

    Args:
        rank: which of them this is, from 0.
        count: how many there are.
        local_rank: which of those on this machine this is, from 0.
        exchange: given a value, returns those of all processes in the order of their ranks.
    """

    def __init__(self, rank: int, count: int, local_rank: int, exchange: Callable[[Any], list[Any]]) -> None:
        self.rank = rank
        self.count = count
        self._local_rank = local_rank
        self._exchange = exchange

    def share(self, items: int) -> range:
        """The indices below ``items`` that are this process's, so that every one is exactly one process's."""
        return range(self.rank, items, self.count)

    def gather(self, work: Callable[[], _Result]) -> list[_Result]:
        """Do work in every process, and return what it gave in each, by rank.

        Raises:
            PspnetEdgeError: in the first process, when the work failed in any.
            SystemExit: in the others then; they leave the word to the first.
        """
        result, failure = None, None
        try:
            result = work()
        except PspnetEdgeError as error:
            failure = error
        answers = self._exchange((result, failure))
        failures = [failed for _, failed in answers if failed is not None]
        if not failures:
            return [given for given, _ in answers]
        if self.rank == 0:
            raise failures[0]
        raise SystemExit(0)  # not 1: torchrun would kill the first process before it has spoken

    def in_turn(self, make: Callable[[], _Result]) -> _Result:
        """Make the same thing in every process, first in one of each machine, so that the others find its files.

        Raises:
            PspnetEdgeError, SystemExit: as ``gather``.
        """
        made: list[_Result] = []

        def make_if(mine: bool) -> None:
            if mine:
                made.append(make())

        self.gather(lambda: make_if(self._local_rank == 0))
        self.gather(lambda: make_if(self._local_rank != 0))
        return made[0]


ALONE = Processes(0, 1, 0, lambda value: [value])
"""One process without others."""


@contextmanager
def started_processes() -> Iterator[Processes]:
    """The processes that ``torchrun`` started, connected while the context lasts; without it ``ALONE``.

    Raises:
        MissingPackage: the variables of ``torchrun`` are set and torch is not installed.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "RANK" not in os.environ:
        yield ALONE
        return
    distributed = require("torch", "evaluate on several processes").distributed
    distributed.init_process_group("gloo")

    def exchange(value: Any) -> list[Any]:
        values: list[Any] = [None] * count
        distributed.all_gather_object(values, value)
        return values

    try:
        yield Processes(int(os.environ["RANK"]), count, int(os.environ.get("LOCAL_RANK", "0")), exchange)
    finally:
        distributed.destroy_process_group()

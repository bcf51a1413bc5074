"""What commands print: messages and progress on stderr, one JSON object on stdout with ``--json``."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Annotated, Protocol

import typer

from ..errors import OutputError
from ..log import PRINTED, redacted
from ..records import printable, to_json

_printed = logging.getLogger(PRINTED)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")]


class Advance(Protocol):
    """Called with how much is done and, perhaps, a few words on how it goes."""

    def __call__(self, done: int, note: str = "") -> None: ...


def say(text: str, *, with_secrets: bool = False) -> None:
    """A line for people on stderr, without the credentials of any address in it.

    ``with_secrets`` shows them, for a token that was made up and that only this line tells. The log never has them.
    """
    # Whoever read it has gone; that is no reason to end a run.
    with suppress(BrokenPipeError):
        print(printable(text) if with_secrets else redacted(printable(text)), file=sys.stderr, flush=True)
    _printed.info("%s", text)


def result(facts: Mapping[str, object], as_json: bool, summary: str) -> None:
    """What the command found: the JSON object, or a summary for people."""
    _printed.info("%s", summary)
    try:
        print(to_json(facts, indent=2) if as_json else printable(summary), flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"the result cannot be printed ({error.strerror})", "send stdout elsewhere") from error


def duration(seconds: float) -> str:
    """``0.4 s``, ``35 s``, ``12 min``, ``2 h 5 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Advance]:
    """Show how far long work is: a bar with the time left on a terminal, a plain line every few seconds elsewhere."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=total, note="")

            def advance(done: int, note: str = "") -> None:
                bar.update(task, completed=done, note=note)

            yield advance
        return
    yield _plain_lines(what, total)


def _plain_lines(what: str, total: int | None, every_s: float = 10.0) -> Advance:
    spoken = time.monotonic()
    first: tuple[int, float] | None = None  # resumed work does not begin at zero

    def advance(done: int, note: str = "") -> None:
        nonlocal first, spoken
        now = time.monotonic()
        first = first or (done, now)
        if now - spoken < every_s or done == 0:
            return
        spoken = now
        since, start = first
        share = f"{done}/{total}" if total else str(done)
        left = f", {duration((now - start) / (done - since) * (total - done))} left" if total and done > since else ""
        say(f"{what}: {share}{left}{'  ' + note if note else ''}")

    return advance

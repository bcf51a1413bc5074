"""The log: the tree ``pspnet_edge`` of Python's ``logging``. The package only writes to it; an application chooses
where it goes. The command line shows warnings, with ``-v`` what is done, with ``-vv`` every detail, and appends all of
it to the file that ``PSPNET_EDGE_LOG`` names.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from .records import printable

_log = logging.getLogger(__name__)

TREE = "pspnet_edge"
FILE_VARIABLE = "PSPNET_EDGE_LOG"
PRINTED = f"{TREE}.printed"
"""What the command line prints for people; only the file of ``PSPNET_EDGE_LOG`` gets it."""
_NATIVE = logging.getLogger(f"{TREE}.native")
_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)

# user:password@ of an address; everything up to the last @ before the path
_CREDENTIALS = re.compile(r"(?<=://)[^/\s'\"]*@")
_SECRETS = re.compile(
    r"(?i)\b(token|key|secret|password|passwd|pwd|sig|signature|access_token|api_key|auth)=[^&\s'\"]+"
)
_BEARER = re.compile(r"(?i)\b(bearer|basic) [a-z0-9._~+/=-]{6,}")


def redacted(text: str) -> str:
    """``text`` without the credentials of any address in it.

    >>> redacted("rtsp://admin:pw@10.0.0.5/live?token=abc&quality=1")
    'rtsp://…@10.0.0.5/live?token=…&quality=1'
    """
    text = _CREDENTIALS.sub("…@", text)
    text = _SECRETS.sub(r"\1=…", text)
    return _BEARER.sub(r"\1 …", text)


class _Redacting(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(redacted(super().format(record)))


class _Standard(logging.Handler):
    """Writes to whatever ``sys.stderr`` is at that moment, except what a command has printed there itself."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == PRINTED:
            return
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except (OSError, ValueError):
            self.handleError(record)


class _File(logging.Handler):
    """Appends to a file; where the disk is full lines are lost, and no traceback is printed for each."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError, ValueError):
            print(self.format(record), file=self._stream, flush=True)


def start_log() -> None:
    """Send the log of this process to stderr and to the file of ``PSPNET_EDGE_LOG``. For applications only.

    Raises:
        OutputError: that file cannot be written.
    """
    tree = logging.getLogger(TREE)
    if any(isinstance(handler, _Standard) for handler in tree.handlers):
        return
    tree.setLevel(logging.DEBUG)
    tree.propagate = False
    shown = _Standard()
    shown.setLevel(_LEVELS[0])
    shown.setFormatter(_Redacting("pspnet-edge: %(message)s"))
    tree.addHandler(shown)
    if name := os.environ.get(FILE_VARIABLE):
        tree.addHandler(_file_handler(Path(name)))


def set_verbosity(count: int) -> None:
    """Show more on stderr: 1 for what is done, 2 for every detail."""
    for handler in logging.getLogger(TREE).handlers:
        if isinstance(handler, _Standard):
            handler.setLevel(min(handler.level, _LEVELS[min(count, 2)]))
            handler.setFormatter(_Redacting("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S"))


@contextlib.contextmanager
def native_lines_logged() -> Iterator[None]:
    """Send to the log what libraries in C write to stderr, such as FFmpeg, libpng and OpenCV.

    It redirects the file descriptor 2 of the whole process, so it is for the command line, not for a library.
    Python's own ``sys.stderr`` is kept.
    """
    try:
        kept = os.dup(2)
        reading, writing = os.pipe()
    except OSError:  # stderr is closed, or there are no descriptors left: nothing to redirect
        yield
        return
    before = sys.stderr
    sys.stderr = open(os.dup(kept), "w", buffering=1, encoding=before.encoding, errors="backslashreplace")  # noqa: PTH123, SIM115
    os.dup2(writing, 2)
    os.close(writing)
    thread = threading.Thread(target=_log_lines, args=(reading,), name="native lines", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.dup2(kept, 2)  # the last writing end closes, unless a child still has it
        os.close(kept)
        thread.join(1.0)
        own, sys.stderr = sys.stderr, before
        with contextlib.suppress(OSError):
            own.close()


@contextlib.contextmanager
def prints_logged() -> Iterator[None]:
    """Send to the log what a library prints on stdout, where only results belong."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines():
            _NATIVE.debug("%s", line)


def _log_lines(descriptor: int) -> None:
    with open(descriptor, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if text := line.strip():
                _NATIVE.debug("%s", text)


def _file_handler(path: Path) -> logging.Handler:
    from .artifact import make_folder, open_for_append
    from .errors import OutputError

    try:
        make_folder(path.parent)
        stream = open(open_for_append(path), "a", encoding="utf-8", errors="backslashreplace")  # noqa: PTH123, SIM115
    except (OSError, OutputError) as error:
        reason = getattr(error, "problem", None) or str(error)
        raise OutputError(f"the log cannot be written ({reason})", f"set {FILE_VARIABLE} to another file") from error
    handler = _File(stream)
    handler.setFormatter(_Redacting("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"))
    return handler

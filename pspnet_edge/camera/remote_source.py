"""A live source that its own process reads; see `reader_process.py` for why and for what passes between the two."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import select
import subprocess
import time
from dataclasses import asdict, replace
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from ..child import child_command
from ..errors import SourceError
from .devices import Wanted
from .reader_process import Slot, slots_in
from .timing import believable_fps

_START_S = 10.0
"""What a slow board may need to start Python and OpenCV."""
_GRACE_S = 1.0
"""The process has the same deadline; it is killed only when it does not keep it."""
_OPENINGS = 100
"""After so many in one process a fresh one is started, whatever the library leaked."""


class _Report(TypedDict, total=False):
    """What the reading process says: that it has opened the source, that a frame is in a slot, or that it failed."""

    opened: list[int]
    """Height and width of a frame."""
    prepared: list[int] | None
    """Those of the copy that was scaled for the engine, where there is one."""
    fps: float
    format: str
    slot: int
    captured: float
    dropped: int
    failed: str


class RemoteSource:
    """A ``LiveSource``: the newest frame of a device, or a failure within ``wanted.stall_s`` and a second.

    Args:
        wanted: the device.

    Raises:
        SourceError: it cannot be opened.
    """

    live = True

    def __init__(self, wanted: Wanted) -> None:
        self.name = wanted.name
        self.fps, self.format = wanted.fps or 30.0, ""
        # To be back within two seconds an attempt a half second is enough, and asking costs nothing; but every attempt
        # at a CSI camera starts a process.
        self.longest_pause_s = 5.0 if wanted.kind == "csi" else 0.5
        self.captured = 0.0
        self.dropped = 0
        self._wanted = wanted
        self._memory = os.memfd_create("pspnet-edge-frames")
        # A write to one end wakes a thread that waits for frames.
        self._woken, self._waker = os.pipe()
        self._interrupted = False
        self._process: _Process | None = None
        self._slots: list[Slot] = []
        self._openings = 0
        self.prepared: NDArray[np.uint8] | None = None

    def reopen(self) -> None:
        """See ``LiveSource``."""
        self._openings += 1
        # Argus keeps a dead connection in the process that had it; only a fresh one gets through.
        if self._wanted.kind == "csi" or self._openings % _OPENINGS == 0:
            self._kill()
        if self._process is None:
            self._process = _Process(self._wanted, self._memory)
            deadline_s = _START_S + self._wanted.stall_s
        else:
            deadline_s = 2 * self._wanted.stall_s + _GRACE_S  # for opening and for the first frame
        self._process.order(b"open\n")
        while "opened" not in (report := self._report(deadline_s)):
            if "failed" in report:
                raise SourceError(report["failed"])
        self.fps, self.format = believable_fps(report["fps"]), report["format"]
        small = report["prepared"]
        self._slots = _mapped(self._memory, (*report["opened"], 3), None if small is None else (*small, 3))

    def read(self) -> NDArray[np.uint8] | None:
        """See ``Source``."""
        if self._process is None or not self._slots:
            raise SourceError(f"{self.name} is not open: reopen it first")
        report = self._report(self._wanted.stall_s + _GRACE_S)
        while "slot" in report and (newer := self._process.report_at_hand()) is not None:
            # The loop was busy: what came meanwhile is newer.
            self._process.order(b"%d\n" % report["slot"])
            self.dropped += 1 + report["dropped"]
            report = newer
        if "slot" not in report:
            raise SourceError(
                report.get("failed", f"{self.name} gave an answer that makes no sense: restart the program")
            )
        slot = self._slots[report["slot"]]
        frame: NDArray[np.uint8] = slot.frame.copy()
        self.prepared = None if slot.prepared is None else slot.prepared.copy()
        self._process.order(b"%d\n" % report["slot"])
        self.captured = report["captured"]
        self.dropped += report["dropped"]
        return frame

    def ask(self, engine_hw: tuple[int, int] | None, whole: bool) -> None:
        """Say which sizes of each frame are wanted; a device that can give them is opened again for it.

        Args:
            engine_hw: the engine's, in rows and columns; None when the frame is to be cut or padded first.
            whole: whether a sink wants frames at their own size.
        """
        wanted = replace(self._wanted, engine_hw=engine_hw, whole=whole)
        if wanted == self._wanted:
            return
        self._wanted = wanted
        if self._wanted.has_video_engines:
            # The process reads what is wanted once, at its start.
            self._kill()
            with contextlib.suppress(SourceError):  # then the loop reopens it, and tells
                self.reopen()

    def interrupt(self) -> None:
        """See ``LiveSource``."""
        self._interrupted = True
        with contextlib.suppress(OSError):
            os.write(self._waker, b"!")

    def close(self) -> None:
        """End the process and give back everything. No thread may be reading."""
        self._kill()
        for descriptor in (self._memory, self._woken, self._waker):
            os.close(descriptor)

    def _report(self, deadline_s: float) -> _Report:
        """The next report.

        Raises:
            SourceError: none came in time, or the process ended; it is gone then.
        """
        assert self._process is not None
        try:
            return self._process.report(deadline_s, self._woken)
        except TimeoutError:
            self._kill()
            raise SourceError(f"{self.name} hangs: it gave nothing for {deadline_s:.0f} s, and is reopened") from None
        except EOFError:
            self._kill()
            if self._interrupted:
                raise SourceError(f"{self.name} was closed") from None
            raise SourceError(f"the process that reads {self.name} ended, and is started again") from None

    def _kill(self) -> None:
        self._slots = []
        if self._process is not None:
            self._process.kill()
            self._process = None


class _Process:
    """The child and the two pipes to it."""

    def __init__(self, wanted: Wanted, memory: int) -> None:
        orders, self._orders = os.pipe()
        self._reports, reports = os.pipe()
        self._unread = b""
        self._lines: list[bytes] = []
        command = child_command(f"{__package__}.reader_process", memory, orders, reports)
        try:
            # What OpenCV, FFmpeg and Argus print may name passwords, and is never an answer to what the user does.
            self._child = subprocess.Popen(
                command,
                pass_fds=(memory, orders, reports),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        finally:
            os.close(orders)
            os.close(reports)
        os.set_blocking(self._reports, False)
        self.order(json.dumps(asdict(wanted)).encode() + b"\n")

    def order(self, line: bytes) -> None:
        """Tell it something; that it is gone shows in its reports."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._orders, line)

    def report(self, deadline_s: float, woken: int) -> _Report:
        """Wait for a report.

        Raises:
            TimeoutError: none came.
            EOFError: none will come, or ``woken`` was written to.
        """
        end = time.monotonic() + deadline_s
        while (found := self.report_at_hand()) is None:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if woken in select.select([self._reports, woken], [], [], left)[0]:
                raise EOFError
        return found

    def report_at_hand(self) -> _Report | None:
        """A report that is there already, or None.

        Raises:
            EOFError: the process has ended.
        """
        if not self._lines:
            try:
                new = os.read(self._reports, 65536)
            except BlockingIOError:
                return None
            if not new:
                raise EOFError
            *self._lines, self._unread = (self._unread + new).split(b"\n")
            if not self._lines:
                return None
        found: _Report = json.loads(self._lines.pop(0))
        return found

    def kill(self) -> None:
        """End it at once, whatever it does, and forget it."""
        os.close(self._orders)
        os.close(self._reports)
        self._child.kill()
        # One that the kernel holds in a driver ends when the driver lets go; subprocess collects it then.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(1)


def _mapped(memory: int, frame: tuple[int, ...], prepared: tuple[int, ...] | None) -> list[Slot]:
    # The arrays hold the map, and end it when they go.
    return slots_in(mmap.mmap(memory, os.fstat(memory).st_size, prot=mmap.PROT_READ), frame, prepared)

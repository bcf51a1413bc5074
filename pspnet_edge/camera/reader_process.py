"""The process that reads one live device: ``python -m pspnet_edge.camera.reader_process``.

A driver or a network library may hang inside a read, leak at every reopening, or crash. In its own process it can
be killed, and everything it held is gone with it.

The parent gives three inherited descriptors on the command line: frames (shared memory), orders and reports. An order
is a line: first ``Wanted`` as JSON, then ``open`` to open the device (again), or the number of a slot whose frame was
taken. A report is a line of JSON:

    {"opened": [height, width], "prepared": null, "fps": 30.0, "format": "..."}    the device gives frames of this size,
                                                                  and the same at the engine's size, [height, width]
    {"slot": 1, "captured": 1234.5, "dropped": 0}                 a frame is in slot 1 of the shared memory
    {"failed": "one sentence"}                                    the device is closed; waits for the next order

The orders' end is the end of the process, so it never outlives its parent.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..child import end_with_parent
from ..errors import SourceError
from .devices import Device, Wanted, open_device, set_environment

SLOTS = 3
"""One is written, one waits, one is copied out."""


class Slot(NamedTuple):
    """A place for one frame in the shared memory."""

    frame: NDArray[np.uint8]
    prepared: NDArray[np.uint8] | None

    def write(self, frame: NDArray[np.uint8], prepared: NDArray[np.uint8] | None) -> None:
        """Copy a frame in, and the same at the engine's size where there is a place for it."""
        self.frame[:] = frame
        if self.prepared is not None and prepared is not None:
            self.prepared[:] = prepared


def slots_in(memory: mmap.mmap, frame: Sequence[int], prepared: Sequence[int] | None) -> list[Slot]:
    """The slots that lie in the shared memory, for frames and prepared frames of these shapes."""
    sizes = (int(np.prod(frame)), 0 if prepared is None else int(np.prod(prepared)))
    slots = []
    for number in range(SLOTS):
        start = number * sum(sizes)
        whole = np.frombuffer(memory, np.uint8, sizes[0], start).reshape(frame)
        small = None if prepared is None else np.frombuffer(memory, np.uint8, sizes[1], start + sizes[0])
        slots.append(Slot(whole, None if small is None or prepared is None else small.reshape(prepared)))
    return slots


class Reader:
    """The process's state."""

    def __init__(self, memory: int, orders: int, reports: int) -> None:
        self._memory, self._orders, self._reports = memory, orders, reports
        self._unread = b""
        self._free: set[int] = set()
        self._reopen = False

    def run(self) -> None:
        """Obey until the orders end."""
        lines = self._lines(block=True)
        wanted = Wanted.from_facts(json.loads(lines[0]))
        self._obey(lines[1:])
        set_environment(wanted)
        while True:
            while not self._reopen:
                self._obey(self._lines(block=True))
            self._reopen = False
            try:
                device = open_device(wanted)
            except SourceError as error:
                self._report({"failed": str(error)})
                continue
            try:
                self._pass_frames(device, wanted)
            finally:
                device.close()

    def _pass_frames(self, device: Device, wanted: Wanted) -> None:
        """Until the device fails or is to be reopened."""
        frame = device.read()
        if frame is None:
            self._report({"failed": f"{wanted.name} opens and gives no frame: {_fix(wanted, at_first=True)}"})
            return
        # A device prepares every frame or none.
        small = device.prepared
        slot_bytes = frame.nbytes + (0 if small is None else small.nbytes)
        # It never shrinks: the parent may still look at a larger one.
        os.ftruncate(self._memory, max(SLOTS * slot_bytes, os.fstat(self._memory).st_size))
        with mmap.mmap(self._memory, SLOTS * slot_bytes) as memory:
            slots = slots_in(memory, frame.shape, None if small is None else small.shape)
            try:
                self._free = set(range(SLOTS))
                self._report(
                    {
                        "opened": frame.shape[:2],
                        "prepared": None if small is None else small.shape[:2],
                        "fps": device.fps,
                        "format": device.format,
                    }
                )
                self._write_frames(device, frame, slots, wanted)
            finally:
                del slots  # or the memory could not be unmapped

    def _write_frames(
        self, device: Device, frame: NDArray[np.uint8] | None, slots: Sequence[Slot], wanted: Wanted
    ) -> None:
        dropped = 0
        while frame is not None and frame.shape == slots[0].frame.shape:
            captured = time.perf_counter()  # one clock for all processes on Linux
            self._obey(self._lines(block=False))
            if self._reopen:
                return
            if self._free:
                number = self._free.pop()
                slots[number].write(frame, device.prepared)
                self._report({"slot": number, "captured": captured, "dropped": dropped})
                dropped = 0
            else:
                dropped += 1
            frame = device.read()
        what = "stopped giving frames" if frame is None else "changed the size of its frames"
        self._report({"failed": f"{wanted.name} {what}: {_fix(wanted)}"})

    def _obey(self, lines: list[bytes]) -> None:
        for line in lines:
            if line == b"open":
                self._reopen = True
            else:
                self._free.add(int(line))

    def _lines(self, block: bool) -> list[bytes]:
        if not block and not select.select([self._orders], [], [], 0)[0]:
            return []
        new = os.read(self._orders, 65536)
        if not new:
            raise SystemExit
        *lines, self._unread = (self._unread + new).split(b"\n")
        return lines

    def _report(self, facts: dict[str, object]) -> None:
        try:
            os.write(self._reports, json.dumps(facts).encode() + b"\n")
        except BrokenPipeError:
            raise SystemExit from None


def _fix(wanted: Wanted, at_first: bool = False) -> str:
    if wanted.kind == "csi":
        return "sudo systemctl restart nvargus-daemon, then check the camera's ribbon cable"
    if wanted.kind == "v4l2" and at_first:
        return (
            "two cameras on one USB controller may need more than its bandwidth: try --pixels mjpg, a smaller --size "
            f"or another port; else check its cable and power, and `fuser {wanted.place}` for another program"
        )
    if wanted.kind == "v4l2":
        return f"check its cable and power, and `fuser {wanted.place}` for another program"
    return "check the camera's power and network"


def main() -> None:
    """Entry point of the process."""
    # The terminal's Ctrl-C and systemd's stop are for the parent, which ends this process by closing its orders.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()
    memory, orders, reports = map(int, sys.argv[1:4])
    Reader(memory, orders, reports).run()


if __name__ == "__main__":
    main()

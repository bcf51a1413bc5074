"""What TensorRT says while it builds: errors, progress, and the layers it made."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

from ...errors import BuildError
from .versions import Api

Report = Callable[[int, str], None]
"""Called with the share done in per cent and a few words."""

_log = logging.getLogger(__name__)
_KEPT = 6
_TIMED = re.compile(r"Timing Runner: (?P<layers>.*?)(?: \(|$)")


class Log:
    """Collects the builder's messages.

    Args:
        report: told which layer is being measured, where the builder has no progress monitor.
    """

    def __init__(self, report: Report) -> None:
        self.errors: list[str] = []
        self.worst: list[str] = []
        """The last errors and warnings, in their order."""
        self.layer_lines: list[str] = []
        self.layers_in_all = 0
        """How many layers the network has; 0 keeps the log from reporting progress."""
        self._report = report
        self._timed: set[str] = set()

    def add(self, severity: str, message: str) -> None:
        """One message; ``severity`` is the name of the level."""
        said = message.strip()
        _log.debug("%s: %s", severity, said)
        if "ERROR" in severity:
            self.errors.append(said)
        if "ERROR" in severity or "WARNING" in severity:
            self.worst = [*self.worst[1 - _KEPT :], said]
        if "LayerType: " in message:
            self.layer_lines += [line for line in message.splitlines() if "LayerType: " in line]
        if self.layers_in_all and (timed := _TIMED.search(message)):
            self._timed.update(timed["layers"].split(" + "))
            done = min(99, 100 * len(self._timed) // self.layers_in_all)
            self._report(done, timed["layers"].split(" + ")[0])

    def reason(self) -> str:
        """The error that the others follow from, in one line, or that there was none."""
        # A timing cache of another GPU or version is an error to TensorRT, which then measures again.
        errors = [text for text in self.errors if "timing cache" not in text.lower()] or self.errors
        return " ".join(errors[0].split()) if errors else "no reason in its log"

    def failed(self) -> None:
        """The build failed: put the last errors and warnings into the package's log, whatever its level."""
        for said in self.worst:
            _log.warning("builder: %s", " ".join(said.split()))


def logger_for(api: Api, log: Log) -> Any:
    """A logger for TensorRT that writes into ``log``. Keep it as long as what was made with it."""

    class Logger(api.trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            # pybind11 wants the base class called by name, not through super().
            api.trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            log.add(severity.name, message)

    return Logger()


class Phases:
    """Nested phases of a build, and the share that is done."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[str | None, int, int]] = {}
        self._largest = 0.0

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase of so many steps begins inside another."""
        self._open[phase] = (parent, 0, max(steps, 1))

    def step(self, phase: str, step: int) -> None:
        """Step number ``step``, counted from 0, is done."""
        parent, _, steps = self._open.get(phase, (None, 0, 1))
        self._open[phase] = (parent, step + 1, steps)

    def finish(self, phase: str) -> None:
        """The phase is over."""
        self._open.pop(phase, None)

    def share(self) -> float:
        """0–1: the largest share of the outermost phase so far, with the part that its inner phases have done."""
        self._largest = max(self._largest, min(1.0, self._inside(None)))
        return self._largest

    def _inside(self, phase: str | None) -> float:
        inner = [name for name, (parent, _, _) in self._open.items() if parent == phase]
        return max(((self._open[name][1] + self._inside(name)) / self._open[name][2] for name in inner), default=0.0)


def monitor_for(api: Api, report: Report) -> Any:
    """A progress monitor for a builder of TensorRT 10 or later.

    Raises:
        BuildError: an older TensorRT.
    """
    if api.level < (10,):
        raise BuildError("TensorRT 8 has no progress monitor: read its log instead, or build with TensorRT 10 or later")
    phases = Phases()

    class Monitor(api.trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            api.trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            phases.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            phases.step(phase_name, step)
            report(int(100 * phases.share()), phase_name)
            return True

        def phase_finish(self, phase_name: str) -> None:
            phases.finish(phase_name)

    return Monitor()

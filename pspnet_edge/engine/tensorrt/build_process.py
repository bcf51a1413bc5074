"""A plan built in a separate process: a builder that crashes, hangs or takes all memory ends only that process.

The child gets a folder with the graph and the choices, sends its progress and its log as lines of JSON through a pipe,
and leaves the plan in the folder. It offers itself first to the kernel's out-of-memory killer.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx

from ... import errors
from ...artifact import scratch_folder
from ...child import child_command, end_with_parent
from ...errors import BuildError, PspnetEdgeError
from ...graph.onnx_file import ModelFile
from ...labels import LabelSet
from ..facts import MadeFacts
from .builder import BuildOptions, Plan, build_plan
from .gpu import free_memory_bytes
from .log import Report

LIMIT_S = 3 * 3600
"""Far more than a build takes: a large model at the highest optimization level takes half an hour on an Orin Nano."""
_LEFT_BYTES = 96 << 20
"""Free memory below which the child is ended, before the kernel ends something else."""
_POLL_S = 0.25
_MODEL, _REQUEST, _PLAN = "model.onnx", "request.json", "plan"
_log = logging.getLogger(__name__)


def build_in_child(
    runtime: str,
    model: ModelFile,
    precision: str,
    options: BuildOptions,
    *,
    cache: Path,
    report: Report = lambda done, note: None,
    limit_s: float = LIMIT_S,
) -> Plan:
    """``builder.build_plan`` in a separate process.

    Args:
        runtime, model, precision, options, cache, report: as for ``build_plan``.
        limit_s: how long it may take.

    Raises:
        BuildError: as ``build_plan`` does, or because the process crashed, took too long or too much memory; with what
            it said last.
        MissingPackage, OptionError: as ``build_plan`` does.
    """
    with scratch_folder() as folder:
        (folder / _MODEL).write_bytes(model.proto.SerializeToString())
        request = {
            "runtime": runtime,
            "precision": precision,
            "options": asdict(options),
            "cache": str(cache),
            "preset": model.preset,
            "label_set": model.label_set.facts(),
            "log_level": _heard_level(),
        }
        (folder / _REQUEST).write_text(json.dumps(request), encoding="utf-8")
        facts = _Child(folder, report).result(limit_s)
        return Plan((folder / _PLAN).read_bytes(), facts)


def _heard_level() -> int:
    """The lowest level that reaches a handler: the child does not send what would not be shown."""
    levels: list[int] = []
    logger: logging.Logger | None = _log
    while logger is not None:
        levels += [handler.level for handler in logger.handlers]
        logger = logger.parent if logger.propagate else None
    return max(_log.getEffectiveLevel(), min(levels, default=logging.WARNING))


class _Child:
    """The running child and what it has said."""

    def __init__(self, folder: Path, report: Report) -> None:
        reading, writing = os.pipe()
        command = child_command(__name__, folder, writing)
        try:
            self._process = subprocess.Popen(
                command,
                pass_fds=[writing],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            os.close(reading)
            raise BuildError(f"the builder's process does not start ({error})", "close other programs") from error
        finally:
            os.close(writing)
        self._report = report
        self._said: deque[str] = deque(maxlen=1)
        self._answer: Any = None
        self._broken: Exception | None = None
        self._threads = [
            threading.Thread(target=self._read_messages, args=(reading,), daemon=True),
            threading.Thread(target=self._read_output, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def result(self, limit_s: float) -> MadeFacts:
        """Wait for the end: the plan's facts, or the error that the child met."""
        why = ""
        try:
            end = time.monotonic() + limit_s
            while not why and self._process.poll() is None:
                why = self._reason_to_end(end, limit_s)
                time.sleep(_POLL_S if self._process.poll() is None else 0)
        finally:
            # Also when this process is interrupted: nothing keeps building unseen.
            self._end()
        if self._broken is not None:
            raise self._broken
        if why:
            raise BuildError(f"the builder was ended because {why}{self._last()}", "close other programs or add swap")
        if self._answer is None:
            raise BuildError(
                f"the builder {self._how_it_ended()}{self._last()}", "run the build with -vv to see its log"
            )
        if "error" in self._answer:
            kind, parts = self._answer["error"]
            raise getattr(errors, kind, BuildError)(*parts)
        facts: MadeFacts = self._answer["facts"]
        return facts

    def _reason_to_end(self, end: float, limit_s: float) -> str:
        if time.monotonic() > end:
            return f"it took longer than {limit_s:g} s"
        free = free_memory_bytes()
        if free is not None and free < _LEFT_BYTES:
            return f"only {free >> 20} MiB of memory were left"
        return ""

    def _end(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for thread in self._threads:
            thread.join(5)

    def _how_it_ended(self) -> str:
        code = self._process.returncode
        return f"crashed ({signal.Signals(-code).name})" if code < 0 else f"ended with status {code}"

    def _last(self) -> str:
        return f", after it said: {self._said[-1]}" if self._said else ""

    def _tell(self, done: int, note: str) -> None:
        try:
            if self._broken is None:
                self._report(done, note)
        except Exception as error:  # raised in the caller's thread; the child must be read on, or it waits for ever
            self._broken = error

    def _read_messages(self, descriptor: int) -> None:
        with os.fdopen(descriptor, encoding="utf-8", errors="replace") as stream:
            for line in stream:
                message = json.loads(line)
                if "done" in message:
                    self._tell(message["done"], message["note"])
                elif "level" in message:
                    _log.log(message["level"], "%s", message["said"])
                else:
                    self._answer = message

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for raw in stream:
                said = raw.decode(errors="replace").strip()
                if said:
                    self._said.append(said[:300])
                    _log.debug("%s", said)


class _Forward(logging.Handler):
    """Sends the child's log to its parent."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        _send(self._stream, level=record.levelno, said=record.getMessage())


def _send(stream: Any, **message: Any) -> None:
    stream.write(json.dumps(message) + "\n")
    stream.flush()


def _work(folder: Path, stream: Any) -> None:
    """The child's side."""
    request = json.loads((folder / _REQUEST).read_text(encoding="utf-8"))
    tree = logging.getLogger("pspnet_edge")
    tree.setLevel(request["log_level"])
    tree.addHandler(_Forward(stream))
    proto = onnx.load_model_from_string((folder / _MODEL).read_bytes())
    model = ModelFile(proto, request["preset"], LabelSet.from_facts(request["label_set"]))
    try:
        plan = build_plan(
            request["runtime"],
            model,
            request["precision"],
            BuildOptions(**request["options"]),
            cache=Path(request["cache"]),
            report=lambda done, note: _send(stream, done=done, note=note),
        )
    except PspnetEdgeError as error:
        _send(stream, error=(type(error).__name__, (error.problem, error.fix, error.command)))
        return
    (folder / _PLAN).write_bytes(plan.content)
    _send(stream, facts=plan.facts)


def main() -> None:
    """Build what lies in the folder that the first argument names; messages go to the descriptor of the second."""
    with contextlib.suppress(OSError):  # not Linux, or not allowed: then the kernel chooses
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    end_with_parent()
    with os.fdopen(int(sys.argv[2]), "w", encoding="utf-8") as stream:
        _work(Path(sys.argv[1]), stream)


if __name__ == "__main__":
    main()

"""Every check in its order, each in its own process, so that one that hangs or crashes does not end the others."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterable
from typing import Any

from .. import __version__
from ..child import child_command
from ..errors import PspnetEdgeError
from .kernel_checks import (
    check_kernels_on_gpu,
    check_kernels_on_processor,
    check_memory_of_kernels,
    check_speed_of_kernels,
)
from .machine_checks import check_facts, check_processor_runtimes
from .memory_checks import check_memory, check_openings
from .network_checks import check_network
from .outcome import Check, Failed, Outcome, Skipped
from .runner_checks import check_failure, check_graph, check_runner, check_tail_in_runner
from .source_checks import check_jetson, check_sources
from .tensorrt_checks import check_tensorrt, check_tensorrt_rtx

CHECKS = {
    check.name: check
    for check in (
        Check("facts", "what this machine is", check_facts),
        Check("runtimes", "INT8 engines on the processor", check_processor_runtimes, 180),
        Check("sources", "the camera's pipelines", check_sources, 120),
        Check("jetson", "a Jetson's video engines and clocks", check_jetson, 120),
        Check("kernels_host", "the kernels' arithmetic on the processor", check_kernels_on_processor),
        Check("kernels", "the kernels on the GPU", check_kernels_on_gpu, 90),
        Check("kernels_memory", "the kernels under compute-sanitizer", check_memory_of_kernels, 240),
        Check("kernels_speed", "how fast the kernels are", check_speed_of_kernels),
        Check("memory", "transfers between processor and GPU", check_memory),
        Check("openings", "opening and closing a thousand times", check_openings),
        Check("runner", "frames through the runner", check_runner),
        Check("failure", "a GPU that fails", check_failure, 90),
        Check("graph", "CUDA graphs", check_graph),
        Check("tail", "tail, graph and runner together", check_tail_in_runner),
        Check("network", "a whole network by PyTorch", check_network, 120),
        Check("tensorrt", "TensorRT plans", check_tensorrt, 400),
        Check("tensorrt_rtx", "TensorRT-RTX plans", check_tensorrt_rtx, 300),
    )
}


def run_checks(
    names: Iterable[str],
    on_start: Callable[[Check], None] = lambda check: None,
    on_end: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Run checks one after another, each in its own process.

    Args:
        names: keys of ``CHECKS``.
        on_start: told of each check before it runs.
        on_end: told of each outcome.
    """
    outcomes = []
    for name in names:
        on_start(CHECKS[name])
        outcomes.append(_in_process(CHECKS[name]))
        on_end(outcomes[-1])
    return outcomes


def run_check(check: Check) -> Outcome:
    """Run one check in this process."""
    start = time.monotonic()

    def outcome(state: Any, reason: str, **more: Any) -> Outcome:
        return Outcome(check.name, state, reason, round(time.monotonic() - start, 2), **more)

    try:
        answer = check.run()
    except Skipped as skipped:
        return outcome("skip", str(skipped))
    except (Failed, PspnetEdgeError) as failed:
        return outcome("fail", str(failed))
    except Exception as error:  # whatever breaks a check is what the person who runs it wants to send
        return outcome("fail", f"{type(error).__name__}: {error}")
    return outcome("pass", answer.seen, figures=answer.figures)


def report(outcomes: Iterable[Outcome]) -> dict[str, object]:
    """The result as JSON values: ``checks``, and how many of them are in each state."""
    checks = [outcome.to_dict() for outcome in outcomes]
    counts = {state: sum(check["state"] == state for check in checks) for state in ("pass", "fail", "skip")}
    return {"pspnet_edge": __version__, **counts, "checks": checks}


def _in_process(check: Check) -> Outcome:
    start = time.monotonic()
    command = child_command("pspnet_edge.selftest", check.name)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=check.limit_s, errors="replace")
    except subprocess.TimeoutExpired:
        return Outcome(check.name, "fail", f"takes longer than {check.limit_s} s", float(check.limit_s))
    try:
        return Outcome(**json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError, TypeError):
        last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        how = f"is ended by signal {-done.returncode}" if done.returncode < 0 else f"exits with {done.returncode}"
        return Outcome(check.name, "fail", f"the check {how} and says: {last}", round(time.monotonic() - start, 2))

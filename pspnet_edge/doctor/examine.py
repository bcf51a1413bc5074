"""Every check, in the order in which troubles are best fixed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypedDict

from .abilities import check_export, check_report, check_train, check_web
from .board import (
    check_clocks,
    check_disk,
    check_display,
    check_encoder,
    check_gpu,
    check_jetpack,
    check_memory,
    check_power_mode,
    check_python,
)
from .cameras import check_argus, check_cameras
from .engines import check_cache, check_engines
from .packages import (
    check_cuda,
    check_gstreamer,
    check_numpy,
    check_opencv,
    check_runtimes,
    check_tensorrt,
    check_torch,
)
from .system import System
from .verdict import Finding, FindingFacts, Verdict, Wanted, warn

Check = Callable[[System, Wanted], Verdict | Sequence[Verdict]]

CHECKS: dict[str, Check] = {
    "jetpack": check_jetpack,
    "python": check_python,
    "gpu": check_gpu,
    "numpy": check_numpy,
    "opencv": check_opencv,
    "gstreamer": check_gstreamer,
    "tensorrt": check_tensorrt,
    "cuda": check_cuda,
    "torch": check_torch,
    "runtimes": check_runtimes,
    "train": check_train,
    "export": check_export,
    "web": check_web,
    "report": check_report,
    "power_mode": check_power_mode,
    "clocks": check_clocks,
    "memory": check_memory,
    "disk": check_disk,
    "cache": check_cache,
    "display": check_display,
    "encoder": check_encoder,
    "camera": check_cameras,
    "argus": check_argus,
    "engine": check_engines,
}


class Examined(TypedDict):
    """What the doctor found."""

    checks: list[FindingFacts]
    blocking: int
    """How many of them must be fixed."""


def examine(system: System, wanted: Wanted) -> list[Finding]:
    """Run every check. One that fails itself becomes a warning that says so; it never ends the others."""
    return [Finding(name, verdict) for name, check in CHECKS.items() for verdict in _verdicts(check, system, wanted)]


def report(findings: Sequence[Finding]) -> Examined:
    """The findings as JSON values."""
    blocking = sum(finding.verdict.state == "block" for finding in findings)
    return {"checks": [finding.facts() for finding in findings], "blocking": blocking}


def _verdicts(check: Check, system: System, wanted: Wanted) -> Sequence[Verdict]:
    try:
        found = check(system, wanted)
    except Exception as error:  # a machine odd enough to break a check is the one that needs the others
        return [warn(f"could not be checked ({type(error).__name__}: {error})")]
    return [found] if isinstance(found, Verdict) else found

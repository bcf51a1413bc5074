"""What this installation can do beside running engines: train, export, show a page, write a report."""

from __future__ import annotations

from ..lazy import install_command
from ..records import listed
from .system import System
from .verdict import Verdict, Wanted, ok, warn

_NEEDS = {
    "train": (("torch", "torchvision", "timm"), "train"),
    "export": (("torch", "onnxslim"), "train"),
    "show the live page": (("aiohttp",), "web"),
    "write a report": (("matplotlib", "jinja2"), "report"),
}
"""What is done, the packages that it needs, and the extra that brings them."""


def check_train(system: System, wanted: Wanted) -> Verdict:
    """Whether `train` runs here."""
    return _can(system, "train")


def check_export(system: System, wanted: Wanted) -> Verdict:
    """Whether `export` and `import` run here."""
    return _can(system, "export")


def check_web(system: System, wanted: Wanted) -> Verdict:
    """Whether `run --view web` and `--metrics-port` run here."""
    return _can(system, "show the live page")


def check_report(system: System, wanted: Wanted) -> Verdict:
    """Whether `benchmark` draws its page and charts here."""
    return _can(system, "write a report")


def _can(system: System, what: str) -> Verdict:
    packages, extra = _NEEDS[what]
    facts = {package: system.probe(package) for package in packages}
    command = install_command(extra)
    broken = [package for package, fact in facts.items() if "error" in fact]
    if broken:
        return warn(f"cannot {what}: {listed(broken)} cannot be imported ({facts[broken[0]]['error']})", command)
    missing = [package for package, fact in facts.items() if fact.get("missing")]
    if missing:
        return Verdict(
            "skip", f"cannot {what}: {listed(missing)} {'is' if len(missing) == 1 else 'are'} not installed", command
        )
    return ok(f"can {what}")

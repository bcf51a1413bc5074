"""A plan's own header, and whether a plan still fits the TensorRT and the GPU that are here.

From TensorRT 8.6 on a plan begins with ``ftrt`` (TensorRT-RTX: ``vtrt``), and bytes 24–27 are the version that built
it. TensorRT-RTX also has the length of the plan as 64 bits at byte 16; whether TensorRT does is not known here. The
compute capability is not in the header, but in the sidecar.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from ...errors import EngineError
from ..facts import EngineFacts
from .gpu import Gpu

_RUNTIMES = {b"ftrt": "tensorrt", b"vtrt": "tensorrt-rtx"}
_NAMES = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}
_HEADER_BYTES = 28


@dataclass(frozen=True)
class PlanHeader:
    """What the first bytes of a plan say."""

    runtime: str
    version: tuple[int, ...]
    length: int | None
    """Bytes of the whole plan, where the header has it."""


def read_header(path: Path) -> PlanHeader | None:
    """The header of a plan; None when the file does not begin like one."""
    with path.open("rb") as stream:
        head = stream.read(_HEADER_BYTES)
    runtime = _RUNTIMES.get(head[:4])
    if runtime is None or len(head) < _HEADER_BYTES:
        return None
    length = int.from_bytes(head[16:24], "little") if runtime == "tensorrt-rtx" else None
    return PlanHeader(runtime, tuple(head[24:28]), length)


def problem_without_sidecar(path: Path, rebuild: str) -> str | None:
    """What a file is that has no fitting sidecar, in one sentence; None when there is nothing better to say.

    Args:
        path: the file.
        rebuild: the command that makes an engine, quoted in the sentence.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEADER_BYTES)
        size, header = path.stat().st_size, read_header(path)
    except OSError:
        return None
    if head[:4] in _RUNTIMES and (header is None or header.length not in (None, size)):
        return f"{path} is a truncated TensorRT plan of {size} bytes: copy it again, or rebuild it with `{rebuild}`"
    # Ultralytics writes the length of a JSON text in four bytes, the text, and then the plan.
    if head[4:5] == b"{" and int.from_bytes(head[:4], "little") < size:
        return f"{path} begins with JSON as Ultralytics writes it, not with a plan: build an engine with `{rebuild}`"
    return None


def check_plan(path: Path, facts: EngineFacts, installed: tuple[int, ...], gpu: Gpu | None) -> None:
    """Compare a plan and its sidecar with what is here.

    Args:
        path: the plan; its bytes are those that the sidecar describes.
        facts: the sidecar.
        installed: version of the runtime that would open it.
        gpu: the GPU here; None leaves it unchecked.

    Raises:
        EngineError: says which of them changed and the command that rebuilds.
    """
    rebuild = rebuild_command(path, facts)
    runtime, header = facts["runtime"], read_header(path)
    if header is None or header.runtime != runtime:
        found = f"a plan of {_NAMES[header.runtime]}" if header else "no plan"
        raise EngineError(
            f"{path} is {found} and its sidecar says {_NAMES.get(runtime, runtime)}: rebuild with `{rebuild}`"
        )
    if header.length not in (None, path.stat().st_size):
        raise EngineError(f"{path} is truncated: copy it again, or rebuild it with `{rebuild}`")
    target = facts.get("tensorrt")
    if not isinstance(target, dict) or "compute_capability" not in target:
        raise EngineError(f"the sidecar of {path} does not say what it was built for: rebuild with `{rebuild}`")
    # JetPack's module says 10.3.0 where the plan says 10.3.0.26.
    same = 1 if target.get("version_compatible") is True else min(len(header.version), len(installed))
    if header.version[:same] != installed[:same]:
        raise EngineError(
            f"{path} was built by {_NAMES[runtime]} {_dotted(header.version)} and {_dotted(installed)} is installed: "
            f"rebuild with `{rebuild}`"
        )
    built_for = target.get("compute_capability")
    # The kernels of head and tail run on one GPU even where the plan runs on many.
    has_kernels = facts.get("head") or facts.get("tail")
    bound = built_for is not None and (target.get("hardware_compatible") is not True or has_kernels)
    if gpu is not None and bound and built_for != gpu.compute_capability:
        raise EngineError(
            f"{path} was built for a GPU of compute capability {built_for} ({target.get('device') or 'no device'}) and "
            f"{gpu.name} here has {gpu.compute_capability}: rebuild with `{rebuild}`"
        )


def rebuild_command(path: Path, facts: EngineFacts) -> str:
    """The command that makes an engine like this one here."""
    return (
        f"pspnet-edge build {shlex.quote(facts.get('model', 'MODEL'))} --runtime {facts['runtime']} "
        f"--precision {facts['precision']} -o {shlex.quote(str(path))}"
    )


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))

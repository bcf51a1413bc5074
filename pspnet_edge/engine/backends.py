"""The runtimes that an engine can be built for, and how an engine file is opened."""

from __future__ import annotations

from pathlib import Path

from ..artifact import read_sidecar
from ..errors import EngineError, ModelError
from ..inputs import check_file
from ..labels import LabelSet
from ..lazy import require
from .engine import Engine, EngineInfo
from .session import Session
from .tensorrt.plan_file import problem_without_sidecar

CPU_RUNTIMES = ("openvino", "onnxruntime")
TENSORRT_RUNTIMES = ("tensorrt", "tensorrt-rtx")
RUNTIMES = ("tensorrt", *CPU_RUNTIMES, "tensorrt-rtx")
"""In the order in which ``auto`` prefers them; ``tensorrt-rtx`` is taken only when it is named."""
REBUILD = "pspnet-edge build MODEL --precision P -o ENGINE"


def open_engine(path: Path) -> Engine:
    """Open an engine file with the runtime that its sidecar names.

    Raises:
        EngineError: there is no such file, its sidecar does not fit, or the runtime refuses it.
        MissingPackage: the runtime is not installed.
    """
    info = read_info(path)
    if info.runtime in TENSORRT_RUNTIMES:
        from .tensorrt.session import open_plan

        return Engine(info, open_plan(path, info.facts))
    return Engine(info, open_session(info.runtime, path, info.precision))


def open_session(runtime: str, path: Path, precision: str) -> Session:
    """Load an engine file into a runtime of the processor.

    Raises:
        EngineError: the runtime is unknown or refuses the file.
        MissingPackage: the runtime is not installed.
    """
    if runtime == "openvino":
        from .openvino import OpenVinoSession

        return OpenVinoSession(path, precision)
    if runtime == "onnxruntime":
        from .onnxruntime import OnnxRuntimeSession

        return OnnxRuntimeSession(path)
    raise EngineError(f"{path} was built for runtime {runtime!r}, which this version lacks: rebuild with `{REBUILD}`")


def runtime_version(runtime: str) -> str:
    """The version of an installed runtime."""
    return str(require(runtime.replace("-", "_"), f"build an engine for {runtime}").__version__)


def read_info(path: Path) -> EngineInfo:
    """Read and check an engine's sidecar.

    Raises:
        EngineError: no such file, or a sidecar that is missing, damaged or of another file.
    """
    check_file(path, "engine", EngineError, "build one", REBUILD)
    try:
        facts = read_sidecar(path, "engine", REBUILD)
        label_set = LabelSet.from_facts(facts["label_set"])
        batch, height, width = map(int, facts["shape_nhw"])
        return EngineInfo(path, facts["runtime"], facts["precision"], (batch, height, width), label_set, facts)
    except ModelError as error:
        raise EngineError(problem_without_sidecar(path, REBUILD) or str(error)) from error
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise EngineError(f"the sidecar of {path} is damaged ({error!r}): rebuild with `{REBUILD}`") from error

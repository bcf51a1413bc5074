"""The runtimes that an engine can be built for, and how an engine file is opened."""

from __future__ import annotations

import logging
import os
import shlex
from difflib import get_close_matches
from pathlib import Path

from .. import bundled
from ..document import LABEL_SET, SHAPE_NHW, List, Number, Optional, Record, Text, check_value
from ..errors import EngineError, MissingPackage, ModelError, OptionError
from ..inputs import check_file, is_there
from ..labels import LabelSet
from ..lazy import install_command
from ..sidecar import read_sidecar
from .backend import REBUILD, Backend
from .engine import Engine, EngineInfo
from .facts import EngineFacts
from .onnxruntime import OnnxRuntime
from .openvino.backend import OpenVino
from .tensorrt.backend import TensorRt
from .tensorrt.plan_file import problem_without_sidecar

_log = logging.getLogger(__name__)

BACKENDS: tuple[Backend, ...] = (
    TensorRt("tensorrt", "TensorRT", preferred=True),
    OpenVino(),
    OnnxRuntime(),
    TensorRt("tensorrt-rtx", "TensorRT-RTX", preferred=False),
)
"""In the order in which ``auto`` prefers them; TensorRT-RTX is taken only when it is named."""
RUNTIMES = tuple(backend.name for backend in BACKENDS)
_SIDECAR = Record(
    {
        "runtime": Text(100),
        "precision": Text(among=("fp32", "fp16", "int8")),
        "shape_nhw": SHAPE_NHW,
        "label_set": LABEL_SET,
        "made_by": Record({"pspnet_edge": Text(100)}),
    },
    {
        "channels": Number(1, 4, whole=True),
        "scores_hw": List(Number(1, 65_536, whole=True), 2, 2),
        **dict.fromkeys(("held_out", "trained_split"), Optional(Text(100))),
    },
)
CPU_RUNTIMES = tuple(backend.name for backend in BACKENDS if not backend.on_gpu)


def backend_of(runtime: str) -> Backend:
    """The backend of a runtime's name.

    Raises:
        OptionError: an unknown name.
    """
    for backend in BACKENDS:
        if backend.name == runtime:
            return backend
    raise OptionError(f"unknown runtime {runtime!r}: choose auto, {', '.join(RUNTIMES)}")


def choose_runtime(wanted: str) -> str:
    """``auto`` takes TensorRT where a GPU is, else OpenVINO, else ONNX Runtime; a name is checked.

    Raises:
        OptionError: an unknown name.
        MissingPackage: none of the runtimes is installed.
    """
    if wanted != "auto":
        return backend_of(wanted).name
    for backend in BACKENDS:
        if backend.is_preferred():
            return backend.name
    raise MissingPackage("no runtime is installed", "install OpenVINO or ONNX Runtime", install_command("openvino"))


def runtime_version(runtime: str) -> str:
    """The version of an installed runtime.

    Raises:
        OptionError: an unknown name.
        MissingPackage: it is not installed.
    """
    return backend_of(runtime).version()


def open_engine(path: str | os.PathLike[str], precision: str = "auto", runtime: str = "auto") -> Engine:
    """Open an engine file with the runtime that its sidecar names.

    Raises:
        EngineError: there is no such file, its sidecar does not fit, or the runtime refuses it.
        OptionError: it has another precision or runtime than asked for.
        MissingPackage: the runtime is not installed.
    """
    info = read_info(path)
    ensure_built_as(info, precision, runtime)
    _log.info("opening %s: %s, %s, frames %s", path, info.precision, info.runtime, info.shape_nhw)
    return Engine(info, backend_of(info.runtime).open(info.path, info))


def ensure_built_as(info: EngineInfo, precision: str, runtime: str) -> None:
    """Raise ``OptionError`` if another precision or runtime than an engine's own is asked for; ``auto`` is its own."""
    for parameter, wanted, own in (("precision", precision, info.precision), ("runtime", runtime, info.runtime)):
        if wanted not in ("auto", own):
            raise OptionError(
                f"{info.path} is built already, its {parameter} is {own}",
                "leave it out, or give the model to build from",
                parameter=parameter,
            )


def _instead_of(path: Path) -> tuple[str, str | None]:
    """What to do about an engine that is not there, and the command."""
    near = get_close_matches(path.name, bundled.names(), 1)
    if near:
        return f"did you mean {near[0]}?", None
    fix = "build one of the bundled model (another is named after `build`)"
    return fix, f"pspnet-edge build -o {shlex.quote(str(path))}"


def read_info(path: str | os.PathLike[str]) -> EngineInfo:
    """Read and check an engine's sidecar.

    Raises:
        EngineError: no such file, or a sidecar that is missing, damaged or of another file.
    """
    path = Path(path)
    check_file(path, "engine", EngineError, *(() if is_there(path) else _instead_of(path)))
    try:
        facts: EngineFacts = read_sidecar(path, "engine", REBUILD)
        check_value(facts, _SIDECAR, "it")
        batch, height, width = facts["shape_nhw"]
        info = EngineInfo(
            path,
            facts["runtime"],
            facts["precision"],
            (batch, height, width),
            LabelSet.from_facts(facts["label_set"]),
            facts,
            facts.get("channels", 3),
            (facts["scores_hw"][0], facts["scores_hw"][1]) if "scores_hw" in facts else None,
        )
    except ModelError as error:
        raise EngineError(problem_without_sidecar(path, REBUILD) or str(error)) from error
    except ValueError as error:
        raise EngineError(f"the sidecar of {path} is damaged ({error})", "rebuild", REBUILD) from error
    if info.runtime not in RUNTIMES:
        raise EngineError(
            f"{path} was built for runtime {info.runtime!r}, which this version lacks", "rebuild", REBUILD
        )
    return info

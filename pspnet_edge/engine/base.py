"""What every engine is, and how one is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..artifact import read_sidecar
from ..errors import EngineError, ModelError
from ..labels import LabelSet
from ..lazy import require
from .tensorrt.plan_file import problem_without_sidecar

CPU_RUNTIMES = ("openvino", "onnxruntime")
TENSORRT_RUNTIMES = ("tensorrt", "tensorrt-rtx")
RUNTIMES = ("tensorrt", *CPU_RUNTIMES, "tensorrt-rtx")
"""In the order in which ``auto`` prefers them; ``tensorrt-rtx`` is taken only when it is named."""
REBUILD = "pspnet-edge build MODEL --precision P -o ENGINE"


@dataclass(frozen=True)
class EngineInfo:
    """What an engine is, from its sidecar."""

    path: Path
    runtime: str
    precision: str
    shape_nhw: tuple[int, int, int]
    """Frames a batch, height and width in pixels."""
    label_set: LabelSet
    facts: dict[str, Any]
    """The whole sidecar."""


class Session(Protocol):
    """A runtime that holds one engine. It trusts its input; ``Engine`` has checked it."""

    output_is_reused: bool
    """Whether the array that ``infer`` returns is overwritten by the next call."""

    def infer(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """``uint8 [N, H, W, 3]`` BGR → ``uint8 [N, H, W]``."""

    def close(self) -> None:
        """Free what the runtime holds. Called once."""


IN_FLIGHT = 2
"""Batches that an ``OverlappingSession`` takes before the first must be fetched."""


@runtime_checkable
class OverlappingSession(Session, Protocol):
    """A session that works on one batch while the next is written and the last is read: up to ``IN_FLIGHT`` of them."""

    def submit(self, frames: NDArray[np.uint8]) -> None:
        """Begin with ``uint8 [N, H, W, 3]``, which may be overwritten as soon as this returns."""

    def take(self) -> NDArray[np.uint8]:
        """Wait for the oldest batch: ``uint8 [N, H, W]``, overwritten by the next ``submit`` but one."""


class Engine:
    """An opened engine: frames in, masks out.

    Use it as a context manager, or call ``close``.
    """

    def __init__(self, info: EngineInfo, session: Session) -> None:
        self.info = info
        self._session = session
        self._expected = (*info.shape_nhw, 3)
        self._checked = False

    @property
    def output_is_reused(self) -> bool:
        """Whether the mask array is overwritten by the next ``infer``: copy it to keep it."""
        return self._session.output_is_reused

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the frames in pixels."""
        return self.info.shape_nhw[1:]

    def infer(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Segment a batch: ``uint8 [N, H, W, 3]`` BGR → ``uint8 [N, H, W]`` class ids.

        The first call checks shape and type; later frames of a camera loop cannot differ.

        Raises:
            EngineError: the first batch has another shape or type.
        """
        self._check(frames)
        return self._session.infer(frames)

    @property
    def overlaps(self) -> bool:
        """Whether there are ``submit`` and ``take``, for more frames a second at a longer latency each."""
        return isinstance(self._session, OverlappingSession)

    def submit(self, frames: NDArray[np.uint8]) -> None:
        """Begin with a batch; see ``OverlappingSession``.

        Raises:
            EngineError: the first batch has another shape or type, or the session does not overlap.
        """
        self._check(frames)
        self._overlapping().submit(frames)

    def take(self) -> NDArray[np.uint8]:
        """The masks of the oldest batch in flight; see ``OverlappingSession``.

        Raises:
            EngineError: the session does not overlap.
        """
        return self._overlapping().take()

    def close(self) -> None:
        """Free the runtime."""
        self._session.close()

    def _check(self, frames: NDArray[np.uint8]) -> None:
        if self._checked:
            return
        if frames.shape != self._expected or frames.dtype != np.uint8:
            raise EngineError(
                f"{self.info.path.name} takes uint8 frames of shape {self._expected}, "
                f"got {frames.dtype} {frames.shape}: resize the frame to the engine's size first"
            )
        self._checked = True

    def _overlapping(self) -> OverlappingSession:
        if not isinstance(self._session, OverlappingSession):
            raise EngineError(f"{self.info.runtime} works on one batch at a time: use infer")
        return self._session

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


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
    if not path.is_file():
        raise EngineError(f"there is no engine {path}: build one with `{REBUILD}`")
    try:
        facts = read_sidecar(path, "engine", REBUILD)
        label_set = LabelSet.from_facts(facts["label_set"])
        batch, height, width = map(int, facts["shape_nhw"])
        return EngineInfo(path, facts["runtime"], facts["precision"], (batch, height, width), label_set, facts)
    except ModelError as error:
        raise EngineError(problem_without_sidecar(path, REBUILD) or str(error)) from error
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise EngineError(f"the sidecar of {path} is damaged ({error!r}): rebuild with `{REBUILD}`") from error

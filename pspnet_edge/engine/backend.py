"""What every runtime offers: how an engine of it is built and opened. The table of all of them is ``backends.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from .. import processor
from ..data.progress import Advance
from ..errors import BuildError, EngineError
from .engine import EngineInfo
from .facts import MadeFacts
from .session import Session

if TYPE_CHECKING:
    from ..graph.onnx_file import ModelFile

Precision = Literal["fp32", "fp16", "int8"]
Flavour = Literal["symmetric", "uint8"]
"""Of INT8: signed codes throughout, or unsigned ones where an activation cannot be negative."""
REBUILD = "pspnet-edge build MODEL --precision P -o ENGINE"


@dataclass(frozen=True)
class BuildRequest:
    """What to build. The backend converts to FP16 itself, in the way its runtime wants."""

    model: ModelFile
    """FP32; for ``int8`` the FP32 graph with Q/DQ pairs."""
    precision: Precision
    cache: Path
    """Folder for timing caches and the like."""
    options: object = None
    """The backend's own options; None for its defaults."""
    report: Advance = lambda done, note: None
    """Called with the share done in percent and what is being done."""


@dataclass(frozen=True)
class Built:
    """An engine file's content, and what the sidecar records beside what every engine has."""

    content: bytes
    facts: MadeFacts = field(default_factory=MadeFacts)


class Backend(Protocol):
    """One runtime. Adding one takes a file that implements this and a line in ``backends.py``."""

    @property
    def name(self) -> str:
        """As users type it and sidecars record it."""

    @property
    def title(self) -> str:
        """As people write it."""

    @property
    def on_gpu(self) -> bool:
        """Whether its engines run on a GPU."""

    @property
    def flavours(self) -> tuple[Flavour, ...]:
        """Of INT8, the default first."""

    def available(self) -> bool:
        """Whether its package is installed, without importing it."""

    def is_preferred(self) -> bool:
        """Whether ``auto`` takes it on this machine, when no backend before it is preferred."""

    def version(self) -> str:
        """The installed version. Raises ``MissingPackage``."""

    def build(self, request: BuildRequest) -> Built:
        """Build an engine.

        Raises:
            BuildError: the runtime refuses the model.
            OptionError: options that this runtime lacks.
            MissingPackage: the runtime is not installed.
        """

    def open(self, path: Path, info: EngineInfo) -> Session:
        """Load an engine file.

        Raises:
            EngineError: the runtime refuses it, or its input and output are not those of the sidecar.
            MissingPackage: the runtime is not installed.
        """

    def ensure_opens_here(self, path: Path, info: EngineInfo) -> None:
        """Raise ``EngineError`` where the file was built for another version or device; cheap, loads nothing."""


@dataclass(frozen=True)
class Port:
    """An input or output of a loaded engine, as its runtime reports it."""

    name: str
    dtype: str
    """NumPy's name, such as ``uint8``."""
    shape: tuple[int | str | None, ...]


def ensure_runs(load: Callable[[], Session], model: ModelFile) -> None:
    """Load an engine and run one black frame: the runtime itself has the last word on whether this is an engine.

    Raises:
        BuildError: the runtime refuses it, or gives another mask than the contract says.
    """
    frames = np.zeros((*model.shape_nhw, model.channels), np.uint8)
    try:
        session = load()
        try:
            masks = session.infer(frames)
            found = masks.dtype.name, masks.shape
        finally:
            session.close()
    except EngineError as error:
        raise BuildError(f"the model cannot be built: {error.problem}", "export it again") from error
    if found != ("uint8", model.shape_nhw):
        raise BuildError(f"the model gives {found[0]} masks of shape {found[1]}, expected {model.shape_nhw}")


def as_computed_here(content: bytes, precision: str) -> bytes:
    """The graph of an engine, changed where this processor would compute it wrongly.

    An engine's file does not depend on the processor that built it, so that it may be copied to another.
    """
    if precision != "int8" or processor.int8_sums_fit():
        return content
    from ..graph.saturation import without_saturation

    return without_saturation(content)


def ensure_contract(path: Path, info: EngineInfo, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
    """Compare what a runtime loaded with the sidecar.

    Raises:
        EngineError: they differ.
    """
    frames = ("uint8", (*info.shape_nhw, info.channels))
    masks = ("uint8", info.shape_nhw)
    scores = [] if info.scores_hw is None else [("float32", (info.shape_nhw[0], *info.scores_hw))]
    for what, ports, expected, more in (("input", inputs, frames, []), ("output", outputs, masks, scores)):
        found = [(port.dtype, port.shape) for port in ports]
        if found != [expected, *more]:
            listed = ", ".join(f"{port.name} {port.dtype} {list(port.shape)}" for port in ports) or "none"
            raise EngineError(
                f"the {what} of {path} is {listed} and its sidecar says {expected[0]} {list(expected[1])}",
                "rebuild it",
                REBUILD,
            )

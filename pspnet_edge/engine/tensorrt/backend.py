"""TensorRT and TensorRT-RTX as backends: an engine is a plan that the runtime's own builder makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import OptionError
from ...lazy import available, require
from ..backend import BuildRequest, Built, Flavour
from ..engine import EngineInfo
from .gpu import find_gpu

if TYPE_CHECKING:
    from ..session import Session


@dataclass(frozen=True)
class TensorRt:
    """The backend of one of the two; ``BuildRequest.options`` is a ``BuildOptions``."""

    name: str
    title: str
    preferred: bool
    """Whether ``auto`` may take it, where there is a GPU."""
    on_gpu: bool = True
    # It has no uint8 activations: it reads their codes as int8 and clips the upper half.
    flavours: tuple[Flavour, ...] = ("symmetric",)

    def available(self) -> bool:
        return available(self._module)

    def is_preferred(self) -> bool:
        return self.preferred and self.available() and find_gpu() is not None

    def version(self) -> str:
        return str(require(self._module, f"build an engine for {self.name}").__version__)

    def build(self, request: BuildRequest) -> Built:
        from .build_process import build_in_child
        from .builder import BuildOptions

        options = BuildOptions() if request.options is None else request.options
        if not isinstance(options, BuildOptions):
            raise OptionError(f"the options of {self.title} are a BuildOptions, got {type(options).__name__}")
        # Its own builder has the last word; running the plan needs a GPU, which may not be here.
        plan = build_in_child(
            self.name, request.model, request.precision, options, cache=request.cache, report=request.report
        )
        return Built(plan.content, plan.facts)

    def open(self, path: Path, info: EngineInfo) -> Session:
        from .session import open_plan

        return open_plan(path, info.facts)

    def ensure_opens_here(self, path: Path, info: EngineInfo) -> None:
        from .session import check_here

        check_here(path, info.facts)

    @property
    def _module(self) -> str:
        return self.name.replace("-", "_")

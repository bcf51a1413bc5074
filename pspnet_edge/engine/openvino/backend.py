"""OpenVINO as a backend: an engine is the ONNX graph in its precision, changed where OpenVINO wants it."""

from __future__ import annotations

import platform
from pathlib import Path

from ...errors import OptionError
from ...lazy import available, require
from ..backend import BuildRequest, Built, Flavour, ensure_contract, ensure_runs
from ..engine import EngineInfo
from .session import OpenVinoSession


class OpenVino:
    """The backend."""

    name = "openvino"
    title = "OpenVINO"
    on_gpu = False
    flavours: tuple[Flavour, ...] = ("uint8", "symmetric")

    def available(self) -> bool:
        return available("openvino")

    def is_preferred(self) -> bool:
        return self.available()

    def version(self) -> str:
        return str(require("openvino", "build an engine for OpenVINO").__version__)

    def build(self, request: BuildRequest) -> Built:
        if request.options is not None:
            raise OptionError(f"{self.title} has no options beside the precision: leave them out")
        from ...graph.precision import fp16_model
        from .concat import quantised_before_concat
        from .tail import tail_by_class

        model = request.model
        if request.precision == "fp16":
            model = fp16_model(model)
        if request.precision == "int8":
            model = quantised_before_concat(model)
        # Faster on x86; whether it is on ARM processors, which OpenVINO serves by other kernels, was not measured.
        if platform.machine().lower() in ("x86_64", "amd64"):
            model = tail_by_class(model)
        content = model.proto.SerializeToString()
        ensure_runs(lambda: OpenVinoSession(content, request.precision, "the model"), model)
        return Built(content)

    def open(self, path: Path, info: EngineInfo) -> OpenVinoSession:
        session = OpenVinoSession(path.read_bytes(), info.precision, str(path))
        ensure_contract(path, info, *session.ports())
        return session

    def ensure_opens_here(self, path: Path, info: EngineInfo) -> None:
        """Any version opens any engine."""

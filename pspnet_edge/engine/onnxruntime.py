"""ONNX Runtime on processors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError, OptionError
from ..lazy import available, require
from ..records import first_line
from .backend import REBUILD, BuildRequest, Built, Flavour, Port, as_computed_here, ensure_contract, ensure_runs
from .engine import EngineInfo

_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(float16)": "float16"}


class OnnxRuntime:
    """The backend: an engine is the ONNX graph in its precision."""

    name = "onnxruntime"
    title = "ONNX Runtime"
    on_gpu = False
    flavours: tuple[Flavour, ...] = ("uint8", "symmetric")

    def available(self) -> bool:
        return available("onnxruntime")

    def is_preferred(self) -> bool:
        return self.available()

    def version(self) -> str:
        return str(require("onnxruntime", "build an engine for ONNX Runtime").__version__)

    def build(self, request: BuildRequest) -> Built:
        if request.options is not None:
            raise OptionError(f"{self.title} has no options beside the precision: leave them out")
        from ..graph.precision import fp16_model
        from ..graph.quantize import with_unsigned_activations

        model = fp16_model(request.model) if request.precision == "fp16" else with_unsigned_activations(request.model)
        content = model.proto.SerializeToString()
        ensure_runs(lambda: OnnxRuntimeSession(content, "the model", request.precision), model)
        return Built(content)

    def open(self, path: Path, info: EngineInfo) -> OnnxRuntimeSession:
        session = OnnxRuntimeSession(path.read_bytes(), str(path), info.precision)
        ensure_contract(path, info, *session.ports())
        return session

    def ensure_opens_here(self, path: Path, info: EngineInfo) -> None:
        """Any version opens any engine."""


class OnnxRuntimeSession:
    """One ONNX graph in ONNX Runtime's CPU provider.

    Args:
        content: the graph.
        name: what errors call it.
        precision: of the engine.
    """

    output_is_reused = False

    def __init__(self, content: bytes, name: str, precision: str = "fp32") -> None:
        onnxruntime = require("onnxruntime", "run an ONNX Runtime engine")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            # Without the second try, of which it prints a banner on stdout.
            self._session = onnxruntime.InferenceSession(
                as_computed_here(content, precision),
                options,
                providers=["CPUExecutionProvider"],
                enable_fallback=0,
            )
        except Exception as error:  # its exceptions derive from Exception alone
            raise EngineError(
                f"ONNX Runtime cannot load {name} ({first_line(error)})", "rebuild it", REBUILD
            ) from error
        self._input = self._session.get_inputs()[0].name

    def ports(self) -> tuple[list[Port], list[Port]]:
        """Inputs and outputs."""

        def port(value: Any) -> Port:
            return Port(value.name, _DTYPES.get(value.type, value.type), tuple(value.shape))

        return [port(value) for value in self._session.get_inputs()], [
            port(value) for value in self._session.get_outputs()
        ]

    def infer(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """See ``session.Session``."""
        return np.asarray(self._run(frames)[0])

    def infer_scores(self, frames: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """See ``session.ScoringSession``."""
        masks, scores = self._run(frames)
        return np.asarray(masks), np.asarray(scores)

    def _run(self, frames: NDArray[np.uint8]) -> list[Any]:
        try:
            return list(self._session.run(None, {self._input: frames}))
        except Exception as error:  # its exceptions derive from Exception alone
            raise EngineError(f"ONNX Runtime failed ({first_line(error)})", "rebuild it", REBUILD) from error

    def close(self) -> None:
        """See ``session.Session``."""
        del self._session

"""ONNX Runtime on the processor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from ..lazy import require


class OnnxRuntimeSession:
    """One ONNX graph in ONNX Runtime's CPU provider."""

    output_is_reused = False

    def __init__(self, path: Path) -> None:
        onnxruntime = require("onnxruntime", "run an ONNX Runtime engine")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions derive from Exception alone
            reason = str(error).strip().split("\n")[0]
            raise EngineError(
                f"ONNX Runtime cannot load {path} ({reason}): rebuild it with `pspnet-edge build`"
            ) from error
        self._input = self._session.get_inputs()[0].name

    def infer(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """See ``base.Session``."""
        return np.asarray(self._session.run(None, {self._input: frames})[0])

    def close(self) -> None:
        """See ``base.Session``."""
        del self._session

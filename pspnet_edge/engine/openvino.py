"""OpenVINO on x86 and ARM processors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from ..lazy import require


class OpenVinoSession:
    """One ONNX graph compiled for the processor, one request at a time for the least latency.

    What an FP16 or INT8 engine does not compute in INT8 runs in the 16-bit format of the processor, bfloat16 on x86,
    where it has one.
    """

    output_is_reused = True

    def __init__(self, path: Path, precision: str) -> None:
        openvino = require("openvino", "run an OpenVINO engine")
        options = {"PERFORMANCE_HINT": "LATENCY"}
        if precision == "fp32":
            # Left to itself OpenVINO computes in bfloat16 where the processor can; an FP32 engine must not.
            options["INFERENCE_PRECISION_HINT"] = "f32"
        try:
            core = openvino.Core()
            model = core.read_model(path.read_bytes())
            compiled = core.compile_model(model, "CPU", options)
        except (RuntimeError, OSError) as error:
            reason = str(error).strip().split("\n")[-1]
            raise EngineError(f"OpenVINO cannot load {path} ({reason}): rebuild it with `pspnet-edge build`") from error
        self._request = compiled.create_infer_request()

    def infer(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """See ``base.Session``."""
        outputs = self._request.infer({0: frames}, share_inputs=True, share_outputs=True)
        return np.asarray(outputs[0])

    def close(self) -> None:
        """See ``base.Session``."""
        del self._request

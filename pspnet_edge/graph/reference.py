"""Graphs run in ONNX Runtime on the processor: what calibration watches and the accuracy gate compares with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from .. import processor
from ..errors import ModelError
from ..lazy import require
from ..records import first_line


class ReferenceSession:
    """One graph in ONNX Runtime.

    Args:
        proto: the graph.
        purpose: what for, as a phrase after "to", quoted when ONNX Runtime is missing.
        watched: tensors that ``run`` returns; empty returns the graph's outputs.

    Raises:
        ModelError: ONNX Runtime refuses the graph.
        MissingPackage: it is not installed.
    """

    def __init__(self, proto: onnx.ModelProto, purpose: str, watched: Sequence[str] = ()) -> None:
        onnxruntime = require("onnxruntime", purpose)
        if watched:
            copied = onnx.ModelProto()
            copied.CopyFrom(proto)
            given = {value.name for value in proto.graph.output}
            copied.graph.output.extend(
                onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
                for name in watched
                if name not in given
            )
            proto = copied
        self._watched = list(watched) or None
        self._input = proto.graph.input[0].name
        self.batch = proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if not processor.int8_sums_fit():
            # Q/DQ pairs are then computed as they are written, in float32.
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        try:
            self._session: Any = onnxruntime.InferenceSession(
                proto.SerializeToString(), options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
        except Exception as error:  # its exceptions derive from Exception alone
            raise ModelError(f"ONNX Runtime refuses the model ({first_line(error)})", "export it again") from error

    def run(self, value: NDArray[Any]) -> list[NDArray[Any]]:
        """The outputs for one input.

        Raises:
            ModelError: ONNX Runtime cannot compute the graph.
        """
        try:
            return [np.asarray(output) for output in self._session.run(self._watched, {self._input: value})]
        except Exception as error:  # its exceptions derive from Exception alone
            raise ModelError(f"ONNX Runtime cannot run the model ({first_line(error)})", "export it again") from error

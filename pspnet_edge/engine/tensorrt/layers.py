"""Reading the builder's layer dump: in which precision each convolution of the graph is computed.

TensorRT names a type in three ways: only ``Int8``, ``Half`` or ``Float``; inside a format, as in ``Row major linear
FP32`` or ``Thirty-two wide channel vectorized row major Int8 format``; and, for layers that its compiler generates,
``Datatype: Half`` beside a format.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_LAYER = re.compile(r"LayerType: (?P<kind>[^,]+), Inputs: \[(?P<inputs>.*?)\](?=, (?:Constants|Outputs):)")
_NAME = re.compile(r"^(?:.*?\b)?Name: (?P<name>.*?), LayerType: ")
_ORIGIN = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_TYPES = {
    "Int8": "int8",
    "INT8": "int8",
    "FP8": "fp8",
    "Half": "fp16",
    "FP16": "fp16",
    "BFloat16": "bf16",
    "BF16": "bf16",
    "Float": "fp32",
    "FP32": "fp32",
}
_TYPE = re.compile(rf"Datatype: [^,}}]*?\b({'|'.join(_TYPES)})\b")


def convolution_precisions(lines: Iterable[str], convolutions: Iterable[str]) -> dict[str, str]:
    """Convolution node → type of the data it reads: ``int8``, ``fp16``, ``fp32`` and the like.

    Args:
        lines: of a dump at ``ProfilingVerbosity.DETAILED``, from the log.
        convolutions: names of the graph's Conv nodes; one that the dump does not name is left out.
    """
    wanted = set(convolutions)
    found: dict[str, str] = {}
    for line in lines:
        layer = _LAYER.search(line)
        if layer is None or not _computes_convolution(layer["kind"]):
            continue
        first = _TYPE.search(layer["inputs"])
        name = _NAME.search(line)
        for origin in wanted & _origins(line, name["name"] if name else ""):
            if first is not None:
                found[origin] = _TYPES[first[1]]
    return found


def _origins(metadata: str, name: str) -> set[str]:
    """The ONNX nodes of a layer: from its metadata, which TensorRT 8.6 began to write, else from its name."""
    named = set(_ORIGIN.findall(metadata))
    return named or {part.removeprefix("PWN(").rstrip(")") for part in name.split(" + ")}


def _computes_convolution(kind: str) -> bool:
    return any(part in kind.lower() for part in ("correlation", "conv", "gemm"))

"""Reading the builder's layer dump: in which precision each convolution of the graph is computed."""

from __future__ import annotations

import re
from collections.abc import Iterable

_LAYER = re.compile(r"LayerType: (?P<kind>[^,]+), Inputs: \[(?P<inputs>.*?)\](?=, (?:Constants|Outputs):)")
_ORIGIN = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_TYPES = {"Int8": "int8", "Half": "fp16", "BFloat16": "bf16", "Float": "fp32"}
_TYPE = re.compile(rf"Datatype: [^,}}]*?({'|'.join(_TYPES)})")


def convolution_precisions(lines: Iterable[str], convolutions: Iterable[str]) -> dict[str, str]:
    """Convolution node → type of the data it reads: ``int8``, ``fp16`` or ``fp32``.

    Args:
        lines: of a dump at ``ProfilingVerbosity.DETAILED``, from the log or the engine inspector.
        convolutions: names of the graph's Conv nodes; one that the dump does not name is left out.
    """
    wanted = set(convolutions)
    found: dict[str, str] = {}
    for line in lines:
        layer = _LAYER.search(line)
        if layer is None or not _computes_convolution(layer["kind"]):
            continue
        first = _TYPE.search(layer["inputs"])
        for origin in wanted.intersection(_ORIGIN.findall(line)):
            if first is not None:
                found[origin] = _TYPES[first[1]]
    return found


def _computes_convolution(kind: str) -> bool:
    return any(part in kind.lower() for part in ("correlation", "conv", "gemm"))

"""ONNX into a TensorRT network; what the parser refuses comes out as the node and a likely fix."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ...errors import BuildError
from ...graph.onnx_file import ModelFile
from .versions import Api

if TYPE_CHECKING:
    from . import typed

_EXPORT = "export the model again with `pspnet-edge export CHECKPOINT`"
_FIXES = (
    ("zero point", "TensorRT takes only symmetric int8: quantize with `pspnet-edge build --precision int8`"),
    ("type Int32 but must have type", "a bias must not be quantized: leave it in floating point"),
    ("coefficients must all be positive", "a scale is zero or negative: calibrate again with `pspnet-edge calibrate`"),
    ("maxKernelDimsProduct", "the pooling window is too large: export at a smaller --size"),
    ("[Aa]ntialias", "TensorRT resizes without antialiasing: export without it"),
    ("must be of same type", "the node mixes FP32 and FP16: give the FP32 model and let --precision convert it"),
    ("UINT8", "uint8 may be only at the two ends of the graph, next to a Cast"),
    ("[Nn]o importer|[Pp]lugin not found|not supported|[Uu]nsupported", f"this version lacks that operator: {_EXPORT}"),
)


def parse_graph(api: Api, network: typed.INetworkDefinition, model: ModelFile, logger: Any) -> None:
    """Fill an empty network.

    Raises:
        BuildError: the parser refuses the graph; says at which node, why, and a likely fix.
    """
    parser: typed.OnnxParser = api.trt.OnnxParser(network, logger)
    if parser.parse(model.proto.SerializeToString()):
        return
    # The last error is where parsing stopped; those before it are warnings or lead to it.
    error: typed.ParserError | None = parser.get_error(parser.num_errors - 1) if parser.num_errors else None
    if error is None:
        raise BuildError(f"{api.name} cannot parse the model and does not say why: {_EXPORT}")
    reason = str(error.desc())
    raise BuildError(f"{api.name} refuses {_node(model, error.node())} ({_short(reason)}): {_fix(reason)}")


def _node(model: ModelFile, index: int) -> str:
    nodes = model.proto.graph.node
    return f"node {nodes[index].name} ({nodes[index].op_type})" if 0 <= index < len(nodes) else "the graph"


def _short(reason: str) -> str:
    """The parser's own words, without the files of its authors."""
    text = " ".join(reason.split())
    text = re.split(r" In \w+ at /|\[checkMacros", text)[0]
    return text if len(text) < 200 else f"{text[:200]}…"


def _fix(reason: str) -> str:
    return next((fix for pattern, fix in _FIXES if re.search(pattern, reason)), _EXPORT)

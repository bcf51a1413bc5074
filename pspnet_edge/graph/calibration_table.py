"""The calibration table: what was measured on calibration images, enough to place Q/DQ without any image.

One JSON file. It belongs to a set of weights, not to an input size, so one table serves every size of a model.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import onnx

from ..artifact import write_json
from ..document import List, Map, Number, Record, Text, read_document
from ..errors import CalibrationError
from .onnx_file import ModelFile
from .rounding import Rounding

FORMAT_VERSION = 2
_KIND = "calibration"
_SHAPE = Record(
    {
        "kind": Text(),
        "format_version": Number(whole=True),
        "weights_sha256": Text(64),
        "method": Text(100),
        "dataset": Text(1000),
        "images": Number(0, 10**9, whole=True),
        "images_sha256": Text(64),
        "amax": Map(Number(1e-30, 1e30)),
    },
    {
        "rounding": Map(Record({name: Text(64 << 20) for name in Rounding.__dataclass_fields__}, closed=True)),
        "stretch": Map(List(Number(1, 1e30))),
    },
    closed=True,
)
LEARNED = "learned"
"""The method of a table whose ranges come from quantisation-aware training."""


@dataclass(frozen=True)
class CalibrationTable:
    """Ranges of activations, how weights are rounded and channels stretched, and where all that came from."""

    weights_sha256: str
    """Which weights it belongs to, as ``weights_fingerprint`` gives it."""
    method: str
    """How ranges were chosen from histograms, or ``LEARNED``."""
    dataset: str
    images: int
    """How many were looked at; 0 where ranges were learned."""
    images_sha256: str
    """Fingerprint of the calibration images' shapes and pixels, in order; empty where ranges were learned."""
    amax: dict[str, float]
    """Tensor name → the absolute value that the largest int8 code stands for."""
    rounding: dict[str, Rounding] = field(default_factory=dict)
    """Convolution → how its weights and bias differ from the nearest; the others are rounded to nearest."""
    stretch: dict[str, list[float]] = field(default_factory=dict)
    """Tensor → what each channel is multiplied by before the depthwise convolution that reads it."""

    def matches(self, model: ModelFile) -> None:
        """Raise ``CalibrationError`` when the table was made for other weights."""
        if self.weights_sha256 != weights_fingerprint(model.graph):
            raise CalibrationError(
                "the calibration table was made for other weights than this model's: "
                "make it anew with `pspnet-edge calibrate MODEL -o FILE`"
            )


def weights_fingerprint(graph: onnx.ModelProto) -> str:
    """SHA-256 over names and bytes of all convolution weights and biases."""
    digest = hashlib.sha256()
    wanted = {name for node in graph.graph.node if node.op_type == "Conv" for name in node.input[1:]}
    for tensor in sorted(graph.graph.initializer, key=lambda tensor: tensor.name):
        if tensor.name in wanted:
            digest.update(tensor.name.encode())
            digest.update(onnx.numpy_helper.to_array(tensor).tobytes())
    return digest.hexdigest()


def write_table(path: Path, table: CalibrationTable) -> None:
    """Write a table atomically."""
    write_json(path, {"format_version": FORMAT_VERSION, "kind": _KIND} | asdict(table))


def read_table(path: Path) -> CalibrationTable:
    """Read a table.

    Raises:
        CalibrationError: missing, truncated, another kind of file, another version, or values that no range can have.
    """
    content = read_document(
        path,
        what="calibration table",
        shape=_SHAPE,
        remake="pspnet-edge calibrate MODEL -o FILE",
        kind=_KIND,
        version=FORMAT_VERSION,
        error=CalibrationError,
    )
    fields = {key: value for key, value in content.items() if key not in ("kind", "format_version")}
    fields["rounding"] = {name: Rounding(**packed) for name, packed in fields.get("rounding", {}).items()}
    return CalibrationTable(**fields)

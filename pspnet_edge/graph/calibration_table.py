"""The calibration table: what was measured on calibration images, enough to place Q/DQ without any image.

One JSON file. It belongs to a set of weights, not to an input size, so one table serves every size of a model.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any

import onnx

from ..artifact import write_json
from ..errors import CalibrationError
from .onnx_file import ModelFile
from .rounding import Rounding

FORMAT_VERSION = 2
_KIND = "calibration"
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
    remake = "make it anew with `pspnet-edge calibrate MODEL -o FILE`"
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CalibrationError(f"there is no calibration table {path}: {remake}") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CalibrationError(f"the calibration table {path} cannot be read ({error}): {remake}") from error
    if not isinstance(content, dict) or content.get("kind") != _KIND:
        raise CalibrationError(f"{path} is not a calibration table of pspnet-edge: {remake}")
    if content.get("format_version") != FORMAT_VERSION:
        raise CalibrationError(
            f"{path} has format version {content.get('format_version')}, this package reads {FORMAT_VERSION}: {remake}"
        )
    fields = {key: value for key, value in content.items() if key not in ("kind", "format_version")}
    try:
        fields["rounding"] = {name: Rounding(**packed) for name, packed in fields.get("rounding", {}).items()}
        table = CalibrationTable(**fields)
        ranges = dict(table.amax)
        if not all(isinstance(value, (int, float)) for value in ranges.values()):
            raise TypeError("a range is not a number")
        if not all(isinstance(text, str) for packed in table.rounding.values() for text in astuple(packed)):
            raise TypeError("a rounding is not text")
        if not all(1 <= factor < math.inf for factors in table.stretch.values() for factor in factors):
            raise TypeError("a stretch is not a factor of at least 1")
    except (AttributeError, TypeError, ValueError) as error:
        raise CalibrationError(f"the calibration table {path} is damaged ({error}): {remake}") from error
    for name, value in ranges.items():
        if not (math.isfinite(value) and value > 0):
            raise CalibrationError(f"{path} gives tensor {name} the range {value}, which none can have: {remake}")
    return table

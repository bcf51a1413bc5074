"""What is exported or built already, recognized where something else is asked for."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Literal

from .artifact import sidecar_path
from .document import LARGEST_BYTES, parse_json
from .errors import ModelError
from .inputs import is_file

ONNX_KEY = "pspnet_edge"
"""Of the metadata that an ONNX file of this package carries."""
Built = Literal["engine", "pack", "quantized", "model", "onnx"]

_NAMES: dict[Built, str] = {
    "engine": "an engine",
    "pack": "a pack",
    "quantized": "a quantized ONNX model",
    "model": "an ONNX model of this package",
    "onnx": "an ONNX model",
}
# Its version, and then its producer, graph or operator set.
_ONNX = re.compile(rb"\x08[\x01-\x20][\x12\x1a\x22\x3a\x42]")
# As protobuf stores the key: field 1, its length, its text; and then field 2.
_STORED_KEY = b"\x0a" + bytes([len(ONNX_KEY)]) + ONNX_KEY.encode() + b"\x12"


def built_kind(path: Path) -> Built | None:
    """An engine, a pack, or an ONNX file: one that is quantized, one of this package, another; None for all else."""
    if is_engine(path):
        return "engine"
    if not is_file(path):
        return None
    if path.suffix.lower() == ".pspnet":
        return "pack"
    try:
        with path.open("rb") as stream:
            start = stream.read(3)
            content = start + stream.read() if _ONNX.match(start) else b""
    except OSError:
        return None
    if not content:
        return None
    return "quantized" if b"QuantizeLinear" in content else "model" if _STORED_KEY in content else "onnx"


def is_engine(path: Path) -> bool:
    """Whether a file is an engine, by its name or its sidecar."""
    place = sidecar_path(path)
    if not is_file(path):
        return False
    if path.suffix.lower() == ".engine":
        return True
    try:
        if not is_file(place) or place.stat().st_size > LARGEST_BYTES:
            return False
        facts = parse_json(place.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(facts, dict) and facts.get("kind") == "engine"


def ensure_not_built(path: Path) -> None:
    """Raise where another file than a checkpoint is given for one.

    Raises:
        ModelError: an engine, a pack or an ONNX model.
    """
    kind = built_kind(path)
    if kind == "onnx":
        adapt = f"pspnet-edge adapt {shlex.quote(str(path))}"
        raise ModelError(f"{path} is an ONNX model, not a checkpoint", "wrap it", adapt)
    if kind is not None:
        raise ModelError(f"{path} is {_NAMES[kind]}, not a checkpoint", "give the .pt file it was made from")


def ensure_foreign(path: Path) -> None:
    """Raise where a file of this package is given for another program's network.

    Raises:
        ModelError: an engine, a pack or a model of this package.
    """
    kind = built_kind(path)
    if kind in ("engine", "pack", "model"):
        raise ModelError(f"{path} is {_NAMES[kind]} already", "use it as it is")


def ensure_not_engine(path: Path) -> None:
    """Raise where an engine is given for a model.

    Raises:
        ModelError: it is an engine.
    """
    if is_engine(path):
        raise ModelError(f"{path} is an engine, which is built already", "give the model that it was built from")

"""Reading checkpoint files of any origin without running anything that they ask for.

PyTorch's files go through ``torch.load(weights_only=True)``. Pickles of numpy arrays, ``.pdparams`` among them, go
through an unpickler that knows arrays and plain containers and nothing else.
"""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import ModelError
from ...inputs import check_file

_ZIP = b"PK\x03\x04"
# The first thing in PyTorch's files from before 1.6: the pickle of a magic number.
_OLD_TORCH = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
_STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net", "weights")
_WRAPPERS = ("module.", "model.")
_SAVE_PLAINLY = "where it was trained, save the weights alone with `torch.save(model.state_dict(), FILE)`"


@dataclass(frozen=True)
class StoredCheckpoint:
    """What a file holds."""

    tensors: dict[str, Tensor]
    """The state dict, without the prefix that DataParallel and others put before every key."""
    meta: dict[str, Any] = field(default_factory=dict)
    """mmseg's ``meta``: class names and the text of the configuration; empty elsewhere."""
    beside: tuple[str, ...] = ()
    """Names of what stands beside the state dict: epoch, optimiser and the like."""


def read_stored(path: Path) -> StoredCheckpoint:
    """Read a checkpoint of another project.

    Raises:
        ModelError: missing, damaged, asking for more than tensors, or without a state dict.
    """
    check_file(path, "checkpoint", ModelError, "give the path of the file that the other project saved")
    with path.open("rb") as stream:
        start = stream.read(len(_OLD_TORCH))
    of_torch = start.startswith((_ZIP, _OLD_TORCH))
    content = _read_torch(path) if of_torch else _read_arrays(path)
    if not isinstance(content, Mapping):
        raise ModelError(f"{path} holds a {type(content).__name__} and no state dict: {_SAVE_PLAINLY}")
    if str(content.get("format", "")).startswith("pspnet-edge"):
        raise ModelError(f"{path} is a pspnet-edge checkpoint already: use it as it is")
    inner = next((content[key] for key in _STATE_DICT_KEYS if isinstance(content.get(key), Mapping)), None)
    state = content if inner is None else inner
    tensors = {str(key): tensor for key, value in state.items() if (tensor := _tensor(value)) is not None}
    if not tensors:
        raise ModelError(f"{path} holds no tensors: give a checkpoint of a trained network")
    meta = content.get("meta")
    beside = () if inner is None else tuple(str(key) for key, value in content.items() if value is not inner)
    return StoredCheckpoint(_unwrapped(tensors), dict(meta) if isinstance(meta, Mapping) else {}, beside)


def _read_torch(path: Path) -> Any:
    try:
        return _load_weights(path)
    except Exception as error:  # torch raises many kinds here, from zipfile's to pickle's
        reason = str(error).strip()
        asked = re.search(r"GLOBAL (\S+)", reason)
        if asked:
            raise ModelError(
                f"{path} asks to load {asked[1]}, which tensors do not need, and was refused: {_SAVE_PLAINLY}"
            ) from error
        raise ModelError(f"{path} is damaged or cut short ({reason.splitlines()[0]}): copy it again") from error


def _load_weights(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # mmengine keeps its loss curves beside the weights, as objects of its own.
        if "mmengine" not in str(error):
            raise
        try:
            with torch.serialization.safe_globals(_MMENGINE_STAND_INS):
                return torch.load(path, map_location="cpu", weights_only=True)
        except AttributeError:
            raise error from None  # an older PyTorch knows no stand-ins: refused like anything else


def _read_arrays(path: Path) -> Any:
    try:
        with path.open("rb") as stream:
            return _ArraysOnly(stream).load()
    except _Refused as error:
        raise ModelError(
            f"{path} asks to load {error}, which arrays do not need, and was refused: "
            "save a dictionary of numpy arrays where it was trained"
        ) from error
    except Exception as error:  # a damaged pickle can raise anything
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ModelError(
            f"{path} is neither a PyTorch file nor a pickle of arrays, or it is damaged ({reason}): copy it again"
        ) from error


class _Refused(Exception):
    """The name of what a pickle asked for."""


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that knows numpy arrays and plain containers; anything else ends it before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        """Look a name up in the admitted ones, never in a module."""
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None


def _latin1(text: str, encoding: str) -> bytes:
    """The one call of ``_codecs.encode`` that pickles of arrays make."""
    if encoding != "latin1":
        raise _Refused(f"_codecs.encode to {encoding}")
    return text.encode("latin1")


# The private functions that rebuild arrays moved between versions of numpy; an array itself says where they are.
_RECONSTRUCT: Callable[..., Any] = np.zeros(0).__reduce__()[0]  # type: ignore[assignment]
_FROM_BUFFER: Callable[..., Any] = np.zeros(1).__reduce_ex__(5)[0]  # type: ignore[assignment]
_SCALAR: Callable[..., Any] = np.float32(0).__reduce__()[0]

_ADMITTED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "tuple"): tuple,
    ("__builtin__", "tuple"): tuple,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1,
}
for _package in ("numpy.core", "numpy._core"):
    _ADMITTED[f"{_package}.multiarray", "_reconstruct"] = _RECONSTRUCT
    _ADMITTED[f"{_package}.multiarray", "scalar"] = _SCALAR
    _ADMITTED[f"{_package}.numeric", "_frombuffer"] = _FROM_BUFFER


class _Ignored:
    """Stands in for an object that an import has no use for."""

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


_MMENGINE_STAND_INS: list[Any] = [
    (_Ignored, "mmengine.logging.history_buffer.HistoryBuffer"),
    (_Ignored, "builtins.getattr"),
    (_RECONSTRUCT, "numpy.core.multiarray._reconstruct"),
    (_RECONSTRUCT, "numpy._core.multiarray._reconstruct"),
    (_latin1, "_codecs.encode"),
    np.ndarray,
    np.dtype,
    type(np.dtype(np.float64)),
    type(np.dtype(np.int64)),
]


def _tensor(value: object) -> Tensor | None:
    """Tensors and arrays as float32 or integers; Paddle also writes (name, array)."""
    if isinstance(value, tuple) and len(value) == 2:
        value = value[1]
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        value = torch.from_numpy(np.array(value))
    if not isinstance(value, Tensor):
        return None
    return value.detach().float() if value.is_floating_point() else value.detach()


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if all(key.startswith(wrapper) for key in tensors):
            return _unwrapped({key[len(wrapper) :]: value for key, value in tensors.items()})
    return tensors

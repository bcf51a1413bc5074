"""Reading checkpoint files of any origin without running anything that they ask for.

PyTorch's files go through ``torch.load(weights_only=True)``; objects that training programs keep beside the weights
become inert. Old files are read in a child process, see ``arrays``.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import ModelError
from ...lazy import require
from .allowed import is_harmless, named_inert
from .arrays import RECONSTRUCT, SCALAR, Refused, read_in_child, refusal
from .kinds import SAVE_PLAINLY, kind_of
from .state import Taken, WeightsChoice, choose_state

_MOST_NAMES = 64


@dataclass(frozen=True)
class StoredCheckpoint:
    """What a file holds."""

    tensors: dict[str, Tensor]
    """The state dict, without the prefix that DataParallel and others put before every key."""
    meta: dict[str, Any] = field(default_factory=dict)
    """mmseg's ``meta``: class names and the text of the configuration; empty elsewhere."""
    beside: dict[str, str] = field(default_factory=dict)
    """What is in the file beside the network, with why it is left out: epoch, optimizer, loss weights and the like."""
    remarks: tuple[str, ...] = ()
    """What was chosen while reading, a phrase each: which of two state dicts, which prefix."""
    buffers: dict[str, Tensor] = field(default_factory=dict)
    """Small tensors beside the network, such as a Lightning module's ``mean`` and ``std``."""


def read_stored(path: Path, weights: WeightsChoice | None = None) -> StoredCheckpoint:
    """Read a checkpoint of another project.

    Args:
        path: the file.
        weights: ``model`` or ``ema`` where it holds both; None takes the model's and says so.

    Raises:
        ModelError: missing, damaged, asking for more than tensors, or without a state dict.
    """
    content = read_content(path)
    if not isinstance(content, Mapping):
        raise ModelError(f"{path} holds a {type(content).__name__} and no state dict: {SAVE_PLAINLY}")
    if str(content.get("format", "")).startswith("pspnet-edge"):
        raise ModelError(f"{path} is a pspnet-edge checkpoint already: use it as it is")
    taken: Taken = choose_state(path, content, weights)
    meta = content.get("meta")
    return StoredCheckpoint(
        taken.tensors, dict(meta) if isinstance(meta, Mapping) else {}, taken.beside, taken.remarks, taken.buffers
    )


def read_content(path: Path) -> Any:
    """Whatever a checkpoint file holds, as plain values and tensors or arrays.

    Raises:
        ModelError: see ``read_stored``.
    """
    kind = kind_of(path)
    if kind == "safetensors":
        return _read_safetensors(path)
    if kind in ("pickle", "old torch"):
        return read_in_child(path, kind)
    try:
        return load_torch(path)
    except Refused as error:
        raise refusal(path, str(error)) from error
    except Exception as error:  # torch raises many kinds here, from zipfile's to pickle's
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{path} is damaged or cut short ({reason}): copy it again") from error


def load_torch(path: Path) -> Any:
    """``torch.load`` for weights, with harmless objects beside them made inert.

    Raises:
        Refused: the file names something that is not harmless.
        Exception: of torch, for a damaged file.
    """
    known: list[Any] = list(_NUMPY)
    names: set[str] = set()
    for _ in range(_MOST_NAMES):
        try:
            with torch.serialization.safe_globals(known):
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            asked = _asked(str(error))
            if asked is None or asked in names:
                raise
            module, _, name = asked.rpartition(".")
            module = module or "builtins"  # which PyTorch leaves out of the name
            if not is_harmless(module, name):
                raise Refused(f"{module}.{name}") from error
            names.add(asked)
            known.append((named_inert(module, name), f"{module}.{name}"))
    raise Refused("more names than weights could need")


_NUMPY: tuple[Any, ...] = (
    *(
        (function, f"{package}.multiarray.{name}")
        for package in ("numpy.core", "numpy._core")
        for function, name in ((RECONSTRUCT, "_reconstruct"), (SCALAR, "scalar"))
    ),
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in "?bBhHiIlLqQefdSU"},
    (named_inert("_codecs", "encode"), "_codecs.encode"),
)


def _asked(message: str) -> str | None:
    """The name that PyTorch's reader stopped at."""
    for pattern in (r"GLOBAL (\S+)", r"for class (\S+?)[,\s]", r"type (?:of )?<class '([^']+)'>"):
        found = re.search(pattern, message)
        if found:
            return found[1].strip("`'\"")
    return None


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    safetensors = require("safetensors.torch", "read a safetensors file")
    try:
        tensors: dict[str, Tensor] = safetensors.load_file(str(path), device="cpu")
    except Exception as error:  # the package has an error class of its own
        raise ModelError(f"{path} is damaged or cut short ({error}): copy it again") from error
    return tensors

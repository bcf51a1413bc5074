"""Reading checkpoint files of any origin without running anything that they ask for.

PyTorch's files go through ``torch.load(weights_only=True)``; objects that training programs keep beside the weights
become inert. Old files are read in a child process, see ``arrays``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import ModelError
from ...lazy import require
from .allowed import Refused
from .arrays import read_in_child, refusal
from .kinds import SAVE_PLAINLY, kind_of
from .state import Taken, WeightsChoice, choose_state
from .torch_file import load_torch


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
    if isinstance(content, (list, tuple)):  # (state dict, epoch), and the like
        content = {str(place): value for place, value in enumerate(content) if isinstance(value, Mapping)} or content
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
        # What torch says before that advises to load the file without the check.
        reason = str(error).rpartition("WeightsUnpickler error:")[2].strip().partition("\n")[0]
        if reason.startswith("Can only"):
            raise ModelError(f"{path} holds objects beside the weights that are not read: {SAVE_PLAINLY}") from error
        raise ModelError(f"{path} is damaged or cut short ({reason[:200]}): copy it again") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    safetensors = require("safetensors.torch", "read a safetensors file")
    try:
        tensors: dict[str, Tensor] = safetensors.load_file(str(path), device="cpu")
    except Exception as error:  # the package has its own error class
        raise ModelError(f"{path} is damaged or cut short ({error}): copy it again") from error
    return tensors

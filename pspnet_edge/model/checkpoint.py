"""Checkpoints: the weights of a model and all that is needed to use them, in one file.

A checkpoint is a dictionary of plain values and tensors, so it loads with ``weights_only=True``:

    format       "pspnet-edge checkpoint"
    version      1
    preset       name of the network in ``pspnet.PRESETS``
    architecture {field of ``pspnet.Preset``: value} where the network differs from its preset; absent where it does not
    label_set    {"name", "classes", "palette"}
    weights      state dict; after quantization-aware training with the learned ranges as quantiser.log_ranges
    facts        what is known about it: recipe, epochs, measured mIoU (JSON values)
    training     optimizer state and progress; only in the file that ``train --resume`` reads
"""

from __future__ import annotations

import json
import logging
import pickle
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..artifact import atomic_path
from ..document import LABEL_SET, Anything, Map, Record, Text, Unfit, check_value
from ..errors import ModelError, PspnetEdgeError
from ..inputs import check_file
from ..labels import LabelSet
from ..records import first_line
from .foreign.kinds import kind_of
from .pspnet import PSPNet, network_from_file
from .quantiser import Quantiser

_log = logging.getLogger(__name__)

_FORMAT = "pspnet-edge checkpoint"
_VERSION = 1
_SHAPE = Record({"preset": Text(200), "label_set": LABEL_SET, "facts": Map(Anything())})
_RANGES = "quantiser.log_ranges"


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint."""

    model: PSPNet
    label_set: LabelSet
    facts: dict[str, Any]
    training: dict[str, Any] | None

    @property
    def size_hw(self) -> tuple[int, int] | None:
        """The frame size that training validated at, and so the one to export; None where that is not known."""
        recipe = self.facts.get("recipe")
        match recipe.get("size_hw") if isinstance(recipe, dict) else None:
            case [int(height), int(width)] if height > 0 and width > 0:
                return height, width
        return None


def save_checkpoint(
    path: Path,
    model: PSPNet,
    label_set: LabelSet,
    facts: dict[str, Any],
    training: dict[str, Any] | None = None,
) -> None:
    """Write a checkpoint atomically. The same content gives the same bytes."""
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "preset": model.preset,
        "label_set": label_set.facts(),
        # Pickle writes an object once and refers to it later: texts that are equal but not the same would change bytes.
        "facts": json.loads(json.dumps(facts)),
        "weights": {key: value.contiguous() for key, value in model.state_dict().items()},
    }
    if model.architecture:
        content["architecture"] = model.architecture
    if training is not None:
        content["training"] = training
    # By its name, PyTorch would refuse a file without a suffix, and store the temporary name in it.
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        try:
            torch.save(content, stream)
        except RuntimeError as error:
            # Of a write that failed or was interrupted torch says only that its archive is incomplete.
            raise error.__context__ or error from None
    _log.info("saved the checkpoint %s", path)


def check_checkpoint_file(path: Path) -> None:
    """Raise ``ModelError`` unless there is an ordinary file that may be a checkpoint."""
    check_file(path, "checkpoint", ModelError, "give one that `train` left, or a bundled name", "pspnet-edge models")


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and build its model, in evaluation mode on the CPU.

    Raises:
        ModelError: missing, damaged, not one of ours, or weights that do not fit the network it names.
    """
    check_checkpoint_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds here, from zipfile's to pickle's
        kind = kind_of(path)  # which names what is no checkpoint at all
        # The text of torch is left out: it advises to load the file without the check.
        if kind == "torch zip" and isinstance(error, pickle.UnpicklingError):
            raise ModelError(
                f"{path} is not a pspnet-edge checkpoint: it holds Python objects beside or in place of weights",
                f"convert it with `pspnet-edge import {shlex.quote(str(path))}`",
            ) from error
        raise ModelError(
            f"{path} is not a checkpoint that can be loaded safely: damaged, or not of PyTorch",
            "give the .pt file of `train` or `import`",
        ) from error
    form, version = (content.get(name) for name in ("format", "version")) if isinstance(content, dict) else (None, None)
    if not isinstance(form, str) or form != _FORMAT:
        raise ModelError(f"{path} is not a pspnet-edge checkpoint: convert it with `pspnet-edge import`")
    if not isinstance(version, int) or version != _VERSION:
        raise ModelError(
            f"{path} has checkpoint version {str(version)[:40]} and this package reads {_VERSION}: train it again"
        )
    try:
        check_value({key: content.get(key) for key in ("preset", "label_set", "facts")}, _SHAPE, "it")
        label_set = LabelSet.from_facts(content["label_set"])
        if not isinstance(content.get("weights"), dict):
            raise Unfit("it has no weights")
    except ValueError as error:
        raise ModelError(f"the checkpoint {path} is damaged ({error})", "train it again") from error
    model = _network(path, content["preset"], len(label_set), content.get("architecture"))
    _load_weights(path, model, content["weights"])
    return Checkpoint(model.eval(), label_set, content["facts"], content.get("training"))


def _network(path: Path, preset: str, classes: int, changes: Any) -> PSPNet:
    """The network that a checkpoint describes; its fields may hold anything."""
    try:
        if changes is not None:
            check_value(changes, Map(Anything()), "it")
        return network_from_file(preset, classes, changes or {})
    except PspnetEdgeError:
        raise
    except Exception as error:  # torch raises many kinds for sizes that do not fit
        problem = f"the architecture in the checkpoint {path} is damaged ({first_line(error)})"
        raise ModelError(problem, "train it again") from error


def _load_weights(path: Path, model: PSPNet, weights: dict[Any, Any]) -> None:
    try:
        for name, value in weights.items():
            if not isinstance(name, str) or not isinstance(value, torch.Tensor):
                raise ValueError(f"{str(name)[:100]} is not a tensor")
            if value.is_complex():
                raise ValueError(f"{name} is complex")
        if _RANGES in weights:
            model.quantiser = Quantiser([1.0] * weights[_RANGES].numel())
        model.load_state_dict(weights)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        lines = str(error).strip().split("\n")
        detail = lines[min(1, len(lines) - 1)].strip()
        detail = detail if len(detail) <= 300 else f"{detail[:300]}…"
        raise ModelError(f"the weights in {path} do not fit {model.preset}: {detail}") from error

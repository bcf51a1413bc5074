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

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..artifact import atomic_path
from ..document import LABEL_SET, Anything, Map, Record, Text, Unfit, check_value
from ..errors import ModelError
from ..inputs import check_file
from ..labels import LabelSet
from .pspnet import PSPNet
from .quantiser import Quantiser

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


def save_checkpoint(
    path: Path,
    model: PSPNet,
    label_set: LabelSet,
    facts: dict[str, Any],
    training: dict[str, Any] | None = None,
) -> None:
    """Write a checkpoint atomically."""
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "preset": model.preset,
        "label_set": label_set.facts(),
        "weights": {key: value.contiguous() for key, value in model.state_dict().items()},
        "facts": facts,
    }
    if model.architecture:
        content["architecture"] = model.architecture
    if training is not None:
        content["training"] = training
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and build its model, in evaluation mode on the CPU.

    Raises:
        ModelError: missing, damaged, not one of ours, or weights that do not fit the network it names.
    """
    check_file(path, "checkpoint", ModelError, "train one", "pspnet-edge train")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds here, from zipfile's to pickle's
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"{path} is not a checkpoint that can be loaded safely ({reason})") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ModelError(f"{path} is not a pspnet-edge checkpoint: bring it in with `pspnet-edge import`")
    if content.get("version") != _VERSION:
        raise ModelError(
            f"{path} has checkpoint version {content.get('version')} and this package reads {_VERSION}: train it again"
        )
    try:
        check_value({key: content.get(key) for key in ("preset", "label_set", "facts")}, _SHAPE, "it")
        label_set = LabelSet.from_facts(content["label_set"])
        if not isinstance(content.get("weights"), dict):
            raise Unfit("it has no weights")
    except ValueError as error:
        raise ModelError(f"the checkpoint {path} is damaged ({error})", "train it again") from error
    model = PSPNet(content["preset"], len(label_set), content.get("architecture"))
    if _RANGES in content["weights"]:
        model.quantiser = Quantiser([1.0] * len(content["weights"][_RANGES]))
    try:
        model.load_state_dict(content["weights"])
    except RuntimeError as error:
        detail = str(error).strip().split("\n")[1].strip()
        raise ModelError(f"the weights in {path} do not fit {content['preset']}: {detail}") from error
    return Checkpoint(model.eval(), label_set, content["facts"], content.get("training"))

"""From a foreign checkpoint to one of our networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import ModelError
from ...labels import LabelSet
from ..pspnet import PSPNet
from ..pyramid import resize
from . import mmseg, paddleseg, semseg, smp
from .classes import named_classes
from .files import StoredCheckpoint, read_stored
from .layout import Layout, build
from .weights import ForeignWeights

_LAYOUTS: dict[str, tuple[str, Callable[[ForeignWeights, Mapping[str, Any]], Layout]]] = {
    "semseg": (semseg.MARKER, semseg.layout),
    "mmseg": (mmseg.MARKER, mmseg.layout),
    "smp": (smp.MARKER, smp.layout),
    "paddleseg": (paddleseg.MARKER, paddleseg.layout),
}
FORMATS = tuple(_LAYOUTS)

# Of the largest logit: float32 on one machine differs from another's by less, and every known trap by far more.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Imported:
    """A network from another project, in evaluation mode."""

    model: PSPNet
    label_set: LabelSet
    format: str
    assumed: tuple[str, ...]
    """What the weights do not show and was taken as the format's default."""
    left_out: dict[str, str]
    """Reasons by key."""
    class_order: tuple[int, ...] | None
    """Which of the checkpoint's logits each class had; None where the order is the same."""


def import_checkpoint(
    path: Path,
    format_name: str | None = None,
    *,
    bins: Sequence[int] | None = None,
    label_set: LabelSet | None = None,
    class_names: Sequence[str] | None = None,
) -> Imported:
    """Read a PSPNet of another project.

    Args:
        path: its checkpoint.
        format_name: one of ``FORMATS``; None recognises it by its keys.
        bins: of the pyramid in the order of its branches, where they are not 1, 2, 3, 6.
        label_set: what it was trained for; the logits are put into this order.
        class_names: its classes in the order of its logits, where the file and the format do not say.

    Raises:
        ModelError: a file that is damaged, unsafe, of another kind, or changed in a way that is not known.
        OptionError: classes that do not fit the checkpoint.
    """
    stored = read_stored(path)
    name = _recognised(path, stored, format_name)
    weights = ForeignWeights(stored.tensors, path)
    layout = _LAYOUTS[name][1](weights, stored.meta)
    model = build(weights, layout, bins)
    usual_names = layout.orders.get(label_set.name) if label_set else None
    labels, order = named_classes(model.classes, label_set, class_names or layout.class_names or usual_names)
    if order is not None:
        _reorder(model, order)
    left_out = weights.left_out | dict.fromkeys(stored.beside, "training state")
    return Imported(model, labels, name, layout.assumed, left_out, order)


def difference_from_reference(imported: Imported, path: Path) -> float:
    """The largest difference between the logits and those that the other project computed.

    Args:
        imported: the network.
        path: an ``.npz`` with ``input`` (``float [N, 3, H, W]``, normalised, as the other network takes it) and
            ``logits`` (``float [N, classes, h, w]``, at the network's stride or resized to the input).

    Raises:
        ModelError: the file cannot be read, its shapes do not fit, or the networks do not compute the same.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            x, expected = (torch.from_numpy(arrays[name]).float() for name in ("input", "logits"))
    except (OSError, KeyError, ValueError) as error:
        raise ModelError(
            f"{path} is not a reference ({error}): save one with numpy.savez(FILE, input=…, logits=…)"
        ) from error
    if x.ndim != 4 or x.shape[1] != 3 or expected.ndim != 4:
        raise ModelError(
            f"{path} maps {list(x.shape)} to {list(expected.shape)}, expected [N, 3, H, W] to [N, classes, h, w]: "
            "save the input and the logits as they are"
        )
    with torch.inference_mode():
        logits = imported.model(x)
        if expected.shape[2:] == x.shape[2:]:
            logits = resize(logits, (x.shape[2], x.shape[3]), imported.model.align_corners)
    if imported.class_order is not None:
        expected = expected[:, list(imported.class_order)]
    if logits.shape != expected.shape:
        raise ModelError(
            f"the logits in {path} have shape {list(expected.shape)}, expected {list(logits.shape)}: "
            "save those of one checkpoint and its own input"
        )
    difference, largest = float((logits - expected).abs().max()), float(expected.abs().max())
    if not difference <= _TOLERANCE * max(largest, 1.0):
        raise ModelError(
            f"the logits differ from those in {path} by {difference:.3g} where the largest is {largest:.3g}: make the "
            "reference on the CPU in evaluation mode, or the network was changed in a way that weights do not show"
        )
    return difference


def _recognised(path: Path, stored: StoredCheckpoint, wanted: str | None) -> str:
    found = [name for name, (marker, _) in _LAYOUTS.items() if any(key.startswith(marker) for key in stored.tensors)]
    if found and wanted in (None, *found):
        return wanted or found[0]
    if found:
        raise ModelError(f"{path} is a checkpoint of {found[0]}, not of {wanted}: `pspnet-edge import {found[0]}`")
    first = next(iter(stored.tensors))
    raise ModelError(
        f"{path} holds no pyramid pooling module of {wanted or ', '.join(FORMATS)} (its first key is {first}): "
        "give the checkpoint of a PSPNet"
    )


def _reorder(model: PSPNet, order: Sequence[int]) -> None:
    """Put the logits into another order."""
    heads = [model.classifier] if model.aux_head is None else [model.classifier, model.aux_head[-1]]
    with torch.no_grad():
        for head in heads:
            for parameter in head.parameters():
                parameter.copy_(parameter[list(order)])

"""Compares an imported network with what the other project computed, from the picture on where there is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import ModelError
from ..pyramid import resize
from .importer import Imported

# Of the largest logit: float32 on one machine differs from another's by less, and every known trap by far more.
_TOLERANCE = 1e-3
# These give the logarithm of the probabilities, which has the same largest class.
_LOG_SOFTMAX = ("csail", "lextal")
_PICTURES = ("picture", "image", "frames", "frame")
_HOW = "save one with numpy.savez(FILE, picture=…, logits=…)"


def difference_from_reference(imported: Imported, path: Path) -> float:
    """The largest difference between the logits and those that the other project computed.

    Args:
        imported: the network.
        path: an ``.npz`` with ``logits`` (``float [N, classes, h, w]``, at the network's stride or resized to the
            input) and ``picture`` (``uint8 [N, H, W, C]`` or ``[H, W, C]``, BGR as OpenCV reads it) or ``input``
            (``float [N, C, H, W]``, normalized, as the other network takes it). With both, the inputs are compared too.

    Raises:
        ModelError: the file cannot be read, its shapes do not fit, or the networks do not compute the same.
    """
    arrays = _read(path)
    expected = torch.from_numpy(arrays["logits"]).float()
    given = torch.from_numpy(arrays["input"]).float() if "input" in arrays else None
    picture = next((arrays[name] for name in _PICTURES if name in arrays), None)
    channels = imported.model.shape.in_channels
    x = _from_picture(imported, picture, path) if picture is not None else _to_rgb(given, imported)
    if x is None or x.ndim != 4 or x.shape[1] != channels or expected.ndim != 4:
        shape = None if x is None else list(x.shape)
        raise ModelError(
            f"{path} maps {shape} to {list(expected.shape)}, expected [N, {channels}, H, W] to [N, classes, h, w]: "
            "save the input and the logits as they are"
        )
    if picture is not None and given is not None:
        _compare_inputs(imported, x, given, path)
    with torch.inference_mode():
        logits = imported.model(x)
        if expected.shape[2:] == x.shape[2:]:
            logits = resize(logits, (x.shape[2], x.shape[3]), imported.model.align_corners)
    if imported.threshold is not None:
        logits = logits[:, 1:]
    elif imported.class_order is not None and expected.shape[1] == len(imported.class_order):
        expected = expected[:, list(imported.class_order)]
    if imported.format in _LOG_SOFTMAX and logits.shape == expected.shape:
        logits, expected = logits.log_softmax(1), expected.log_softmax(1)
    if logits.shape != expected.shape:
        raise ModelError(
            f"the logits in {path} have shape {list(expected.shape)}, expected {list(logits.shape)}: "
            "save those of one checkpoint and its own input"
        )
    return _compared(imported, logits, expected, path, from_picture=picture is not None)


def _compared(imported: Imported, logits: Tensor, expected: Tensor, path: Path, from_picture: bool) -> float:
    difference, largest = float((logits - expected).abs().max()), float(expected.abs().max())
    if difference <= _TOLERANCE * max(largest, 1.0):
        return difference
    known = imported.preprocessing
    cause = (
        f"the preprocessing taken here (mean {_text(known.mean)}, std {_text(known.std)}, {known.colour}) is another: "
        "give --mean, --std, --scale and --colour, or"
        if from_picture
        else "make the reference on the CPU in evaluation mode, or"
    )
    raise ModelError(
        f"the logits differ from those in {path} by {difference:.3g} where the largest is {largest:.3g}: {cause} the "
        "network was changed in a way that weights do not show"
    )


def _read(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ("input", "logits", *_PICTURES) if name in archive.files}
    except (OSError, KeyError, ValueError, AttributeError, TypeError) as error:
        raise ModelError(f"{path} is not a reference ({error}): {_HOW}") from error
    except Exception as error:  # a damaged archive raises zipfile's and zlib's own kinds
        raise ModelError(f"{path} is not a reference ({error}): {_HOW}") from error
    if "logits" not in arrays or len(arrays) < 2:
        raise ModelError(f"{path} is not a reference (it holds {', '.join(arrays) or 'neither'}): {_HOW}")
    if not all(array.dtype.kind in "fiu" for array in arrays.values()):
        raise ModelError(f"{path} is not a reference (its arrays are not numbers): {_HOW}")
    return arrays


def _from_picture(imported: Imported, picture: NDArray[np.generic], path: Path) -> Tensor:
    model = imported.model
    channels = model.shape.in_channels
    frames = picture[None] if picture.ndim == 3 and channels > 1 else picture
    if channels == 1 and frames.shape[-1] != 1:
        frames = frames[..., None]
    if frames.ndim == 3:
        frames = frames[None]
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != channels:
        raise ModelError(
            f"the picture in {path} is {picture.dtype} {list(picture.shape)}, expected uint8 "
            f"[N, H, W, {channels}] in BGR: "
            "save it as OpenCV reads it"
        )
    x = torch.from_numpy(frames).float().permute(0, 3, 1, 2)
    if channels >= 3:
        x = x[:, [2, 1, 0, *range(3, channels)]]
    mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in (model.mean, model.std))
    return (x - mean) / std


def _to_rgb(given: Tensor | None, imported: Imported) -> Tensor | None:
    """What the other network takes, for ours, which is RGB."""
    if given is None or imported.preprocessing.colour == "rgb" or given.ndim != 4 or given.shape[1] < 3:
        return given
    return given[:, [2, 1, 0, *range(3, given.shape[1])]]


def _compare_inputs(imported: Imported, x: Tensor, given: Tensor, path: Path) -> None:
    other = _to_rgb(given, imported)
    assert other is not None
    if other.shape != x.shape or float((other - x).abs().max()) > 1e-2:
        known = imported.preprocessing
        raise ModelError(
            f"the input in {path} is not its picture with the preprocessing taken here (mean {_text(known.mean)}, std "
            f"{_text(known.std)}, {known.colour}): give --mean, --std, --scale and --colour as it was trained with"
        )


def _text(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)

"""What INT8 needs to know of a model, measured by running calibration images through ONNX Runtime.

Activation ranges come from all images, the rounding of weights from some of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data.datasets import ImageSet
from ..data.geometry import frame_at
from ..data.subset import evenly
from ..errors import CalibrationError, DataError, one_of
from ..histogram import METHODS
from .calibration_state import Measured, Purpose, read_state, write_state
from .calibration_table import CalibrationTable, convolutions_of, weights_fingerprint
from .onnx_file import ModelFile
from .quantize import INT8_MAX, pixel_steps, quantised_tensors
from .reference import ReferenceSession
from .view import GraphView
from .weight_statistics import SecondLook

MAX_BAD_FRACTION = 0.05
ROUNDINGS = ("second-order", "nearest")
SECOND_LOOK_IMAGES = 64
"""How many images the rounding of weights and the stretch of channels are chosen on: each gives hundreds of patches."""


def table_from_dataset(
    model: ModelFile,
    images: ImageSet,
    *,
    dataset: str,
    method: str = "mse",
    rounding: str = "second-order",
    equalize: bool = True,
    state: Path | None = None,
    save_every_s: float = 5.0,
    on_image: Callable[[int], None] = lambda done: None,
    say: Callable[[str], None] = lambda sentence: None,
) -> tuple[CalibrationTable, tuple[str, ...]]:
    """Run images through the FP32 model and choose a range for every tensor that is to be quantized.

    Only one image's activations and the histograms are in memory at a time. An image that cannot be read is named and
    left out. What was measured is kept in the file ``state`` every few seconds; a later call for the same purpose
    resumes from there, to the same table, and removes it.

    Args:
        model: the FP32 model.
        images: of any size.
        dataset: what the images are, kept in the table.
        method: one of ``histogram.METHODS``.
        rounding: of weights, one of ``ROUNDINGS``.
        equalize: whether to stretch faint channels; see ``equalize``.
        state: where to keep what was measured so far; None keeps nothing.
        save_every_s: seconds between two writes of ``state``.
        on_image: called with the number of images dealt with, those of an earlier call included.
        say: called with a sentence about a bad image, or about resuming from ``state``.

    Returns:
        The table, and the names of the images that were left out.

    Raises:
        DataError: more than 5 % of the images cannot be read.
        CalibrationError: no image, or an activation is not finite.
        OptionError: no such method or rounding.
    """
    one_of(method, METHODS, "calibration method")
    one_of(rounding, ROUNDINGS, "rounding")
    network = _WatchedNetwork(model)
    purpose = _purpose(model, images, method)
    measured = _resumed(state, purpose, network.tensors, len(images), say)
    saved = time.monotonic()
    for index in range(measured.next_index, len(images)):
        try:
            image = images.image(index)
        except DataError as error:
            measured.skipped.append(images.name(index))
            say(f"left out: {error}")
            _refuse_too_many(measured, len(images), state)
        else:
            network.measure(image, measured)
        measured.next_index = index + 1
        if state and time.monotonic() - saved >= save_every_s:
            write_state(state, purpose, measured)
            saved = time.monotonic()
        on_image(index + 1)
    table = _table(model, measured, dataset, method)
    say(f"looking again at {min(len(images), SECOND_LOOK_IMAGES)} of the images, for single weights and channels")
    table = _looked_at_again(table, network, images, rounding, equalize)
    return table, tuple(measured.skipped)


class _WatchedNetwork:
    """The FP32 model in ONNX Runtime, giving out every tensor that is to be quantized."""

    def __init__(self, model: ModelFile) -> None:
        self.tensors = quantised_tensors(model.proto)
        self._batch, *self._size_hw = model.shape_nhw
        self._session = ReferenceSession(model.proto, "calibrate", self.tensors)
        self._graph = model.proto

    def measure(self, image: NDArray[np.uint8], measured: Measured) -> None:
        """Count one image's activations."""
        for name, value in self._activations(image).items():
            measured.histograms[name].add(value)
        measured.images += 1
        # Each fingerprint takes in the one before, so that it can resume from a state that was kept.
        chained = hashlib.sha256(f"{measured.images_sha256} {image.shape}".encode())
        chained.update(image.tobytes())
        measured.images_sha256 = chained.hexdigest()

    def second_look(self, images: Iterable[NDArray[np.uint8]]) -> SecondLook:
        """What each convolution's filters and each channel that could be stretched see on the images."""
        look = SecondLook(self._graph)
        for image in images:
            look.add(self._activations(image))
        return look

    def _activations(self, image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        height, width = self._size_hw
        frames = np.repeat(frame_at(image, (height, width))[None], self._batch, axis=0)
        return dict(zip(self.tensors, self._session.run(frames)))


def _purpose(model: ModelFile, images: ImageSet, method: str) -> Purpose:
    names = "\n".join(images.name(index) for index in range(len(images)))
    return Purpose(
        weights_sha256=weights_fingerprint(model.proto),
        shape_nhw=model.shape_nhw,
        method=method,
        names_sha256=hashlib.sha256(names.encode()).hexdigest(),
    )


def _resumed(
    state: Path | None, purpose: Purpose, tensors: list[str], total: int, say: Callable[[str], None]
) -> Measured:
    if state and state.exists():
        try:
            measured = read_state(state, purpose, tensors)
        except CalibrationError as error:
            say(f"starting again, because {error}")
        else:
            say(f"resuming from {state}: {measured.next_index} of {total} images are done")
            return measured
    return Measured.nothing(tensors)


def _refuse_too_many(measured: Measured, total: int, state: Path | None) -> None:
    if len(measured.skipped) <= MAX_BAD_FRACTION * total:
        return
    if state:
        # It would leave the same images out again after they were restored.
        state.unlink(missing_ok=True)
    raise DataError(
        f"{len(measured.skipped)} of {total} calibration images cannot be read, more than {MAX_BAD_FRACTION:.0%} "
        f"(the last is {measured.skipped[-1]}): restore them, or choose others with --images-from"
    )


def _table(model: ModelFile, measured: Measured, dataset: str, method: str) -> CalibrationTable:
    if measured.images == 0:
        raise CalibrationError("no image to calibrate with: give a data set or a folder that holds some")
    amax = {name: _rounded(histogram.amax(method)) for name, histogram in measured.histograms.items()}
    amax |= {name: _rounded(step * INT8_MAX) for name, step in pixel_steps(model.proto).items() if name in amax}
    return CalibrationTable(
        weights_fingerprint(model.proto),
        method,
        dataset,
        measured.images,
        measured.images_sha256,
        amax,
        convolutions=convolutions_of(GraphView(model.proto)),
    )


def _looked_at_again(
    table: CalibrationTable, network: _WatchedNetwork, images: ImageSet, rounding: str, equalize: bool
) -> CalibrationTable:
    """Add the rounding of weights and the stretch of channels, chosen on images evenly spaced over all."""

    def readable() -> Iterator[NDArray[np.uint8]]:
        for index in evenly(len(images), SECOND_LOOK_IMAGES):
            with contextlib.suppress(DataError):  # named when ranges were measured
                yield images.image(index)

    if rounding == "nearest" and not equalize:
        return table
    look = network.second_look(readable())
    if rounding != "nearest":
        table = replace(table, rounding=look.roundings())
    return look.equalized(table) if equalize else table


def _rounded(value: float) -> float:
    """Seven significant digits: all that float32 holds."""
    return float(f"{value:.7g}")

"""Sample overlays: what FP32 and another precision make of the same images, and where they differ."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..artifact import write_bytes
from ..camera.overlay import Overlay
from ..data.datasets import ImageSet, is_labelled
from ..data.geometry import frame_at, mask_at
from ..engine.engine import Engine
from ..labels import IGNORE
from .facts import SampleFacts

_LOOKED_AT = 24
_WIDTH = 480
_QUALITY = 82
_OPACITY = 0.65
_DIFFERENT = (168, 0, 230)  # BGR; a magenta that stays apart from grey for every kind of colour blindness


@dataclass(frozen=True)
class _Found:
    index: int
    changed: float
    """Share of the labelled pixels whose class differs between the two engines; of all where there is no label."""


def write_samples(exact: Engine, other: Engine, images: ImageSet, folder: Path, *, count: int) -> list[SampleFacts]:
    """Write JPEG pictures of some images and say what they show.

    Of at most 24 images, evenly spaced over the set, those are taken whose masks differ most, in the middle, and least,
    so that the pictures neither flatter nor blacken.

    Args:
        exact: the FP32 engine.
        other: of the same classes and input size.
        images: labelled or not.
        folder: where pictures go.
        count: how many images.

    Returns:
        For each image ``name``, ``changed`` (0–1), ``why`` it was taken and ``pictures``: file names by ``image``,
        ``label`` (where there is one), ``fp32``, the other's precision, and ``differ``.
    """
    total = len(images)
    looked_at = sorted({position * total // _LOOKED_AT for position in range(_LOOKED_AT)})
    found = sorted(
        (_Found(index, _changed(*_masks(exact, other, images, index))) for index in looked_at),
        key=lambda entry: -entry.changed,
    )
    taken = {round(position * (len(found) - 1) / max(count - 1, 1)): None for position in range(min(count, len(found)))}
    samples: list[SampleFacts] = []
    for rank in taken:
        why = {0: "most changed", len(found) - 1: "least changed"}.get(rank, f"number {rank + 1} by change")
        entry = found[rank]
        pictures = _pictures(exact, other, images, entry.index)
        names = {kind: f"sample{entry.index:05d}_{kind}.jpg" for kind in pictures}
        for kind, picture in pictures.items():
            write_bytes(folder / names[kind], _jpeg(picture))
        changed = round(entry.changed, 5)
        samples.append(
            {"name": images.name(entry.index), "changed": changed, "why": f"{why} of {len(found)}", "pictures": names}
        )
    return samples


def _masks(
    exact: Engine, other: Engine, images: ImageSet, index: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Both engines' masks and the label, all at the image's own size."""
    image, label = _pair(images, index)
    size_hw = (image.shape[0], image.shape[1])
    return _mask(exact, image, size_hw), _mask(other, image, size_hw), label


def _pair(images: ImageSet, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    return images[index] if is_labelled(images) else (images.image(index), None)


def _mask(engine: Engine, image: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    frames = np.repeat(frame_at(image, engine.size_hw)[None], engine.info.shape_nhw[0], axis=0)
    return mask_at(engine.infer(frames)[0], size_hw)


def _changed(exact: NDArray[np.uint8], other: NDArray[np.uint8], label: NDArray[np.uint8] | None) -> float:
    different = exact != other
    if label is not None and label.shape == different.shape and (label != IGNORE).any():
        different = different[label != IGNORE]
    return float(different.mean())


def _pictures(exact: Engine, other: Engine, images: ImageSet, index: int) -> dict[str, NDArray[np.uint8]]:
    image, _ = _pair(images, index)
    first, second, label = _masks(exact, other, images, index)
    labels = exact.info.label_set
    # The set's label is drawn only where its classes are the engine's: other ids would get the wrong colours.
    known = is_labelled(images) and images.label_set.classes == labels.classes
    overlay = Overlay(labels, _OPACITY, legend=False)
    pictures = {"image": image}
    if label is not None and known and label.shape == image.shape[:2]:
        pictures["label"] = overlay.draw(image, label, "")
    pictures["fp32"] = overlay.draw(image, first, "")
    pictures[other.info.precision] = overlay.draw(image, second, "")
    pictures["differ"] = _difference(image, first != second)
    return pictures


def _difference(image: NDArray[np.uint8], different: NDArray[np.bool_]) -> NDArray[np.uint8]:
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    pale = np.asarray(cv2.addWeighted(grey, 0.5, np.full_like(grey, 255), 0.5, 0), np.uint8)
    pale[different] = _DIFFERENT
    return pale


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    if picture.shape[1] > _WIDTH:
        height = round(picture.shape[0] * _WIDTH / picture.shape[1])
        picture = np.asarray(cv2.resize(picture, (_WIDTH, height), interpolation=cv2.INTER_AREA), np.uint8)
    encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return encoded.tobytes()

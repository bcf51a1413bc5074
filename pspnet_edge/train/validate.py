"""Validation during training: the confusion matrix over whole images, and pictures of the predictions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from ..artifact import atomic_path
from ..data.datasets import Dataset, Image, Mask
from ..data.geometry import frame_at
from ..errors import OutputError
from ..labels import LabelSet
from ..lettering import FONT, drawable
from ..metrics import ConfusionMatrix
from ..model.pspnet import PSPNet
from .batches import normalised
from .distributed import ALONE, World

DEFAULT_SIZE_HW = (384, 480)
"""Size at which validation feeds the network, the size it is exported at."""

_GAP = 4
CAPTION_HEIGHT = 20
"""Rows above each picture of ``side_by_side``."""


def validate(
    model: PSPNet,
    dataset: Dataset,
    world: World = ALONE,
    on_image: Callable[[int], None] = lambda done: None,
    size_hw: tuple[int, int] = DEFAULT_SIZE_HW,
) -> ConfusionMatrix:
    """The confusion matrix of a model in PyTorch over a data set, at the labels' own size.

    Each process computes its part of the images; all get the whole matrix. ``on_image`` is called with the number done.
    """
    matrix = ConfusionMatrix(len(dataset.label_set))
    for index in range(world.rank, len(dataset), world.size):
        image, mask = dataset[index]
        matrix.add(mask, prediction(model, image, world.device, size_hw))
        on_image(min(index + world.size, len(dataset)))
    matrix.counts[:] = world.total(torch.from_numpy(matrix.counts)).cpu().numpy()
    return matrix


def prediction(model: PSPNet, image: Image, device: torch.device, size_hw: tuple[int, int] = DEFAULT_SIZE_HW) -> Mask:
    """The classes of an image ``uint8 [H, W, 3]`` at its own size, ``uint8 [H, W]``."""
    with torch.inference_mode():
        # OpenCV drops the axis of a single channel.
        frames = torch.from_numpy(frame_at(image, size_hw).reshape(1, *size_hw, image.shape[2])).to(device)
        logits = model(normalised(frames, model.mean, model.std))
        full = F.interpolate(logits, size=image.shape[:2], mode="bilinear", align_corners=model.align_corners)
        return np.asarray(full.argmax(1)[0].to(torch.uint8).cpu().numpy())


def write_samples(
    model: PSPNet,
    dataset: Dataset,
    count: int,
    epoch: int,
    folder: Path,
    device: torch.device,
    size_hw: tuple[int, int] = DEFAULT_SIZE_HW,
) -> None:
    """Write ``count`` images spread over a data set, each beside its labels and the prediction, as JPEG files."""
    for index in np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int).tolist():
        image, mask = dataset[index]
        path = folder / f"epoch{epoch:03d}_{Path(dataset.name(index)).stem}.jpg"
        predicted = prediction(model, image, device, size_hw)
        matrix = ConfusionMatrix(len(dataset.label_set))
        matrix.add(mask, predicted)
        captions = (dataset.name(index), "labels", f"prediction, epoch {epoch}, mIoU {matrix.miou():.3f}")
        picture = side_by_side(image, mask, predicted, dataset.label_set, captions)
        with atomic_path(path) as temporary:
            if not cv2.imwrite(str(temporary), picture):
                raise OutputError(f"{path} cannot be written as a JPEG", "use images less than 21000 pixels wide")


def side_by_side(
    image: Image, label: Mask, predicted: Mask, label_set: LabelSet, captions: tuple[str, str, str]
) -> Image:
    """``uint8 [H + caption, 3·W + 8, 3]``: the image, its labels and the prediction in the palette's colours.

    Pixels labelled IGNORE are black. The captions are above the pictures, cut to their width.
    """
    colours = label_set.bgr_table()
    height, width = image.shape[:2]
    gap = np.full((height + CAPTION_HEIGHT, _GAP, 3), 255, np.uint8)
    panels = []
    shown = image if image.shape[2] == 3 else np.repeat(image, 3, 2) if image.shape[2] == 1 else image[..., :3]
    for picture, caption in zip((shown, colours[label], colours[predicted]), captions):
        strip = np.full((CAPTION_HEIGHT, width, 3), 255, np.uint8)
        place = (4, CAPTION_HEIGHT - 6)
        cv2.putText(strip, drawable(caption), place, FONT, 0.42, (30, 30, 30), 1, cv2.LINE_AA)
        panels.append(np.vstack([strip, picture]))
    return np.hstack([panels[0], gap, panels[1], gap, panels[2]])

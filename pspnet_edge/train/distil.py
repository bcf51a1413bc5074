"""A teacher's class probabilities for each training image, computed once and kept on disk.

A teacher that ran at every step would double its time. Instead it sees each image once, whole and unchanged, at any
scale, and its probabilities are cropped, scaled and mirrored together with the image and its mask.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ..artifact import atomic_path, sha256_of, write_json
from ..data.datasets import Dataset, Image
from ..errors import OptionError
from ..model.checkpoint import load_checkpoint
from ..model.pspnet import PSPNet
from .batches import normalised
from .distributed import ALONE, World


class KeptLabels:
    """Per-class probabilities ``uint8 [h, w, classes]`` of each image of a data set, as coarse as the teacher is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return np.asarray(np.load(place(self._folder, index), allow_pickle=False), np.uint8)


def soft_labels(
    teacher: Path,
    dataset: Dataset,
    folder: Path,
    scale: float = 1.0,
    world: World = ALONE,
    on_image: Callable[[int], None] = lambda done: None,
) -> KeptLabels:
    """Compute a teacher's probabilities for every image and its mirror image; those already in ``folder`` are kept.

    Args:
        teacher: a checkpoint with the data set's classes.
        dataset: the training images.
        folder: where the probabilities are kept, one file per image.
        scale: scale factor at which the teacher sees the images; it finds small things better when they are larger.
        world: the processes that divide the images among them.
        on_image: called after each image with the number done.

    Raises:
        ModelError: a checkpoint that cannot be read.
        OptionError: a teacher of other classes.
    """
    loaded = load_checkpoint(teacher)
    if loaded.label_set.classes != dataset.label_set.classes:
        raise OptionError(
            f"the teacher {teacher} has other classes than {dataset.label_set.name}", "distil from one with the same"
        )
    if world.first:
        _begin(folder, teacher, dataset, scale)
    world.wait()
    model = loaded.model.to(world.device).to(memory_format=torch.channels_last)
    for index in range(world.rank, len(dataset), world.size):
        target = place(folder, index)
        if not target.exists():
            with atomic_path(target) as temporary, temporary.open("wb") as stream:
                np.save(stream, _probabilities(model, dataset.image(index), scale, world.device))
        on_image(index + 1)
    world.wait()
    return KeptLabels(folder)


def _begin(folder: Path, teacher: Path, dataset: Dataset, scale: float) -> None:
    """Empty the folder if what is in it was made by another teacher, of other images or at another scale."""
    names = "\n".join(dataset.name(index) for index in range(len(dataset)))
    made_from = {
        "teacher_sha256": sha256_of(teacher),
        "scale": scale,
        "images_sha256": hashlib.sha256(names.encode()).hexdigest(),
    }
    manifest = folder / "made_from.json"
    if not manifest.is_file() or json.loads(manifest.read_text()) != made_from:
        for old in folder.glob("*.npy"):
            old.unlink()
        write_json(manifest, made_from)


def place(folder: Path, index: int) -> Path:
    """The file of one image."""
    return folder / f"{index:06d}.npy"


def _probabilities(model: PSPNet, image: Image, scale: float, device: torch.device) -> NDArray[np.uint8]:
    size_wh = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    larger = image
    if scale != 1:
        larger = np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_LINEAR))
        larger = larger.reshape(*size_wh[::-1], image.shape[2])
    with torch.inference_mode():
        both = torch.from_numpy(np.stack([larger, larger[:, ::-1]])).to(device)
        seen = model(normalised(both, model.mean, model.std)).softmax(1)
        mean = (seen[0] + seen[1].flip(-1)) / 2
    return np.asarray((mean.permute(1, 2, 0) * 255).round().to(torch.uint8).cpu().numpy())

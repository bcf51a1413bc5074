"""The part of a check that is worth its time before every training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ...errors import DataError
from ..class_list import PUBLISHED
from ..datasets import Dataset
from ..files import FileSet
from ..subset import Subset
from .findings import Finding, SplitCount
from .pair_facts import PairFacts, solid_ignore_of
from .rules import never_occurring, swapped, unlabelled

MASKS = 64


def quick_check(training_set: Dataset, validation_set: Dataset | None = None) -> tuple[Finding, ...]:
    """Look at up to 64 masks of each set for what silently ruins a training.

    Found are files that cannot be read, masks without a label, a class that never occurs (with 255 in its place, as in
    binary masks of 0 and 255), and classes of one set that the other lacks. Takes about a second; ``check_dataset``
    finds much more.
    """
    found: list[Finding] = []
    splits: dict[str, SplitCount] = {}
    pairs: list[PairFacts] = []
    whole = True
    for split, dataset in (("train", training_set), ("val", validation_set)):
        if dataset is None or len(dataset) == 0:
            continue
        pixels, occurs = np.zeros(256, np.int64), np.zeros(256, np.int64)
        count = min(MASKS, len(dataset))
        whole = whole and count == len(dataset)
        for index in (position * len(dataset) // count for position in range(count)):
            path = _pair(dataset, index)[1]
            try:
                mask = dataset.mask(index)
            except DataError as error:
                found.append(Finding("bad-mask", "defect", split, path, str(error)))
                continue
            counted = np.bincount(mask.ravel(), minlength=256).astype(np.int64)
            pixels += counted
            occurs += counted > 0
            pairs.append(PairFacts(split, index, path, path, pixels=counted, solid_ignore=solid_ignore_of(mask)))
        exchanged = None if occurs.any() else swapped(split, [_pair(dataset, 0)], len(dataset.label_set))
        if exchanged is not None:
            return (exchanged,)
        splits[split] = SplitCount(len(dataset), dataset.label_set.classes, pixels, occurs)
    looked_at = "" if whole else f" in the {len(pairs)} masks looked at"
    root = _root_of(training_set)
    found += (
        replace(finding, severity="defect" if whole else "warning") for finding in unlabelled(root, splits, looked_at)
    )
    for finding in never_occurring(training_set.label_set.name, root, pairs, splits, looked_at):
        # A rare class may be missing in a sample; a set whose only object is 255 is wrong.
        certain = whole or (finding.kind == "ignore-is-class" and len(training_set.label_set) == 2)
        severity = finding.severity if certain else "warning"
        found.append(Finding(finding.kind, severity, finding.split, finding.file, finding.problem))
    return tuple(found)


def _pair(dataset: Dataset, index: int) -> tuple[Path, Path]:
    """The files of an image and its mask; of a set without files, its name."""
    while isinstance(dataset, Subset):
        index, dataset = dataset.indices[index], dataset.dataset
    return dataset.pairs[index] if isinstance(dataset, FileSet) else (Path(dataset.name(index)),) * 2


def _root_of(dataset: Dataset) -> Path:
    """The folder of a data set, from its first image: the one above ``images``."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    if not isinstance(dataset, FileSet):
        return Path(dataset.label_set.name)
    image = dataset.pairs[0][0]
    for parent in image.parents:
        if any((parent / name).exists() for name in ("classes.txt", "classes.json", *PUBLISHED)):
            return parent
    return image.parent

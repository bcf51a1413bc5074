"""Looking through a whole data set: what each split holds, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...errors import DataError, OptionError
from ...pixels import PixelFormat
from .. import camvid, cityscapes, folder, voc
from ..datasets import REPEATED_FIX, FileSet, ensure_on_disk, open_files
from ..files import unreadable_folder
from ..image_file import DEFAULT_PIXELS
from ..layout import names_of_mask
from ..progress import Advance, Progress, silent
from ..recognize import foreign_layout
from .findings import Finding, Findings, SplitCount
from .pair_facts import PairFacts, ids_of, measure_pair
from .rules import judge_pair, judge_set, swapped

ENGINE_HW = (384, 480)
_SEVERAL = 4
"""From how many missing masks on one line replaces one per image."""


def check_dataset(
    name: str,
    root: Path,
    progress: Progress = silent,
    *,
    engine_hw: tuple[int, int] = ENGINE_HW,
    pixels: PixelFormat = DEFAULT_PIXELS,
) -> Findings:
    """Read every pair of every split; nothing stops at the first defect.

    Args:
        name: ``camvid``, ``voc``, ``cityscapes`` or ``folder``.
        root: its folder.
        progress: shows how many pairs of a split are read.
        engine_hw: the size in pixels at which objects must be large enough to be seen.
        pixels: how images are read.

    Raises:
        OptionError: no such data set on disk.
        DataError: the root is not a folder.
    """
    if name == "scenes":
        raise OptionError("scenes are drawn, not stored, so there is nothing to check", "name a data set on disk")
    ensure_on_disk(name, root)
    try:
        stored = _splits(name, root)
    except DataError as error:
        return Findings({}, (_broken("", root, error),))
    splits: dict[str, SplitCount] = {}
    found: list[Finding] = []
    notes: list[str] = []
    pairs: list[PairFacts] = []
    first_seen: dict[Path, str] = {}
    opened: FileSet | None = None
    for split in stored:
        try:
            dataset = open_files(name, root, split, opened.pixels if opened else pixels)
        except DataError as error:
            # A wrong layout or classes file breaks every split in the same words.
            if str(error) not in [finding.problem for finding in found]:
                found.append(_broken(split, root, error))
            continue
        opened = opened or dataset
        notes += [f"{split}: {dataset.note}"] if dataset.note else []
        found += _repeats(dataset, split, first_seen)
        with progress(f"Checking {split}", len(dataset)) as advance:
            measured, problems = _read_through(dataset, split, engine_hw, advance)
        pairs += measured
        splits[split] = _counted(dataset, measured)
        found += _grouped(problems, dataset, root)
    if opened is not None:
        if any(facts.deep for facts in pairs):
            notes.append(_deep_note(opened.pixels))
        found += judge_set(name, root, opened, pairs, splits, f"{engine_hw[0]}x{engine_hw[1]}")
    if name == "folder":
        found += _masks_alone(root, found)
    return Findings(splits, tuple(found), tuple(notes))


def _broken(split: str, root: Path, error: DataError) -> Finding:
    return Finding("layout", "defect", split, root, str(error))


def _splits(name: str, root: Path) -> tuple[str, ...]:
    try:
        if name == "folder":
            return folder.stored_splits(root)
        if name == "cityscapes":
            return cityscapes.splits_with_masks(root)
    except OSError as error:
        raise unreadable_folder(error) from error
    return {"camvid": camvid.SPLITS, "voc": voc.SPLITS}[name]


def _repeats(dataset: FileSet, split: str, first_seen: dict[Path, str]) -> list[Finding]:
    """Files in two pairs of the split, and images that an earlier split has too."""
    found = [
        Finding("repeated", "defect", split, path, f"{path} is in split {split} more than once: {REPEATED_FIX}")
        for path in dataset.repeated()
    ]
    for image in dict.fromkeys(image for image, _ in dataset.pairs):
        earlier = first_seen.setdefault(image, split)
        if earlier != split:
            problem = f"{image} is in split {earlier} and in split {split}: keep it in one of them"
            found.append(Finding("leak", "defect", split, image, problem))
    return found


def _read_through(
    dataset: FileSet, split: str, engine_hw: tuple[int, int], advance: Advance
) -> tuple[list[PairFacts], list[Finding]]:
    pairs: list[PairFacts] = []
    found: list[Finding] = []
    for index in range(len(dataset)):
        facts = measure_pair(dataset, split, index, engine_hw)
        pairs.append(facts)
        found += judge_pair(dataset, facts)
        advance(index + 1, f"{len(found)} findings" if found else "")
    return pairs, found


def _counted(dataset: FileSet, pairs: Sequence[PairFacts]) -> SplitCount:
    pixels, occurs = np.zeros(256, np.int64), np.zeros(256, np.int64)
    for facts in pairs:
        if facts.pixels is not None:
            pixels += facts.pixels
            occurs[ids_of(facts)] += 1
    return SplitCount(len(dataset), dataset.label_set.classes, pixels, occurs)


def _grouped(found: list[Finding], dataset: FileSet, root: Path) -> list[Finding]:
    """One finding where many images have no mask, instead of one for each."""
    if found and sum(finding.kind == "bad-mask" for finding in found) == len(dataset):
        exchanged = swapped(found[0].split, dataset.pairs, len(dataset.label_set))
        if exchanged is not None:
            return [exchanged]
    missing = [finding for finding in found if finding.kind == "missing-mask"]
    if len(missing) < _SEVERAL:
        return found
    first = missing[0]
    folder_of_masks = first.file.parent
    if len(missing) == len(dataset):
        why = "is missing" if not folder_of_masks.is_dir() else "has no file with the name of an image"
        problem = f"no image of split {first.split} has a mask, because {folder_of_masks} {why}"
    else:
        names = ", ".join(finding.file.name for finding in missing[:3])
        problem = f"{len(missing)} of {len(dataset)} images of split {first.split} have no mask in {folder_of_masks} "
        problem += f"({names}, …)"
    other = foreign_layout(root)
    if len(missing) == len(dataset) and other is not None:
        problem += f": {root} is {other.title}, so convert it with `{other.command(root)}`"
    else:
        problem += _what_is_there(folder_of_masks, first.image or first.file)
    rest = [finding for finding in found if finding.kind != "missing-mask"]
    return [Finding("missing-mask", "defect", first.split, folder_of_masks, problem), *rest]


def _what_is_there(masks: Path, image: Path) -> str:
    """What lies where masks were expected, and the fix."""
    if masks.is_dir():
        there = sorted(entry.name for entry in masks.iterdir() if entry.is_file())[:3]
        if any(name.endswith(".txt") for name in there):
            return f": {masks} holds YOLO labels ({there[0]}), so convert the set with `pspnet-edge data import`"
        if any(name.endswith(".json") for name in there):
            return f": {masks} holds JSON ({there[0]}), so convert the set with `pspnet-edge data import`"
        folders = sorted(entry.name for entry in masks.iterdir() if entry.is_dir())[:6]
        if folders and not there:
            return (
                f": {masks} holds folders ({', '.join(folders)}), and a mask holds all classes of its image: merge "
                f"masks of single classes or objects into one of ids, {names_of_mask(image)}"
            )
        return f": for {image.name} it needs {names_of_mask(image)}, and {masks} holds {', '.join(there) or 'nothing'}"
    parent = masks.parent
    there = sorted(entry.name for entry in parent.iterdir() if entry.is_dir())[:6] if parent.is_dir() else []
    return f": put the masks there ({parent} has {', '.join(there) or 'no folders'})"


def _deep_note(pixels: PixelFormat) -> str:
    low, high = pixels.pixel_range or (0.0, 1.0)
    return (
        f"images have more than 8 bits: values from {low:g} to {high:g} (the 0.1 and 99.9 percentiles) become 0 to "
        f"255, and a network trained on the set keeps that range"
    )


def _masks_alone(root: Path, found: list[Finding]) -> list[Finding]:
    try:
        masks = folder.masks_without_image(root)
    except (DataError, OSError):
        return []  # opening the splits has said it
    if len(masks) >= _SEVERAL and any(finding.kind == "missing-mask" for finding in found):
        problem = f"{len(masks)} masks, such as {masks[0]}, have no image of the same name: name masks as their images"
        return [Finding("mask-without-image", "defect", "", masks[0], problem)]
    return [
        Finding(
            "mask-without-image", "defect", "", path,
            f"{path} has no image: restore the image of the same name, or remove the mask",
        )
        for path in masks
    ]  # fmt: skip

"""Splitting a data set into train, val and test by lists, with pictures of one sequence kept together."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..artifact import ensure_writable, write_bytes
from ..errors import DataError, OptionError, OutputError
from .folder import list_of, opened_layout
from .layout import Layout
from .recognize import ensure_data_folder

GROUPINGS = ("auto", "name", "folder", "none")
_BLOCKS = 20
"""One long sequence is cut into about so many runs of consecutive pictures."""
_NEARLY_ALL = 0.9
_FRAME = re.compile(r"\d+(?=\D*$)")


@dataclass(frozen=True)
class SplitResult:
    """What was written: how many images each split has, how many groups there were, and the lists."""

    train: int
    val: int
    test: int
    groups: int
    grouped_by: str
    lists: tuple[Path, ...]
    sequences_cut: int = 0
    """See ``sequences_cut``."""
    without_mask: int = 0
    """How many images have no mask, and are in none of the lists."""

    def to_dict(self) -> dict[str, object]:
        """As JSON values."""
        counts = {"train": self.train, "val": self.val} | ({"test": self.test} if self.test else {})
        return counts | {
            "groups": self.groups, "grouped_by": self.grouped_by, "sequences_cut": self.sequences_cut,
            "without_mask": self.without_mask,
            "lists": [str(path) for path in self.lists],
        }  # fmt: skip


def split_folder(
    root: Path,
    *,
    val: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
    group: str = "auto",
    overwrite: bool = False,
) -> SplitResult:
    """Write ``train.txt``, ``val.txt`` and, if asked for, ``test.txt`` into a folder data set.

    Args:
        root: the folder with ``images`` and ``masks``.
        val: share of the images for validation, 0–1.
        test: share for testing, 0–1.
        seed: of the random choice; the same seed and images give the same lists.
        group: what keeps images together. ``name``: file names that differ only in their last number; ``folder``: the
            folder below ``images``; ``none``; a regular expression whose match (its first group, if it has one) names
            the group; ``auto``: names where they show several sequences, runs of consecutive names where all are one.
        overwrite: replace lists that are there.

    Raises:
        DataError: no images, fewer than the splits need, or no list could be made.
        OptionError: shares or a grouping that make no sense.
        OutputError: there are lists already, or one of a split that is not asked for would stay.
    """
    if not (0 < val < 1 and 0 <= test < 1 and val + test < 1):
        raise OptionError(
            f"val {val} and test {test} leave nothing to train on or to validate with",
            "choose shares above 0 with a sum below 1",
            parameter="val",
        )
    ensure_data_folder(root)
    layout = opened_layout(root)
    if not overwrite:
        _ensure_not_in_folders(root, layout)
    entries = {key: _entry(layout, key) for key in layout.images}
    names = [key for key in entries if layout.mask_of(key).is_file()]
    if not names:
        raise DataError(f"no image of {root} has a mask", "give masks the names of their images")
    shares = {"test": test, "val": val} if test else {"val": val}
    if len(names) <= len(shares):
        raise DataError(
            f"{root} has {len(names)} labelled images and {len(shares) + 1} splits are wanted", "add images"
        )
    groups, grouped_by = group_names(names, group)
    chosen = assign(groups, shares, seed)
    lists = {}
    for split in ("train", *reversed(shares)):
        lines = [line for key in chosen[split] for line in entries[key]]
        lists[root / f"{split}.txt"] = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    if not overwrite:
        _ensure_no_other_lists(root, lists)
    elif not test and (left := list_of(root, "test")) is not None:
        raise OutputError(
            f"{left} would stay, and its images would be in train or val too",
            "give --test SHARE to replace it as well, or remove it",
        )
    for path in lists:
        ensure_writable(path)
    for path, content in lists.items():
        write_bytes(path, content)
    sizes = {split: len(keys) for split, keys in chosen.items()}
    return SplitResult(
        sizes["train"], sizes["val"], sizes.get("test", 0), len(groups), grouped_by, tuple(lists),
        sequences_cut(chosen), len(entries) - len(names),
    )  # fmt: skip


def sequences_cut(splits: Mapping[str, Sequence[str]]) -> int:
    """How many sequences, by the names of their images, are in more than one split; 0 where nearly all are one."""
    place_of = {name: split for split, names in splits.items() for name in names}
    sequences = _by(list(place_of), _sequence_of)
    if max(map(len, sequences)) > _NEARLY_ALL * len(place_of):
        return 0
    return sum(len({place_of[name] for name in sequence}) > 1 for sequence in sequences)


def group_names(names: Sequence[str], group: str) -> tuple[list[list[str]], str]:
    """Names → groups that must not be parted, and what they were grouped by.

    Raises:
        OptionError: ``group`` is neither a known word nor a regular expression.
    """
    ordered = sorted(names, key=_natural)
    if group == "none":
        return [[name] for name in ordered], "none"
    if group == "folder":
        return _by(ordered, lambda name: PurePosixPath(name).parent.as_posix()), "folder"
    by_name = _by(ordered, _sequence_of)
    if group == "name":
        return by_name, "name"
    if group != "auto":
        return _by(ordered, _by_pattern(group)), f"pattern {group}"
    largest = max(map(len, by_name))
    if len(by_name) == len(ordered):
        return by_name, "none"
    if len(by_name) >= 3 and largest <= 0.7 * len(ordered):
        return by_name, "name"
    # One or two long sequences: neighbours stay together in short runs.
    length = max(1, len(ordered) // _BLOCKS)
    runs = [run[start : start + length] for run in by_name for start in range(0, len(run), length)]
    return runs, "runs of consecutive names" if length > 1 else "none"


def assign(groups: Sequence[Sequence[str]], shares: Mapping[str, float], seed: int) -> dict[str, list[str]]:
    """Groups → split → names in order; each split gets its share of the names as nearly as whole groups allow.

    Every split gets at least one group, and ``train`` the rest.

    Raises:
        DataError: there are fewer groups than splits.
    """
    if len(groups) <= len(shares):
        raise DataError(
            f"the images are {len(groups)} sequence{'s' if len(groups) != 1 else ''} and {len(shares) + 1} splits are "
            f"wanted",
            "give --group none to split by image",
        )
    order = list(range(len(groups)))
    random.Random(seed).shuffle(order)
    total = sum(map(len, groups))
    chosen: dict[str, list[int]] = {"train": []}
    for position, (split, share) in enumerate(shares.items()):
        wanted, taken = max(1, round(share * total)), 0
        still_needed = len(shares) - position  # groups that later splits and train need at least
        chosen[split] = []
        for index in list(order):
            size = len(groups[index])
            is_first = not chosen[split]
            if len(order) <= still_needed:
                break
            if is_first or abs(taken + size - wanted) < abs(taken - wanted):
                if is_first and size > wanted and any(len(groups[other]) < size for other in order):
                    # Rather a small first group than one that is already too much.
                    index = min(order, key=lambda other: (abs(len(groups[other]) - wanted), order.index(other)))
                    size = len(groups[index])
                chosen[split].append(index)
                order.remove(index)
                taken += size
            if taken >= wanted:
                break
    chosen["train"] = order
    return {
        split: sorted((name for index in indices for name in groups[index]), key=_natural)
        for split, indices in chosen.items()
    }


def _entry(layout: Layout, key: str) -> list[str]:
    """The lines that name the images of a key in a list, relative to the image folder."""
    lines = []
    for path in layout.images[key]:
        folder = next(folder for folder in layout.image_folders.values() if folder in path.parents)
        own = path.relative_to(folder).as_posix()
        lines.append(own if "" in layout.image_folders else path.relative_to(layout.root).as_posix())
    return lines


def _ensure_no_other_lists(root: Path, lists: dict[Path, bytes]) -> None:
    """Lists that this very split made, and was perhaps killed between two of, are no obstacle."""
    found = (list_of(root, split) for split in ("train", "val", "test"))
    there = [str(path) for path in found if path is not None and not _holds(path, lists.get(path))]
    if there:
        raise OutputError(f"{root} has lists already ({', '.join(there)})", "give --overwrite to replace them")


def _holds(path: Path, content: bytes | None) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False


def _ensure_not_in_folders(root: Path, layout: Layout) -> None:
    folders = [split for split in ("train", "val", "test") if layout.has_folder(split)]
    if folders:
        raise OutputError(
            f"{root} is split already, by its folders for {', '.join(folders)}",
            "use it as it is, or give --overwrite for lists that take precedence",
        )


def _by(names: Sequence[str], key: Callable[[str], str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return list(groups.values())


def _by_pattern(pattern: str) -> Callable[[str], str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise OptionError(
            f"{pattern!r} is neither {', '.join(GROUPINGS)} nor a regular expression ({error})",
            "correct it",
            parameter="group",
        ) from error

    def group_of(name: str) -> str:
        match = compiled.search(name)
        if match is None:
            return name
        return match[1] if compiled.groups else match[0]

    return group_of


def _sequence_of(name: str) -> str:
    """A name without its last number: what the frames of one video share."""
    path = PurePosixPath(name)
    return f"{path.parent.as_posix()}/{_FRAME.sub('#', path.name)}"


def _natural(name: str) -> list[Any]:
    """Sorts ``a10`` after ``a9``."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]

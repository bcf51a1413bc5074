"""What a look through a data set finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...labels import IGNORE

Severity = Literal["defect", "warning"]

_MOST_ALIKE = 5
"""How many findings of one kind and split are said one by one."""


@dataclass(frozen=True)
class Finding:
    """Something wrong or suspicious.

    A defect makes training wrong or impossible; a warning is legitimate in some sets. ``problem`` is one sentence that
    names the file and the fix. ``kind`` is a fixed word for programs. ``image`` and ``mask`` show it, where a pair
    does, and ``weight`` orders findings of one kind, the worst highest.
    """

    kind: str
    severity: Severity
    split: str
    file: Path
    problem: str
    image: Path | None = None
    mask: Path | None = None
    weight: float = 0.0

    def to_dict(self) -> dict[str, object]:
        """As JSON values."""
        return {"kind": self.kind, "split": self.split, "file": str(self.file), "problem": self.problem}


@dataclass(frozen=True)
class SplitCount:
    """What the readable pairs of one split hold.

    ``pixels`` is ``int64 [256]``: how many pixels of the masks have each id, IGNORE included; ``occurs`` likewise in
    how many masks.
    """

    images: int
    classes: tuple[str, ...]
    pixels: NDArray[np.int64]
    occurs: NDArray[np.int64]

    def class_frequencies(self) -> dict[str, float]:
        """Each class's share of the labelled pixels, 0–1; all 0 where nothing is labelled."""
        known = self.pixels[: len(self.classes)]
        return dict(zip(self.classes, (known / max(int(known.sum()), 1)).tolist()))

    def class_images(self) -> dict[str, int]:
        """In how many images each class occurs."""
        return dict(zip(self.classes, self.occurs[: len(self.classes)].tolist()))

    def ignored_fraction(self) -> float:
        """The share of IGNORE among all pixels, 0–1."""
        return float(self.pixels[IGNORE] / max(int(self.pixels.sum()), 1))

    def to_dict(self) -> dict[str, object]:
        """As JSON values."""
        return {
            "images": self.images,
            "class_frequencies": self.class_frequencies(),
            "class_images": self.class_images(),
            "ignored_fraction": self.ignored_fraction(),
        }


@dataclass(frozen=True)
class Findings:
    """What ``check_dataset`` found: counts of the splits that could be opened, and every finding.

    ``notes`` are facts that are neither wrong nor suspicious, such as how deep images are scaled.
    """

    splits: dict[str, SplitCount]
    found: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def defects(self) -> tuple[Finding, ...]:
        """What makes training wrong or impossible."""
        return tuple(finding for finding in self.found if finding.severity == "defect")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What deserves a look."""
        return tuple(finding for finding in self.found if finding.severity == "warning")


def few_of_each_kind(findings: Iterable[Finding]) -> tuple[list[Finding], dict[tuple[Severity, str, str], int]]:
    """The first findings of each severity, split and kind, whose sentences are alike, and how many more there are."""
    told: Counter[tuple[Severity, str, str]] = Counter()
    few = []
    for finding in findings:
        alike = finding.severity, finding.split, finding.kind
        told[alike] += 1
        if told[alike] <= _MOST_ALIKE:
            few.append(finding)
    return few, {alike: count - _MOST_ALIKE for alike, count in told.items() if count > _MOST_ALIKE}

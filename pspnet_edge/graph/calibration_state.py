"""What a calibration has measured so far, kept in a file so that a killed run can go on."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from ..artifact import atomic_path
from ..errors import CalibrationError
from ..histogram import Histogram

_FORMAT_VERSION = 1
# What NumPy, zipfile (RuntimeError for encrypted and unknown methods) and our own look at the content raise.
_DAMAGED = (
    OSError, EOFError, ValueError, KeyError, TypeError, IndexError, RuntimeError, OverflowError, zlib.error,
    zipfile.BadZipFile,
)  # fmt: skip


@dataclass(frozen=True)
class Purpose:
    """What a state is good for. Counts for one method would serve another, but a mixed-up run must not pass unseen."""

    weights_sha256: str
    shape_nhw: tuple[int, int, int]
    method: str
    names_sha256: str
    """Fingerprint of the images' names, in order."""


@dataclass
class Measured:
    """Histograms of the images so far, and which images those were."""

    histograms: dict[str, Histogram]
    next_index: int = 0
    """The first image that is not dealt with."""
    images: int = 0
    images_sha256: str = ""
    skipped: list[str] = field(default_factory=list)
    """Names of the images that could not be read."""

    @staticmethod
    def nothing(tensors: list[str]) -> Measured:
        """The beginning: an empty histogram a tensor."""
        return Measured({name: Histogram() for name in tensors})


def write_state(path: Path, purpose: Purpose, measured: Measured) -> None:
    """Write the state atomically: a NumPy archive of the histograms and one JSON text.

    Raises:
        OutputError: the folder cannot be written.
    """
    histograms = measured.histograms.values()
    words = {
        "format_version": _FORMAT_VERSION,
        "purpose": asdict(purpose),
        "tensors": list(measured.histograms),
        "next_index": measured.next_index,
        "images": measured.images,
        "images_sha256": measured.images_sha256,
        "skipped": measured.skipped,
    }
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            words=np.array(json.dumps(words)),
            counts=np.array([histogram.counts for histogram in histograms]),
            limits=np.array([histogram.limit for histogram in histograms]),
            largest=np.array([histogram.largest for histogram in histograms]),
        )


def read_state(path: Path, purpose: Purpose, tensors: list[str]) -> Measured:
    """Read a state that was kept for the same purpose.

    Raises:
        CalibrationError: damaged, or kept for another model, method or list of images.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            words = json.loads(str(stored["words"]))
            counts, limits, largest = stored["counts"], stored["limits"], stored["largest"]
        if words["format_version"] != _FORMAT_VERSION or words["tensors"] != tensors:
            raise CalibrationError(f"{path} was kept by another version or for another model")
        kept = Purpose(**words["purpose"] | {"shape_nhw": tuple(words["purpose"]["shape_nhw"])})
        measured = Measured.nothing(tensors)
        for row, histogram in enumerate(measured.histograms.values()):
            if counts[row].shape != histogram.counts.shape:
                raise ValueError(f"a histogram has {counts[row].shape} bins")
            histogram.counts, histogram.limit, histogram.largest = counts[row], float(limits[row]), float(largest[row])
        measured.next_index, measured.images = int(words["next_index"]), int(words["images"])
        measured.images_sha256, measured.skipped = str(words["images_sha256"]), list(words["skipped"])
    except _DAMAGED as error:
        raise CalibrationError(f"{path} is damaged ({error})") from error
    for what, ours, theirs in (
        ("model", (purpose.weights_sha256, purpose.shape_nhw), (kept.weights_sha256, kept.shape_nhw)),
        ("method", purpose.method, kept.method),
        ("list of images", purpose.names_sha256, kept.names_sha256),
    ):
        if ours != theirs:
            raise CalibrationError(f"{path} was kept for another {what}")
    return measured

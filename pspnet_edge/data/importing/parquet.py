"""Parquet files of Hugging Face, unpacked into folders of images and masks as an archive is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...artifact import write_bytes
from ...document import parse_json
from ...errors import DataError
from ...lazy import require
from ..files import files_below
from ..peek import entries_below
from ..progress import Progress
from ..reading import read_text
from ..recognize import PARQUET_SUFFIX
from .source import split_of

_IMAGES = ("image", "pixel_values", "img", "jpg", "jpeg", "png")
_MASKS = ("label", "annotation", "mask", "segmentation_mask", "segmentation", "semantic_segmentation", "labels",
          "annotations", "masks", "seg", "gt", "ground_truth")  # fmt: skip
_SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8": ".jpg", b"RIFF": ".webp", b"II*\0": ".tif", b"MM\0*": ".tif",
             b"BM": ".bmp"}  # fmt: skip


def holds_parquet(folder: Path) -> bool:
    """Whether a folder holds Parquet files, at most three folders down."""
    return any(path.suffix.lower() == PARQUET_SUFFIX for path in entries_below(folder))


def unpack_parquet(source: Path, scratch: Path, progress: Progress) -> None:
    """Write every row's image and mask below ``scratch``, in a folder for each split, and the classes where known.

    Args:
        source: a Parquet file, or a folder of them, whose names begin with the split: ``train-00000-of-00002.parquet``.
        scratch: an empty folder.
        progress: shows how many rows are written.

    Raises:
        MissingPackage: pyarrow is not installed.
        DataError: damaged, or without a column of images and one of masks.
    """
    parquet = require("pyarrow.parquet", "read Parquet files")
    files = [source] if source.is_file() else [p for p in files_below(source) if p.suffix.lower() == PARQUET_SUFFIX]
    for path in files:
        split = split_of(path.stem.split("-")[0]) or split_of(path.parent.name) or ""
        try:
            opened = parquet.ParquetFile(path)
            image, mask = _columns(path, opened.schema_arrow)
            with progress(f"Unpacking {path.name}", opened.metadata.num_rows) as advance:
                for row, (picture, ids) in enumerate(_rows(opened, image, mask)):
                    name = f"{path.stem}-{row:06d}" if len(files) > 1 else f"{row:06d}"
                    for folder, content in (("images", picture), ("masks", ids)):
                        if content:
                            write_bytes(scratch / split / folder / f"{name}{_suffix(content)}", content)
                    advance(row + 1, "")
        except (OSError, ValueError) as error:  # pyarrow's own errors derive from these
            raise DataError(f"{path} is not a complete Parquet file ({error})", "download it again") from error
    names = _class_names(source if source.is_dir() else source.parent)
    if names:
        write_bytes(scratch / "classes.json", json.dumps(names).encode())


def _columns(path: Path, schema: Any) -> tuple[str, str]:
    """The names of the columns of images and masks: those that hold files."""
    files = {name for name in schema.names if str(schema.field(name).type).startswith(("struct<bytes", "binary"))}
    image = next((name for name in _IMAGES if name in files), None)
    mask = next((name for name in _MASKS if name in files and name != image), None)
    if image is None or mask is None:
        there = ", ".join(f"{name} ({str(schema.field(name).type)[:20]})" for name in schema.names[:8])
        raise DataError(
            f"{path} has no column of images ({', '.join(_IMAGES[:2])}, …) beside one of masks "
            f"({', '.join(_MASKS[:4])}, …): it has {there}",
            "rename the columns that hold the images and the masks, each stored as image files",
        )
    return image, mask


def _rows(opened: Any, image: str, mask: str) -> Iterator[tuple[bytes, bytes]]:
    for batch in opened.iter_batches(batch_size=16, columns=[image, mask]):
        for row in batch.to_pylist():
            yield _content(row[image]), _content(row[mask])


def _content(cell: Any) -> bytes:
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    return content if isinstance(content, bytes) else b""


def _suffix(content: bytes) -> str:
    return next((suffix for start, suffix in _SUFFIXES.items() if content.startswith(start)), ".png")


def _class_names(folder: Path) -> list[str]:
    """The names in ``id2label.json``, in the order of their ids; none where it is not there or has gaps."""
    listing = next((path for path in entries_below(folder) if path.name == "id2label.json"), None)
    with suppress(DataError, ValueError, AttributeError):
        named = {int(key): str(value) for key, value in parse_json(read_text(listing)).items()} if listing else {}
        return [named[index] for index in range(len(named))] if set(named) == set(range(len(named))) else []
    return []

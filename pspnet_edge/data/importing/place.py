"""Where an import reads and writes: archives, folders in folders, and the output with its state."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ...artifact import write_json
from ...errors import DataError, OutputError
from ..files import is_litter
from ..progress import Progress
from ..recognize import (
    ARCHIVE_SUFFIXES,
    DOCUMENT_SUFFIXES,
    PARQUET_SUFFIX,
    document_format,
    ensure_names_images,
    foreign_layout,
    recognized,
)
from ..unpack import unpack_all
from ..unread import ensure_readable
from .parquet import holds_parquet, unpack_parquet

REPORT = "import.json"
STATE = ".import.partial.json"


def prepare_output(output: Path, request: str, overwrite: bool) -> None:
    """Make the output folder, or see that it holds an import that may be resumed or replaced.

    Raises:
        OutputError: it holds something else.
    """
    there = [entry.name for entry in output.iterdir() if not is_litter(entry.name)] if output.is_dir() else []
    state = output / STATE
    try:
        resumes = state.is_file() and json.loads(state.read_text(encoding="utf-8")).get("request") == request
    except (OSError, ValueError, AttributeError):
        resumes = False
    if there and not resumes:
        ours = (output / REPORT).is_file() or state.is_file()
        if not (overwrite and ours):
            fix = "give --overwrite to replace it, or choose another folder" if ours else "choose a new folder"
            what = (
                "an import already"
                if (output / REPORT).is_file()
                else "files already"
                if not ours
                else "another import"
            )
            raise OutputError(f"{output} holds {what} ({', '.join(sorted(there)[:4])})", fix)
        for name in ("images", "masks"):
            shutil.rmtree(output / name, ignore_errors=True)
        for name in ("classes.txt", "train.txt", "val.txt", "test.txt", REPORT):
            (output / name).unlink(missing_ok=True)
    write_json(state, {"request": request})


@contextmanager
def unpacked_source(source: Path, output: Path, progress: Progress) -> Iterator[Path]:
    """The folder of a source: itself, or where an archive is unpacked for as long as it is needed."""
    name = source.name.lower()
    if source.is_file():
        if name.endswith(DOCUMENT_SUFFIXES):
            yield source.parent
            return
        ensure_readable(source)
        if not name.endswith((*ARCHIVE_SUFFIXES, PARQUET_SUFFIX)):
            raise DataError(
                f"{source} is neither a folder nor a .zip, .tar, .json, .csv or .parquet file",
                "unpack it, or give what the tool exported",
            )
    elif not holds_parquet(source):
        yield source
        return
    with tempfile.TemporaryDirectory(prefix=".unpacked.", dir=output) as scratch:
        if name.endswith(ARCHIVE_SUFFIXES):
            unpack_all(source, Path(scratch), progress)
        else:
            unpack_parquet(source, Path(scratch), progress)
        yield Path(scratch)


def recognize_format(root: Path, format: str, formats: Sequence[str], document: Path | None = None) -> tuple[Path, str]:
    """The folder that holds the export, perhaps one below, and its format; of a JSON file, its folder."""
    if document is not None:
        name = format if format != "auto" else document_format(document)
        if name is None:
            ensure_readable(document)
            raise DataError(f"{document} is not a known kind of annotation file", "give --format, or its folder")
        return root, name
    for folder in _down(root):
        if format != "auto":
            if folder == root or foreign_layout(folder) is not None:
                found = foreign_layout(folder)
                if (found is not None and found.format == format) or not _only_folder(folder):
                    return folder, format
            continue
        found = foreign_layout(folder)
        if found is not None and not _is_own(folder):
            return folder, found.format
        try:
            name = recognized(folder)
        except DataError:
            continue
        return folder, name if name in formats else "folder"
    if format != "auto":
        return root, format
    ensure_names_images(root)
    ensure_readable(root)
    there = ", ".join(sorted(entry.name for entry in root.iterdir() if not is_litter(entry.name))[:8])
    if not there:
        raise DataError(f"{root} is empty", "export it again")
    raise DataError(
        f"the format of {root} is not recognized (it has {there or 'nothing'})",
        f"give --format with one of {', '.join(formats)}",
    )


def _is_own(folder: Path) -> bool:
    return (folder / "classes.txt").is_file() and (folder / "images").is_dir() and (folder / "masks").is_dir()


def _down(root: Path) -> Iterator[Path]:
    """The folder, and what is in it as long as that is a single folder."""
    for _ in range(4):
        yield root
        inner = _only_folder(root)
        if inner is None:
            return
        root = inner


def _only_folder(root: Path) -> Path | None:
    entries = [entry for entry in root.iterdir() if not is_litter(entry.name)]
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else None


def leave_nothing(output: Path) -> None:
    """Remove what an import that came to nothing has made; its folder is the caller's."""
    if not (output / "images").is_dir():
        (output / STATE).unlink(missing_ok=True)

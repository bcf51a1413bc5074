"""Where a report goes, so that none is overwritten unasked."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..artifact import ensure_writable
from ..errors import OptionError
from ..inputs import is_there

FORMS = ("json", "md", "html", "png")


def report_folder(
    output: Path,
    *,
    overwrite: bool = False,
    source: Path | None = None,
    baseline: Path | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Path:
    """The folder for a new report: ``output``, or ``output-2`` and so on where there is a report already.

    An interrupted benchmark, which has not left a report, resumes in its folder.

    Args:
        output: the wanted folder.
        overwrite: replace the report in it.
        source: the report that is rendered again; into its own folder it may go.
        baseline: the report that the new one is compared with, which is never replaced.
        say: called when another folder is taken.

    Raises:
        OptionError: ``overwrite`` would replace the baseline.
        OutputError: the folder cannot be written.
    """
    here = output / "report.json"
    ensure_writable(here)
    if _same(here, baseline) and overwrite:
        raise OptionError(
            f"{baseline} would be replaced by the report that is compared with it",
            "choose another folder with -o",
            parameter="overwrite",
        )
    folder = output
    if not overwrite and (not _same(here, source) or _same(here, baseline)):
        whole = output if output.name else output.absolute()
        names = itertools.chain([output], (whole.with_name(f"{whole.name}-{number}") for number in itertools.count(2)))
        folder = next(name for name in names if not (name / "report.json").exists())
    if folder != output:
        say(f"{output} holds a report already: this one goes into {folder} (--overwrite replaces it)")
    for suffix in FORMS:
        ensure_writable(folder / f"report.{suffix}")
    return folder


@contextlib.contextmanager
def opened_report_folder(output: Path, **how: Any) -> Iterator[Path]:
    """``report_folder``; where the work in it fails before it has left a file, a folder that is new is removed again.

    Raises:
        OptionError, OutputError: as ``report_folder``.
    """
    was_there = is_there(output)
    folder = report_folder(output, **how)
    try:
        yield folder
    except BaseException:
        if not was_there or folder != output:
            below = sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True)
            for empty in (*below, folder):
                with contextlib.suppress(OSError):
                    empty.rmdir()
        raise


def _same(path: Path, other: Path | None) -> bool:
    return other is not None and path.exists() and other.exists() and path.samefile(other)

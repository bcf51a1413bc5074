"""Where a report goes, so that none is overwritten unasked."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

from ..artifact import ensure_writable
from ..errors import OptionError

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


def _same(path: Path, other: Path | None) -> bool:
    return other is not None and path.exists() and other.exists() and path.samefile(other)

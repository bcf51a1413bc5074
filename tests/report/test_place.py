"""No report is overwritten unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

from pspnet_edge.errors import OptionError, OutputError
from pspnet_edge.report.place import opened_report_folder, report_folder


def with_report(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "report.json").write_text("{}")
    return folder


def test_an_empty_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert report_folder(tmp_path / "report") == tmp_path / "report"


def fail_in(place: Path, left: bool) -> None:
    with opened_report_folder(place) as folder:
        (folder / ".unfinished" / "done").mkdir(parents=True)
        if left:
            (folder / ".unfinished" / "engine").write_text("half an hour of work")
        raise KeyError


@pytest.mark.parametrize("left", [False, True])
def test_work_that_fails_leaves_no_empty_folder_and_removes_no_file(tmp_path: Path, left: bool) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("report", "mine"):
        with pytest.raises(KeyError):
            fail_in(tmp_path / name, left)
    assert (tmp_path / "report/.unfinished/engine").is_file() == left
    assert (tmp_path / "report").exists() == left
    assert (tmp_path / "mine").is_dir()


def test_a_second_report_goes_into_the_next_free_folder_and_that_is_said(tmp_path: Path) -> None:
    first, second = with_report(tmp_path / "report"), with_report(tmp_path / "report-2")
    said: list[str] = []
    assert report_folder(first, say=said.append) == tmp_path / "report-3"
    assert "report-3" in said[0]
    assert "--overwrite" in said[0]
    assert second.exists()


def test_an_interrupted_benchmark_resumes_in_its_folder(tmp_path: Path) -> None:
    first = with_report(tmp_path / "report")
    (tmp_path / "report-2" / ".unfinished").mkdir(parents=True)
    assert report_folder(first) == tmp_path / "report-2"


def test_overwrite_replaces_a_report(tmp_path: Path) -> None:
    first = with_report(tmp_path / "report")
    assert report_folder(first, overwrite=True) == first


def test_the_baseline_of_a_comparison_is_never_replaced(tmp_path: Path) -> None:
    first = with_report(tmp_path / "report")
    baseline = first / "report.json"
    assert report_folder(first, baseline=baseline) == tmp_path / "report-2"
    assert report_folder(first, source=baseline, baseline=baseline) == tmp_path / "report-2"
    with pytest.raises(OptionError, match="would be replaced"):
        report_folder(first, baseline=baseline, overwrite=True)


def test_a_report_is_rendered_again_where_it_is(tmp_path: Path) -> None:
    first = with_report(tmp_path / "report")
    assert report_folder(first, source=first / "report.json") == first


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        report_folder(tmp_path / "file" / "report")

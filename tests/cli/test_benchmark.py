"""Bad options of ``benchmark`` get one sentence before anything is measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pspnet_edge.errors import PspnetEdgeError

CASES = {
    "precision": (("--precision", "fp32,fp8"), "unknown precision 'fp8'"),
    "size": (("--size", "big"), "'big' is not a size"),
    "runtime": (("--runtime", "abacus"), "unknown runtime 'abacus'"),
    "root": (("--root", "absent"), "there is no data set absent"),
    "model": (("resnet",), "there is no model resnet"),
    "board": (("--estimate", "toaster"), "unknown board 'toaster'"),
    "data set": (("--dataset", "kitti", "--root", "."), "unknown data set 'kitti'"),
    "report to compare": (("--against", "absent.json"), "there is no report absent.json"),
    "report to render": (("--from", "absent.json"), "there is no report absent.json"),
    "output": (("-o", "/proc/report"), "cannot be written"),
    "video": (("--input", "absent.mp4"), "there is no video"),
}


OF_A_FILE = ("root", "model", "report to compare", "report to render", "output", "video")


@pytest.mark.parametrize("case", CASES)
def test_one_sentence_and_nothing_is_left(command_line, tmp_path: Path, case: str) -> None:
    options, sentence = CASES[case]
    done = command_line("benchmark", *options, "--json")
    assert done.returncode == (1 if case in OF_A_FILE else 2), done.stderr
    assert "Traceback" not in done.stderr
    assert sentence in str(PspnetEdgeError(**json.loads(done.stdout)["error"]))
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.parametrize("options", [("--estimate", "orin-nano"), ("--rounds", "3"), ("pspnet_fast_camvid",)])
def test_what_belongs_to_measuring_is_refused_where_nothing_is_measured(command_line, options: tuple[str, ...]) -> None:
    report = Path(__file__).parents[2] / "benchmarks" / "results" / "report.json"
    done = command_line("benchmark", *options, "--from", report)
    assert done.returncode == 2
    assert "it belongs to measuring, and --from renders what was measured" in done.stderr


def test_usage(command_line, tmp_path: Path) -> None:
    assert command_line("benchmark", "--rounds", 1).returncode == 2
    text = command_line("benchmark", "--help").stdout
    for name in ("--precision", "--against", "--estimate", "--fresh", "--from"):
        assert name in text


def test_an_estimate_alone_measures_nothing_and_has_an_error_bar(command_line, tmp_path: Path) -> None:
    done = command_line("benchmark", "--estimate", "orin-nano", "--precision", "int8", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["rows"] == []
    assert facts["files"] == []
    (entry,) = facts["estimates"]
    assert entry["fps_low"] < entry["fps"] < entry["fps_high"]
    assert entry["fps_high"] / entry["fps"] == pytest.approx(1.5, rel=0.01)

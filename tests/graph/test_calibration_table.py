from __future__ import annotations

import json
from pathlib import Path

import pytest

from pspnet_edge import bundled
from pspnet_edge.errors import CalibrationError
from pspnet_edge.graph.calibration_table import CalibrationTable, read_table, write_table

GOOD = bundled.table_path(bundled.DEFAULT)


def test_a_table_survives_writing_and_reading(tmp_path: Path, table: CalibrationTable) -> None:
    write_table(tmp_path / "t.json", table)
    assert read_table(tmp_path / "t.json") == table


def changed(**entries: object) -> str:
    return json.dumps(json.loads(GOOD.read_text()) | entries)


def without(key: str) -> str:
    return json.dumps({name: value for name, value in json.loads(GOOD.read_text()).items() if name != key})


def with_range(value: object) -> str:
    content = json.loads(GOOD.read_text())
    first = next(iter(content["amax"]))
    content["amax"][first] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.read_text()[: len(GOOD.read_text()) // 2], "cannot be read"),
        ("", "cannot be read"),
        ("[1, 2]", "is not a calibration table"),
        ('{"calibration": "TRT-8601-EntropyCalibration2"}', "is not a calibration table"),
        (changed(format_version=0), "format version 0"),
        (changed(surprise=1), "is damaged"),
        (with_range(float("nan")), "NaN is not JSON"),
        (with_range(-1.0), "is -1.0, not between"),
        (with_range(0), "is 0, not between"),
        (with_range(float("inf")), "Infinity is not JSON"),
        (with_range("wide"), "is damaged"),
        (with_range("1.5"), "is damaged"),
        (with_range(None), "is damaged"),
        (changed(amax=[1.0, 2.0]), "is damaged"),
        (without("amax"), "is damaged"),
        (without("weights_sha256"), "is damaged"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(CalibrationError, match=message) as caught:
        read_table(path)
    assert "\n" not in str(caught.value)
    assert "pspnet-edge calibrate" in str(caught.value)


def test_what_is_no_text_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(b"\xff\xfe\x00 engine")
    for place in (path, tmp_path, tmp_path / "absent.json"):
        with pytest.raises(CalibrationError, match="calibration table") as caught:
            read_table(place)
        assert "\n" not in str(caught.value)


def test_a_build_refuses_a_stale_table_and_leaves_no_engine(command_line, tmp_path: Path) -> None:
    stale = tmp_path / "stale.json"
    stale.write_text(changed(weights_sha256="0" * 64))
    done = command_line("build", "--precision", "int8", "--calibration", stale, "-o", "e.engine")
    assert done.returncode == 1
    assert "belongs to different weights" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "work").iterdir()) == []

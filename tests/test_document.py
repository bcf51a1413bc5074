from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pspnet_edge.artifact import sidecar_path
from pspnet_edge.document import (
    DEEPEST,
    LABEL_SET,
    LARGEST_BYTES,
    SHAPE_NHW,
    Flag,
    List,
    Map,
    Number,
    Optional,
    Record,
    Text,
    Unfit,
    check_value,
    parse_json,
    read_document,
)
from pspnet_edge.errors import CalibrationError, ModelError
from pspnet_edge.labels import CAMVID
from pspnet_edge.sidecar import read_sidecar, write_sidecar

SHAPE = Record({"name": Text(10), "numbers": List(Number(0, 10), 1, 3)}, {"more": Map(Optional(Flag()))}, closed=False)
GOOD = {"kind": "k", "format_version": 1, "name": "x", "numbers": [1, 2.5], "more": {"a": True, "b": None}}


def read(path: Path) -> dict[str, Any]:
    return read_document(path, what="table", shape=SHAPE, remake="make it", kind="k", version=1, error=CalibrationError)


def test_a_document_of_the_right_shape_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(GOOD))
    assert read(path) == GOOD


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"{", "cannot be read"),
        (b"\xff{}", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b'{"kind": "k", "format_version": 1, "numbers": [' + b"9" * 5000 + b"]}", "cannot be read"),
        (b'{"kind": "k", "x": NaN}', "NaN is not JSON"),
        (b'{"kind": "k", "x": -Infinity}', "Infinity is not JSON"),
        (b"[]", "is not a table"),
        (b'{"kind": "other"}', "is not a table"),
        (b'{"kind": "k", "format_version": 2}', "format version 2"),
        (b'{"kind": "k", "format_version": true}', "format version True"),
    ],
)
def test_what_is_not_such_a_document_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(CalibrationError, match=message) as caught:
        read(path)
    assert caught.value.command == "make it"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 3}, "it.name is not text"),
        ({"name": "x" * 11}, "longer than 10"),
        ({"name": "\ud800"}, "not UTF-8"),
        ({"name": "a\0"}, "NUL"),
        ({"numbers": "12"}, "it.numbers is not a list"),
        ({"numbers": []}, "between 1 and 3"),
        ({"numbers": [1, 2, 3, 4]}, "between 1 and 3"),
        ({"numbers": [True]}, r"numbers\[0\] is not a number"),
        ({"numbers": [11]}, "not between 0 and 10"),
        ({"numbers": [2**63]}, "out of range"),
        ({"numbers": [1e308]}, "out of range"),
        ({"more": {"a": 1}}, "is not true or false"),
        ({"more": [1]}, "it.more is not an object"),
        ({"unknown": -(2**64)}, "out of range"),
        ({"unknown": {"\udcff": 1}}, "not UTF-8"),
    ],
)
def test_every_value_is_checked(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(GOOD | changes))
    with pytest.raises(CalibrationError, match=message) as caught:
        read(path)
    str(caught.value).encode()


def test_a_missing_name_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({key: value for key, value in GOOD.items() if key != "numbers"}))
    with pytest.raises(CalibrationError, match="lacks numbers"):
        read(path)


def test_depth_and_unknown_names_are_limited() -> None:
    deep: Any = 1
    for _ in range(DEEPEST + 1):
        deep = [deep]
    with pytest.raises(Unfit, match="too deep"):
        check_value(deep, List(Number()), "it")
    with pytest.raises(Unfit, match="unknown name 'b'"):
        check_value({"a": 1, "b": 2}, Record({"a": Number()}, closed=True), "it")
    with pytest.raises(ValueError, match="too deep"):
        parse_json("[" * 200_000)


def test_a_number_that_no_float_holds_is_refused_and_nan_only_of_our_own_files() -> None:
    for strict in (True, False):
        with pytest.raises(ValueError, match="a number of 400 digits"):
            parse_json("[" + "9" * 400 + "]", strict=strict)
    assert parse_json("[12, 1e400]") == [12, float("inf")]
    with pytest.raises(ValueError, match="NaN"):
        parse_json("[NaN]")
    assert str(parse_json("[NaN]", strict=False)) == "[nan]"


def test_what_is_not_a_file_or_is_too_large_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(CalibrationError, match="not an ordinary file"):
        read(tmp_path / "fifo")
    with pytest.raises(CalibrationError, match="not an ordinary file"):
        read(tmp_path)
    with (tmp_path / "large").open("wb") as stream:
        stream.truncate(LARGEST_BYTES + 1)
    with pytest.raises(CalibrationError, match="larger than"):
        read(tmp_path / "large")
    for name in ("absent", "n" * 300, "nul\0", "byte\udcff"):
        with pytest.raises(CalibrationError) as caught:
            read(tmp_path / name)
        str(caught.value).encode()


FACTS = {"runtime": "openvino", "precision": "fp32", "shape_nhw": [1, 8, 8], "label_set": CAMVID.facts()}


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts.update(shape_nhw=[1, 8]),
        lambda facts: facts.update(shape_nhw=[1, 8, 2**63]),
        lambda facts: facts.update(shape_nhw=[1, 8, 0]),
        lambda facts: facts.update(shape_nhw=[60_000, 60_000, 60_000]),
        lambda facts: facts.update(precision="fp8"),
        lambda facts: facts.update(precision="\ud800"),
        lambda facts: facts.update(runtime=None),
        lambda facts: facts["label_set"].update(classes=["a"] * 255),
        lambda facts: facts["label_set"]["palette"][0].__setitem__(0, -1),
        lambda facts: facts["label_set"]["palette"][0].__setitem__(0, 300),
        lambda facts: facts["label_set"]["palette"][0].append(1),
        lambda facts: facts["label_set"]["classes"].__setitem__(0, "\udfff"),
        lambda facts: facts.pop("label_set"),
    ],
)
def test_a_sidecar_that_says_what_no_engine_is_gets_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    engine = tmp_path / "a.engine"
    engine.write_bytes(b"x")
    write_sidecar(engine, "engine", FACTS)
    assert read_sidecar(engine, "engine", "remake")["runtime"] == "openvino"
    facts = json.loads(sidecar_path(engine).read_text())
    change(facts)
    sidecar_path(engine).write_text(json.dumps(facts))
    with pytest.raises(ModelError, match="is damaged") as caught:
        read_sidecar(engine, "engine", "remake")
    str(caught.value).encode()


def test_label_sets_and_shapes_of_this_package_fit() -> None:
    check_value(CAMVID.facts(), LABEL_SET, "it")
    check_value((1, 384, 480), SHAPE_NHW, "it")

from __future__ import annotations

import json
import math
from pathlib import Path

import pspnet_edge
from pspnet_edge.records import counted, finite, first_line, listed, printable, to_json


def test_nan_and_infinity_are_null_at_every_depth() -> None:
    value = {"a": math.nan, "b": [math.inf, (1.5, -math.inf)], "c": {"d": math.nan}, "e": "text", "f": True}
    assert finite(value) == {"a": None, "b": [None, [1.5, None]], "c": {"d": None}, "e": "text", "f": True}


def test_json_of_a_name_in_another_encoding_can_be_read() -> None:
    text = to_json({"na\udcffme": ["\ud800", math.nan]})
    assert json.loads(text) == {"na\\udcffme": ["\\ud800", None]}
    text.encode("ascii")


def test_text_becomes_printable() -> None:
    assert printable("caf\udce9 é\n\t") == "caf\\udce9 é\n\t"
    assert printable("\x1b[2J \r \x9b \u202e\u2066") == "\\x1b[2J \\r \\x9b \\u202e\\u2066"


def test_json_keeps_every_character() -> None:
    assert json.loads(to_json({"name": "\x1b\u202e"})) == {"name": "\x1b\u202e"}


def test_one_is_singular() -> None:
    assert counted(1, "frame") == "1 frame"
    assert counted(0, "frame") == "0 frames"
    assert counted(2, "class", "classes") == "2 classes"


def test_few_values_are_dictionaries_of_anything() -> None:
    """What crosses modules is a record; JSON of other programs is not ours to type."""
    package = Path(pspnet_edge.__file__).parent
    found = [
        line for path in package.rglob("*.py") for line in path.read_text().splitlines() if "dict[str, Any]" in line
    ]
    assert len(found) <= 60


def test_an_error_that_says_nothing_is_called_by_its_kind() -> None:
    assert first_line(RuntimeError("\n CUDA error: busy \nCompile with …")) == "CUDA error: busy"
    assert first_line(RuntimeError("")) == "RuntimeError"
    assert first_line(ValueError("x" * 300)) == "x" * 200 + "…"


def test_names_are_listed_as_in_a_sentence() -> None:
    assert [listed(list(names)) for names in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]

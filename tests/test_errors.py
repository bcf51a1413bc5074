from __future__ import annotations

import pickle

import pytest

from pspnet_edge import errors
from pspnet_edge.errors import DataError, OptionError, PspnetEdgeError, one_of

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PspnetEdgeError)]


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        (("a is broken",), "a is broken"),
        (("a is broken", "replace it"), "a is broken: replace it"),
        (("a is broken", "recreate it", "make a"), "a is broken: recreate it with `make a`"),
        (("a is broken", None, "make a"), "a is broken: run `make a`"),
        (("a is broken", "recreate it with `make a`", "make a"), "a is broken: recreate it with `make a`"),
    ],
)
def test_the_parts_make_one_sentence(parts: tuple[str, ...], sentence: str) -> None:
    error = PspnetEdgeError(*parts)
    assert str(error) == sentence
    assert (error.problem, error.fix, error.command) == (*parts, None, None)[:3]
    assert error.to_dict() == {"problem": error.problem, "fix": error.fix, "command": error.command}


@pytest.mark.parametrize(
    ("sentence", "problem", "fix", "command"),
    [
        ("a is broken: give another", "a is broken", "give another", None),
        (
            "no a (b: c): rebuild with `pspnet-edge build`",
            "no a (b: c)",
            "rebuild with `pspnet-edge build`",
            "pspnet-edge build",
        ),
        ("no a: pip install 'x[y]' or pip install z", "no a", "pip install 'x[y]' or pip install z", "pip install z"),
        (
            "no a: sudo apt-get install b, and restart",
            "no a",
            "sudo apt-get install b, and restart",
            "sudo apt-get install b",
        ),
        ("the file C: drive is full", "the file C: drive is full", None, None),
    ],
)
def test_one_sentence_is_taken_apart(sentence: str, problem: str, fix: str | None, command: str | None) -> None:
    error = DataError(sentence)
    assert (error.problem, error.fix, error.command) == (problem, fix, command)
    assert str(error) == sentence


@pytest.mark.parametrize("kind", KINDS)
def test_errors_pass_between_processes(kind: type[PspnetEdgeError]) -> None:
    error = kind("a is broken", "fix it", "make a")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.to_dict()) == (kind, str(error), error.to_dict())


def test_an_option_error_names_its_parameter() -> None:
    error = OptionError("a drop of 2 is too large", "give at most 1", parameter="max_drop")
    assert str(error) == "max_drop: a drop of 2 is too large: give at most 1"
    assert pickle.loads(pickle.dumps(error)).parameter == "max_drop"


def test_every_kind_is_public() -> None:
    import pspnet_edge

    assert {kind.__name__ for kind in KINDS} <= set(pspnet_edge.__all__)


def test_a_value_that_is_not_known_is_refused_with_those_that_are() -> None:
    assert one_of("mask", ("overlay", "mask"), "choice") == "mask"
    with pytest.raises(OptionError, match=r"^show: unknown choice 'hologram': choose one of overlay, mask$"):
        one_of("hologram", ("overlay", "mask"), "choice", "show")

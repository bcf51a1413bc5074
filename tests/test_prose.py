"""Words that a native engineer would not write, kept out of what users and maintainers read."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

GLOSSARY = {
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\banew\b": "again, or rebuild, recreate",
    r"\bstands?( in| beside| at| for)?\b(?!-|ard)": "is, is stored, means",
    r"\bgoes on\b|\bgo on from\b|\bgoing on from\b": "continues, resumes",
    r"\bof (its|their|his|her|our|your|one's) own\b": "its own …, separate",
    r"\bheld against\b|\bhold (it )?against\b": "compared with",
    r"\b(to|can(not)?|may|is|are) (not )?(to )?be had\b": "available",
    r"\bwithout a word\b": "silently",
    r"\b(a|one) GPU alone\b|\bGPUs alone\b": "only on a GPU",
    r"\b(file|image|channel|class|source|line) an? (image|file|channel|class|source|line|thread|label)\b": "per",
    r"\b(scale|thread|process|name|id) an? (channel|source|class|image|line|camera)\b": "per",
    r"\bfor so long\b|\bso many frames\b": "name the number",
    r"\b(no|some)body\b": "no viewer, the caller",
    r"\bthere (is|are) no (precision|runtime|flavour|method|rounding|view|pixels|data set|board) ": "unknown",
    r"\b(quanti|optimi|recogni|normali|initiali|equali)s(e|es|ed|er|ers|ing|ation)\b": "-ize",
    r"\bis no (size|list|number|folder|file|image|video|name|class|engine|model)\b": "is not a",
    r"\bcame to grief\b|\bshall\b": "crashed, must",
}

PLACES = ["pspnet_edge", "docs", "jetson", "README.md"]

NAMES = re.compile(r"\b[Qq]uantiser\b|\bmend\b(?=[`\"]|$)|--(no-)?equalise|there is no model \w+\.onnx")
"""What old files and scripts hold, and messages whose words read otherwise where they are whole."""


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of all that is read by people: of Python its comments and its strings, else every line."""
    if path.suffix != ".py":
        yield from enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        return
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)}
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type in kinds:
            yield from enumerate(token.string.splitlines(), token.start[0])


def findings(path: Path) -> list[str]:
    found = []
    for line, text in texts_of(path):
        for pattern, better in GLOSSARY.items():
            if match := re.search(pattern, NAMES.sub("", text)):
                found.append(f"{path.relative_to(ROOT)}:{line}: {match[0]!r}, write {better}")
    return found


def files_below(place: str) -> list[Path]:
    path = ROOT / place
    if path.is_file():
        return [path]
    return sorted(file for kind in ("*.py", "*.md", "*.sh", "*.html", "*.js") for file in path.rglob(kind))


@pytest.mark.parametrize("place", PLACES)
def test_prose_keeps_to_the_glossary(place: str) -> None:
    files = files_below(place)
    assert files
    assert [text for file in files for text in findings(file)] == []


@pytest.mark.parametrize(
    "text",
    [
        "how to mend it",
        "make it anew",
        "a scale a channel",
        "on a GPU alone",
        "there is no precision 'fp8'",
        "'x' is no size",
        "a process of its own",
        "the file stands beside",
        "quantised",
    ],
)
def test_a_word_of_the_glossary_is_found(text: str) -> None:
    assert any(re.search(pattern, text) for pattern in GLOSSARY)


@pytest.mark.parametrize("text", ["a standard file", "one scale per channel", "in its own process", "frames a second"])
def test_plain_words_are_left_alone(text: str) -> None:
    assert not any(re.search(pattern, text) for pattern in GLOSSARY)

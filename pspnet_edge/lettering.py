"""Text in pictures: letters that a font lacks are spelled with others, and never drawn as question marks or boxes."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .lazy import require

FONT = cv2.FONT_HERSHEY_SIMPLEX
_SPELLINGS = """
ßss æae œoe øo łl đd ðd þth ıi
аa бb вv гg дd еe жzh зz иi кk лl мm нn оo пp рr сs тt уu фf хkh цts чch шsh щshch ъ' ыy ь' эe юyu яya іi єye ґg
αa βv γg δd εe ζz ηi θth ιi κk λl μm νn ξx οo πp ρr ςs σs τt υy φf χch ψps ωo
"""
_SPELLED = {entry[0]: entry[1:] for entry in _SPELLINGS.split()}
"""Letters without accents, and what they are in ASCII."""


def drawable(text: str) -> str:
    """``text`` in letters that ``cv2.putText`` draws: OpenCV 5 has most scripts, OpenCV 4 only ASCII."""
    return text if text.isascii() and text.isprintable() else _spelled(text, _opencv_has)


def plottable(text: str) -> str:
    """``text`` in letters that matplotlib's own font has: Latin, Greek, Cyrillic, Arabic and more, no Chinese."""
    return text if text.isascii() and text.isprintable() else _spelled(text, _matplotlib_has)


def _spelled(text: str, has: Callable[[str], bool]) -> str:
    return "".join(
        letter if letter.isprintable() and has(letter) else _spelling(letter)
        for letter in unicodedata.normalize("NFC", text)
    )


def _spelling(letter: str) -> str:
    """A letter in ASCII, without its accents; its code point where it has no such form."""
    plain = "".join(part for part in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(part))
    if plain.isascii():
        return plain if plain.isprintable() else " "
    if (found := _SPELLED.get(plain.lower())) is not None:
        return found if plain.islower() else found.capitalize()
    return f"U+{ord(letter):04X}"


@lru_cache(4096)
def _opencv_has(letter: str) -> bool:
    # OpenCV 4 draws a question mark per byte, OpenCV 5 one.
    marks = ("?", "?" * len(letter.encode()))
    return letter.isascii() or not any(np.array_equal(_drawn(letter), _drawn(mark)) for mark in marks)


def _drawn(letter: str) -> NDArray[np.uint8]:
    picture = np.zeros((48, 128), np.uint8)
    cv2.putText(picture, letter, (8, 32), FONT, 1, 255)
    return picture


def _matplotlib_has(letter: str) -> bool:
    return ord(letter) in _matplotlib_letters()


@lru_cache(1)
def _matplotlib_letters() -> frozenset[int]:
    manager: Any = require("matplotlib.font_manager", "draw charts")
    fonts: Any = require("matplotlib.ft2font", "draw charts")
    place = manager.findfont(manager.FontProperties(family="DejaVu Sans"))
    return frozenset(fonts.FT2Font(place).get_charmap())

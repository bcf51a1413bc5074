from __future__ import annotations

import cv2
import numpy as np
import pytest

from pspnet_edge.camera.overlay import Overlay
from pspnet_edge.labels import LabelSet, bright_palette
from pspnet_edge.lettering import FONT, _spelled, drawable, plottable


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("sky, 2?", "sky, 2?"),
        ("Früchte", "Fruchte"),
        ("Fru\N{COMBINING DIAERESIS}chte", "Fruchte"),
        ("Straße Ærø Łódź", "Strasse Aero Lodz"),
        ("Дорога и Ёж", "Doroga i Ezh"),
        ("Ωμέγα", "Omega"),
        ("道", "U+9053"),
        ("a\tb", "a b"),
    ],
)
def test_letters_that_a_font_lacks_are_spelled_with_others(text: str, spelled: str) -> None:
    assert _spelled(text, str.isascii) == spelled


@pytest.mark.parametrize("text", ["Früchte", "дорога", "道路", "ไทย", "a\nb"])
def test_opencv_draws_no_question_mark(text: str) -> None:
    def picture(letter: str) -> bytes:
        canvas = np.zeros((48, 128), np.uint8)
        cv2.putText(canvas, letter, (8, 32), FONT, 1, 255)
        return canvas.tobytes()

    shown = drawable(text)
    assert not {picture("?" * count) for count in (1, 2, 3, 4)} & set(map(picture, shown))
    assert shown.isprintable()


def test_matplotlib_gets_the_letters_that_its_font_has() -> None:
    pytest.importorskip("matplotlib")
    assert plottable("Früchte, дорога, Ωμέγα") == "Früchte, дорога, Ωμέγα"
    assert plottable("道 ไ") == "U+9053 U+0E44"


def test_a_legend_has_the_name_of_a_class_in_any_script() -> None:
    names = ("Früchte", "дорога")
    plain = Overlay(LabelSet("own", tuple(map(drawable, names)), bright_palette(names)))
    overlay = Overlay(LabelSet("own", names, bright_palette(names)))
    frame, mask = np.zeros((200, 300, 3), np.uint8), np.zeros((200, 300), np.uint8)
    assert (overlay.draw(frame, mask, "Straße") == plain.draw(frame, mask, drawable("Straße"))).all()

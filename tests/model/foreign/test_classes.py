from __future__ import annotations

import pytest

from pspnet_edge.errors import OptionError
from pspnet_edge.labels import CAMVID, CITYSCAPES, VOC
from pspnet_edge.model.foreign.classes import find_label_set, named_classes


def test_a_label_set_of_the_same_size_is_taken() -> None:
    assert named_classes(21, VOC, None) == (VOC, None)
    assert named_classes(19, CITYSCAPES, CITYSCAPES.classes) == (CITYSCAPES, None)


def test_names_in_another_order_say_which_logit_is_which() -> None:
    names = list(reversed(CAMVID.classes))
    names[names.index("sign")] = "SignSymbol"
    names[names.index("pavement")] = "Sidewalk"
    assert named_classes(11, CAMVID, names) == (CAMVID, tuple(range(10, -1, -1)))


def test_names_alone_are_kept_in_their_order() -> None:
    labels, order = named_classes(2, None, ["cat", "dog"])
    assert (labels.name, labels.classes, order) == ("imported", ("cat", "dog"), None)
    assert named_classes(21, None, [name.upper() for name in VOC.classes]) == (VOC, None)


def test_without_any_names_classes_are_numbered() -> None:
    labels, _ = named_classes(3, None, None)
    assert labels.classes == ("class 0", "class 1", "class 2")


@pytest.mark.parametrize(
    ("count", "label_set", "names", "message"),
    [
        (19, VOC, None, "19 classes and label set voc has 21"),
        (3, None, ["a"], "3 classes and 1 names"),
        (11, CAMVID, [f"n{index}" for index in range(11)], "lack 'sky' of label set camvid"),
    ],
)
def test_what_does_not_fit(count: int, label_set: object, names: object, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        named_classes(count, label_set, names)  # type: ignore[arg-type]


def test_an_unknown_label_set() -> None:
    with pytest.raises(OptionError, match="choose one of camvid, cityscapes, voc"):
        find_label_set("ade20k")

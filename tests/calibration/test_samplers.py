from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pspnet_edge.errors import OptionError

_PLACE = Path(__file__).resolve().parents[2] / "calibration" / "samplers.py"
_SPEC = importlib.util.spec_from_file_location("samplers", _PLACE)
assert _SPEC is not None
assert _SPEC.loader is not None
_samplers = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_samplers)
balanced_by_area, balanced_by_presence = _samplers.balanced_by_area, _samplers.balanced_by_presence
stratified = _samplers.stratified


def test_a_class_that_occurs_beside_every_other_does_not_crowd_out_the_others() -> None:
    classes = {f"a{i}": [1, 15] for i in range(100)} | {f"b{i}": [2] for i in range(100)}
    classes |= {f"c{i}": [3, 15] for i in range(100)} | {"empty": []}
    chosen = balanced_by_presence(classes, 40)
    images = Counter(class_id for name in chosen for class_id in classes[name])
    assert len(set(chosen)) == 40
    # Four classes share 40 images: an even count is 10, and none may come above 20.
    assert images[15] == 20
    assert images[1] == images[3] == 10
    assert images[2] == 20


def test_balance_by_presence_says_when_it_runs_out() -> None:
    with pytest.raises(OptionError, match="only 7 of 10 images can be balanced"):
        balanced_by_presence({f"a{i}": [1, 2] for i in range(9)} | {"b": [3]}, 10)


def test_balance_by_area_prefers_what_is_rare() -> None:
    shares = {f"road{i}": np.array([1.0, 0.0, 0.0]) for i in range(90)}
    shares |= {f"sign{i}": np.array([0.8, 0.2, 0.0]) for i in range(10)}
    chosen = balanced_by_area(shares, 15)
    assert sum(name.startswith("sign") for name in chosen) == 10
    assert len(set(chosen)) == 15


def test_strata_give_in_proportion() -> None:
    strata = {f"aachen_{i:02}": "aachen" for i in range(60)} | {f"ulm_{i:02}": "ulm" for i in range(30)}
    chosen = stratified(strata | {"jena_00": "jena"}, 10)
    assert Counter(name.partition("_")[0] for name in chosen) == {"aachen": 7, "ulm": 3}
    assert "aachen_00" in chosen
    assert max(name for name in chosen if "aachen" in name) > "aachen_50"


def test_a_choice_does_not_depend_on_the_order_of_the_images() -> None:
    names = [f"{i:03}" for i in range(50)]
    for choose, of in (
        (balanced_by_area, lambda name: np.array([0.5, int(name) / 100])),
        (balanced_by_presence, lambda name: [int(name) % 5]),
        (stratified, lambda name: name[1]),
    ):
        assert choose({name: of(name) for name in names}, 10) == choose({name: of(name) for name in names[::-1]}, 10)


@pytest.mark.parametrize("choose", [balanced_by_area, balanced_by_presence, stratified])
def test_more_than_there_are_is_refused(choose) -> None:
    with pytest.raises(OptionError, match="3 images cannot be chosen from 1"):
        choose({"a": np.ones(2) if choose is balanced_by_area else "1"}, 3)

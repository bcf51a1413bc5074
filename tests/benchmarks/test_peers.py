from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("peers")


def judged(peers: ModuleType, eager_ms: float, best_ms: float) -> dict[str, object]:
    """The verdict on ours at 10 ms, a dearer peer, and a cheaper one that is faster."""
    made = [
        (peers.OURS, peers.OPENVINO, "int8", 10.0),
        (peers.OURS, peers.ONNX_RUNTIME, "int8", 30.0),
        (peers.BAR_PEER, peers.EAGER, "fp32", eager_ms),
        (peers.BAR_PEER, peers.OPENVINO, "fp16", best_ms),
        ("cheap", peers.OPENVINO, "fp16", 5.0),
    ]
    contenders = [peers.Contender(*named, lambda frames: frames) for *named, _ in made]
    sizes = {peers.OURS: (3.5, 1.0), peers.BAR_PEER: (8.0, 11.0), "cheap": (1.0, 1.0)}
    seconds = np.array([[ms / 1000] * 3 for *_, ms in made])
    return peers.judged(peers.summarised(contenders, sizes, seconds))


def test_the_bar_is_met_only_when_both_halves_are(peers: ModuleType) -> None:
    assert judged(peers, 50, 11)["met"]
    assert not judged(peers, 49, 11)["met"]
    assert not judged(peers, 50, 9)["met"]


def test_our_fastest_int8_engine_is_the_measure(peers: ModuleType) -> None:
    found = judged(peers, 60, 20)
    assert found["times_as_fast_as_eager"] == 6
    assert found["ahead"] == {peers.BAR_PEER: True, "cheap": False}
    assert any("cheap" in sentence and "fewer GMAC" in sentence for sentence in found["words"])

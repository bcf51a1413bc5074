from __future__ import annotations

from pathlib import Path

import pytest

from pspnet_edge import bundled


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("runs/mine/best.pt", "mine"),
        ("runs/mine-2/final.pt", "mine-2"),
        ("runs/mine/last.pt", "mine-last"),
        ("runs/mine/road.pt", "road"),
        ("models/best.onnx", "best"),
    ],
)
def test_checkpoints_of_a_run_are_named_by_its_folder(path: str, name: str) -> None:
    assert bundled.name_of(Path(path)) == name

"""Pictures of four channels, from training to the masks of an engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pspnet_edge.data.datasets import read_mask

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

HEIGHT, WIDTH = 64, 96


def square(root: Path, index: int) -> None:
    """A square that only the fourth channel shows."""
    random = np.random.default_rng(index)
    picture = random.integers(60, 70, (HEIGHT, WIDTH, 4)).astype(np.uint8)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    y, x = random.integers(0, 24, 2)
    mask[y : y + 32, x : x + 40] = 1
    picture[..., 3] = 20 + 200 * mask
    for folder, content in (("images", picture), ("masks", mask)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(root / folder / f"{index}.png"), content)


@pytest.mark.slow
def test_four_channels_reach_the_engine(command_line: Callable, tmp_path: Path) -> None:  # type: ignore[type-arg]
    from pspnet_edge.engine.backends import open_engine

    root = tmp_path / "set"
    for index in range(24):
        square(root, index)
    (root / "classes.txt").write_text("background\nthing\n")
    (root / "train.txt").write_text("".join(f"{index}\n" for index in range(20)))
    (root / "val.txt").write_text("".join(f"{index}\n" for index in range(20, 24)))
    size = f"{HEIGHT}x{WIDTH}"
    model, engine = tmp_path / "a.onnx", tmp_path / "a.engine"
    for arguments in (
        ("train", "--root", root, "--channels", "4", "--epochs", "1", "--batch", "4", "--size", size, "--crop", size,
         "--device", "cpu", "--backbone-weights", "none", "--workers", "0", "-o", tmp_path / "run"),
        ("export", tmp_path / "run" / "last.pt", "--size", size, "-o", model),
        ("calibrate", model, "--root", root, "--images", "8", "-o", tmp_path / "a.calib.json"),
        ("build", model, "--precision", "int8", "--calibration", tmp_path / "a.calib.json", "--runtime", "onnxruntime",
         "--max-drop", "0.9", "--root", root, "-o", engine),
        ("run", engine, "--input", root / "images", "--view", "none", "--save-masks", tmp_path / "masks",
         "--save-overlays", tmp_path / "overlays", "--record", tmp_path / "run.mp4"),
    ):  # fmt: skip
        done = command_line(*arguments)
        assert done.returncode == 0, (arguments[0], done.stderr)
    assert [len(list((tmp_path / name).iterdir())) for name in ("masks", "overlays")] == [24, 24]
    picture = cv2.imread(str(root / "images" / "21.png"), cv2.IMREAD_UNCHANGED)
    with open_engine(engine) as opened:
        mask = opened.infer(picture[None])[0]
    assert np.array_equal(read_mask(tmp_path / "masks" / "21.png", 2), mask)
    assert cv2.imread(str(next((tmp_path / "overlays").iterdir()))).shape == (HEIGHT, WIDTH, 3)

"""Of a folder without lists, every command leaves measuring to the images that training held out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import pspnet_edge
from pspnet_edge.data.datasets import open_dataset
from pspnet_edge.data.held_out import HELD_OUT, hold_out
from pspnet_edge.graph.onnx_file import model_file, write_model
from pspnet_edge.labels import CAMVID

from ..small_model import SIZE_HW, small_model


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten images without lists."""
    folder = tmp_path / "own"
    rng = np.random.default_rng(0)
    for index, letter in enumerate("abcdefghij"):
        for kind, content in (("images", rng.integers(0, 255, (*SIZE_HW, 3))), ("masks", np.full(SIZE_HW, index % 3))):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / kind / f"{letter}.png"), content.astype(np.uint8))
    (folder / "classes.txt").write_text("\n".join(CAMVID.classes))
    return folder


@pytest.fixture
def trained(root: Path, tmp_path: Path) -> Path:
    """A model that was trained on the folder."""
    key = hold_out(open_dataset("folder", root, "all")).key
    return saved(tmp_path / "trained.onnx", {"held_out": key})


def saved(path: Path, facts: dict[str, Any]) -> Path:
    write_model(path, model_file(small_model().proto, "small", CAMVID, facts))
    return path


def test_a_network_is_not_evaluated_on_what_it_was_trained_on(
    command_line: Any, root: Path, trained: Path, tmp_path: Path
) -> None:
    engine = pspnet_edge.build_engine(trained, tmp_path / "a.engine", precision="fp32", runtime="onnxruntime").engine
    for network in (engine, trained):
        found = pspnet_edge.evaluate(network, root=root)
        assert (found.images, found.dataset, found.split) == (2, "folder", HELD_OUT)
    assert pspnet_edge.evaluate(engine, root=root, split="all").images == 10
    done = command_line("evaluate", engine, "--root", root, "--json")
    assert (json.loads(done.stdout)["images"], json.loads(done.stdout)["split"]) == (2, HELD_OUT)
    assert "measured on the 2 images that training held out" in done.stderr


def test_where_that_is_not_known_it_says_that_training_may_have_seen_them(
    command_line: Any, root: Path, tmp_path: Path
) -> None:
    other = saved(tmp_path / "other.onnx", {})
    assert pspnet_edge.evaluate(other, root=root, runtime="onnxruntime").split == "all"
    done = command_line("evaluate", other, "--root", root, "--runtime", "onnxruntime", "--json")
    assert json.loads(done.stdout)["images"] == 10
    assert "measured on all 10 images; on images that the network was trained on it does better" in done.stderr


def test_what_a_network_was_trained_on_travels_to_its_engine_and_is_said(
    command_line: Any, root: Path, tmp_path: Path
) -> None:
    (root / "val.txt").write_text("a\nb\n")
    (root / "test.txt").write_text("c\n")
    model = saved(tmp_path / "both.onnx", {"trained_split": "folder trainval"})
    engine = pspnet_edge.build_engine(model, tmp_path / "a.engine", precision="fp32", runtime="onnxruntime").engine
    for split, seen in (("val", True), ("test", False)):
        assert pspnet_edge.evaluate(engine, root=root, split=split).trained_on is seen
        done = command_line("evaluate", engine, "--root", root, "--split", split, "--json")
        assert json.loads(done.stdout)["trained_on"] is seen
        assert ("the network was trained on split trainval, on whose images" in done.stderr) is seen
    (root / "test.txt").unlink()
    done = command_line("evaluate", engine, "--root", root)
    assert "has no split test: measured on val; the network was trained on split trainval, on whose" in done.stderr


def test_a_benchmark_measures_every_model_on_the_same_unseen_images(root: Path, trained: Path, tmp_path: Path) -> None:
    other = saved(tmp_path / "other.onnx", {})
    measured = pspnet_edge.benchmark(
        [other, trained], tmp_path / "report", precisions=["fp32"], runtimes=["onnxruntime"], root=root,
        rounds=2, seconds=0.05,
    )  # fmt: skip
    assert [row.miou is not None for row in measured.rows] == [True, True]
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert report["options"]["images"] == {"dataset": "folder", "split": HELD_OUT, "folder": "own"}
    counted = [sum(map(sum, row["confusion_matrix"])) for row in report["rows"]]
    assert counted == [2 * SIZE_HW[0] * SIZE_HW[1]] * 2


def test_calibration_leaves_out_what_measures_and_does_not_take_streets_unasked(
    command_line: Any, root: Path, trained: Path, tmp_path: Path
) -> None:
    assert pspnet_edge.calibrate(trained, tmp_path / "a.calib.json", root=root).images == 8
    done = command_line("calibrate", trained, "--root", root, "-o", tmp_path / "b.calib.json", "--json")
    assert json.loads(done.stdout)["images"] == 8
    assert "calibrating on the 8 images that training used" in done.stderr
    with pytest.raises(pspnet_edge.OptionError, match="calibrate needs images: give root"):
        pspnet_edge.calibrate(trained, tmp_path / "c.calib.json")
    assert not (tmp_path / "c.calib.json").exists()

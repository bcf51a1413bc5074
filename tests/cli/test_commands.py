from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pspnet_edge import __version__, bundled
from pspnet_edge.labels import CAMVID


def test_version_and_help(command_line) -> None:
    assert command_line("--version").stdout.strip() == __version__
    text = command_line("--help").stdout
    for name in ("models", "data", "train", "import", "export", "calibrate", "build", "evaluate", "run"):
        assert name in text


def test_models_lists_the_default(command_line) -> None:
    rows = json.loads(command_line("models", "--json").stdout)["models"]
    assert [row["name"] for row in rows if row["default"]] == [bundled.DEFAULT]
    assert Path(rows[0]["card"]).is_file()


def test_build_run_and_evaluate_hand_files_to_each_other(command_line, tmp_path: Path) -> None:
    engine = tmp_path / "int8.engine"
    built = json.loads(command_line("build", "--precision", "int8", "-o", engine, "--json").stdout)
    assert {"engine", "runtime", "precision", "int8_mac_fraction", "calibration_sha256"} <= set(built)
    assert built["precision"] == "int8"
    assert built["int8_mac_fraction"] >= 0.9

    video = tmp_path / "out.mp4"
    done = command_line("run", engine, "--input", "demo", "--frames", 12, "--view", "none", "--record", video, "--json")
    ran = json.loads(done.stdout)
    assert {"frames", "dropped", "fps", "latency_ms", "age_ms", "stages_ms"} <= set(ran)
    assert (ran["frames"], ran["dropped"]) == (12, 0)
    assert int(cv2.VideoCapture(str(video)).get(cv2.CAP_PROP_FRAME_COUNT)) == 12

    scored = json.loads(command_line("evaluate", engine, "--dataset", "scenes", "--json").stdout)
    assert {"miou", "per_class_iou", "pixel_accuracy", "images"} <= set(scored)
    assert set(scored["per_class_iou"]) == set(CAMVID.classes)
    assert scored["images"] == 100
    assert scored["miou"] >= 0.70


@pytest.mark.slow
def test_the_default_engine_reaches_its_bar_on_camvid(command_line, camvid_root: Path) -> None:
    done = command_line("evaluate", "--dataset", "camvid", "--root", camvid_root, "--split", "test", "--json")
    scored = json.loads(done.stdout)
    assert scored["images"] == 233
    assert scored["miou"] >= 0.60
    assert "built" in done.stderr
    assert "using" in command_line("evaluate", "--dataset", "scenes").stderr


@pytest.mark.slow
def test_a_real_drive_keeps_every_frame(command_line, camvid_root: Path, tmp_path: Path) -> None:
    clip = camvid_root.parent / "highway.mp4"
    if not clip.is_file():
        pytest.skip(f"the dash-cam clip is not at {clip}")
    video = tmp_path / "out.mp4"
    ran = json.loads(command_line("run", "--input", clip, "--view", "none", "--record", video, "--json").stdout)
    assert (ran["frames"], ran["dropped"]) == (221, 0)
    original, overlay = cv2.VideoCapture(str(clip)), cv2.VideoCapture(str(video))
    for _ in range(221):
        (_, before), (ok, after) = original.read(), overlay.read()
        assert ok
        assert before.shape == after.shape
        assert np.abs(before.astype(int) - after).mean() > 5
    assert not overlay.read()[0]


@pytest.mark.slow
def test_train_export_calibrate_build_evaluate(command_line, tmp_path: Path) -> None:
    """The whole chain on procedural scenes, with a network too small a while in training to be good."""
    run = tmp_path / "run"
    trained = json.loads(
        command_line(
            "train", "--dataset", "scenes", "--epochs", 1, "--batch", 4, "--crop", "96x96", "-o", run, "--json"
        ).stdout
    )
    assert trained["epochs"] == 1
    assert 0 < trained["miou"] < 1
    model = tmp_path / "model.onnx"
    exported = json.loads(
        command_line("export", trained["checkpoint"], "-o", model, "--size", "96x192", "--json").stdout
    )
    assert exported["input_hw"] == [96, 192]
    table = tmp_path / "model.calib.json"
    calibrated = json.loads(
        command_line("calibrate", model, "--dataset", "scenes", "--images", 8, "-o", table, "--json").stdout
    )
    assert calibrated["images"] == 8
    engine = tmp_path / "model.engine"
    built = json.loads(command_line("build", model, "--precision", "int8", "-o", engine, "--json").stdout)
    assert built["calibration_sha256"] == calibrated["calibration_sha256"]
    scored = json.loads(command_line("evaluate", engine, "--json").stdout)
    assert scored["miou"] == pytest.approx(trained["miou"], abs=0.25)

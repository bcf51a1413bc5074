from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer

from pspnet_edge import __version__, bundled
from pspnet_edge.artifact import sha256_of
from pspnet_edge.cli.main import _compact_help, app
from pspnet_edge.data.datasets import SceneSet
from pspnet_edge.labels import CAMVID


def test_version_and_help(command_line) -> None:
    assert command_line("--version").stdout.strip() == __version__
    text = command_line("--help").stdout
    for name in ("models", "data", "train", "import", "export", "calibrate", "build", "evaluate", "run"):
        assert name in text


def test_help_shows_no_types_of_python(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of flags, of arguments, and of options without a word for their value; at the root as on every other page."""
    monkeypatch.setenv("COLUMNS", "200")
    tree: Any = typer.main.get_command(app)
    _compact_help(tree)
    groups = [((), tree), (("data",), tree.commands["data"])]
    pages = [(), *((*above, name) for above, group in groups for name in group.commands)]
    assert {("run",), ("data",), ("data", "import")} <= set(pages)
    for page in pages:
        tree([*page, "--help"], standalone_mode=False)
        text = capsys.readouterr().out
        assert "Show this message and exit." in text, page
        assert not re.findall(r"<\w+|\b(?:INTEGER|FLOAT|BOOLEAN)\b", text), page


def test_models_lists_the_default(command_line) -> None:
    rows = json.loads(command_line("models", "--json").stdout)["models"]
    assert [row["name"] for row in rows if row["default"]] == [bundled.DEFAULT]
    assert Path(rows[0]["card"]).is_file()


def test_help_breaks_no_line_of_its_own(command_line, monkeypatch: pytest.MonkeyPatch) -> None:
    """rich breaks lines to the terminal and keeps those of a docstring, which then came twice."""
    monkeypatch.setenv("COLUMNS", "400")
    for command, sentence in (
        (("deploy",), "It is then activated, and the service is restarted and watched. If a step fails, the previous"),
        (("data", "import"), "roboflow, supervisely, via, datumaro, darwin, cityscapes, ade20k"),
        (("train",), "pspnet-edge train --resume --epochs 90 -o runs/mine"),
    ):
        assert sentence in command_line(*command, "--help").stdout


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
    assert "built" in done.stderr or "using" in done.stderr  # another test of the session may have built it
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


@pytest.fixture
def own_data(tmp_path: Path) -> Path:
    """A data set of one's own, as docs/datasets.md lays it out."""
    root = tmp_path / "own"
    scenes = SceneSet("train")
    for index in range(10):
        image, mask = scenes[index * 40]
        for folder, content in (("images", image), ("masks", mask)):
            path = root / folder / ("val" if index > 7 else "train") / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), content[::2, ::2])
    (root / "classes.txt").write_text("\n".join(CAMVID.classes))
    return root


@pytest.mark.slow
def test_train_export_calibrate_build_evaluate(command_line, own_data: Path, tmp_path: Path) -> None:
    """The whole chain on a data set of one's own, too small and too short to be good."""
    run = tmp_path / "run"
    data = ("--dataset", "folder", "--root", own_data)

    def pspnet_edge(*arguments: object) -> dict[str, object]:
        done = command_line(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert pspnet_edge("data", "check", "folder", "--root", own_data)["defects"] == []
    trained = pspnet_edge(
        "train", *data, "--epochs", 2, "--batch", 4, "--crop", "96x96", "--size", "192x288", "-o", run, "--init",
        bundled.DEFAULT,
    )  # fmt: skip
    assert trained["epochs"] == 2
    assert 0.2 < trained["miou"] < 1
    model = tmp_path / "model.onnx"
    exported = pspnet_edge("export", trained["checkpoint"], "-o", model)
    assert exported["input_hw"] == [192, 288]
    table = tmp_path / "model.calib.json"
    calibrated = pspnet_edge("calibrate", model, *data, "--images", 8, "-o", table)
    assert calibrated["images"] == 8
    engine = tmp_path / "model.engine"
    built = pspnet_edge("build", model, "--precision", "int8", "--max-drop", 0.2, *data, "-o", engine)
    # The gate has written into the table what it leaves unquantized.
    assert built["calibration_sha256"] in (calibrated["calibration_sha256"], sha256_of(table))
    assert built["accuracy"]["metric"] == "miou"
    scored = pspnet_edge("evaluate", engine, *data, "--split", "val")
    assert scored["miou"] == pytest.approx(trained["miou"], abs=0.2)


def test_a_pack_that_is_not_there_is_all_that_deploy_says(command_line, tmp_path: Path) -> None:
    done = command_line("deploy", tmp_path / "nosuch.pspnet", "--home", tmp_path / "home")
    assert done.returncode == 1
    assert "there is no pack" in done.stderr
    assert "service" not in done.stderr

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pspnet_edge import bundled
from pspnet_edge.data.datasets import SceneSet
from pspnet_edge.data.subset import evenly_spaced
from pspnet_edge.errors import CalibrationError, DataError, OptionError
from pspnet_edge.graph.calibrate import table_from_dataset
from pspnet_edge.graph.calibration_table import CalibrationTable, read_table
from pspnet_edge.graph.onnx_file import ModelFile
from pspnet_edge.graph.quantize import int8_model, quantised_tensors
from pspnet_edge.pixels import PixelFormat

from ..pictures import Pictures
from ..small_model import SIZE_HW, small_model


class Noise:
    """Images of noise, some of them damaged."""

    pixels = PixelFormat()

    def __init__(self, count: int, bad: tuple[int, ...] = (), stop_at: int | None = None, prefix: str = "") -> None:
        self.count, self.bad, self.stop_at, self.prefix = count, bad, stop_at, prefix
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"{self.prefix}{index:03}.png"

    def image(self, index: int) -> np.ndarray:
        if index == self.stop_at:
            raise KeyboardInterrupt
        self.read.append(index)
        if index in self.bad:
            raise DataError(f"{self.name(index)} is cut short")
        return np.random.default_rng(index).integers(0, 256, (*SIZE_HW, 3)).astype(np.uint8)


def calibrated(
    images: Noise, state: Path | None = None, model: ModelFile | None = None, method: str = "percentile"
) -> tuple[CalibrationTable, tuple[str, ...], list[str]]:
    said: list[str] = []
    table, skipped = table_from_dataset(
        model or small_model(), images, dataset="noise", method=method, state=state, save_every_s=0, say=said.append
    )
    assert said.pop().startswith("looking again")
    return table, skipped, said


def killed(state: Path, stop_at: int = 7, **options) -> None:
    with pytest.raises(KeyboardInterrupt):
        calibrated(Noise(20, stop_at=stop_at, **options), state)
    assert state.is_file()


def test_a_table_made_from_images_quantises_the_model(model: ModelFile) -> None:
    seen: list[int] = []
    images = evenly_spaced(SceneSet("train"), 3)
    table, _ = table_from_dataset(model, images, dataset="scenes train", method="percentile", on_image=seen.append)
    assert seen == [1, 2, 3]
    assert table.images == 3
    assert list(table.amax) == quantised_tensors(model.proto)
    # The normalised frame is known exactly: (value - 127) / 128 lies within ±1.
    assert 0.5 < table.amax[quantised_tensors(model.proto)[0]] <= 1.0
    int8_model(model, table)


def test_no_image_is_refused() -> None:
    with pytest.raises(CalibrationError, match="no image"):
        table_from_dataset(small_model(), Noise(0), dataset="nothing")


def test_an_unknown_method_is_refused_before_any_image_is_read() -> None:
    images = Noise(3)
    with pytest.raises(OptionError, match="choose one of minmax"):
        calibrated(images, method="kl")
    assert images.read == []


def test_the_same_images_give_the_same_table() -> None:
    arrays = [Noise(2).image(index) for index in range(2)]
    sets = Pictures(arrays), Pictures(arrays), Pictures(arrays[::-1])
    first, second, reverse = (table_from_dataset(small_model(), images, dataset="x")[0] for images in sets)
    assert first == second
    assert reverse.images_sha256 != first.images_sha256


def test_a_model_for_several_frames_is_calibrated_too() -> None:
    assert calibrated(Noise(3), model=small_model(batch=2))[0].amax == calibrated(Noise(3))[0].amax


def test_a_bad_image_is_named_and_left_out() -> None:
    table, skipped, said = calibrated(Noise(20, bad=(4,)))
    assert (table.images, skipped, said) == (19, ("004.png",), ["left out: 004.png is cut short"])


def test_more_than_5_percent_of_bad_images_stop_the_run(tmp_path: Path) -> None:
    images = Noise(20, bad=(4, 9, 15))
    with pytest.raises(
        DataError, match=r"2 of 20 calibration images cannot be read, more than 5% .* 009\.png"
    ) as caught:
        calibrated(images, tmp_path / "state")
    assert "\n" not in str(caught.value)
    assert images.read[-1] == 9, "it stops as soon as it is known"
    assert not (tmp_path / "state").exists(), "restored images must be read again"


def test_a_killed_run_goes_on_to_the_same_table(tmp_path: Path) -> None:
    state = tmp_path / "t.json.partial"
    killed(state, bad=(2,))
    images = Noise(20, bad=(2,))
    table, skipped, said = calibrated(images, state)
    assert images.read[:13] == list(range(7, 20))
    assert skipped == ("002.png",)
    assert said == [f"resuming from {state}: 7 of 20 images are done"]
    assert table == calibrated(Noise(20, bad=(2,)))[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": small_model(seed=1)}, "another model"),
        ({"method": "minmax"}, "another method"),
        ({"images": Noise(20, prefix="b")}, "another list of images"),
        ({"images": Noise(19)}, "another list of images"),
    ],
)
def test_a_state_kept_for_something_else_is_not_used(tmp_path: Path, change: dict, reason: str) -> None:
    state = tmp_path / "state"
    killed(state)
    images = change.get("images", Noise(20))
    table, _, said = calibrated(images, state, change.get("model"), change.get("method", "percentile"))
    assert said == [f"starting again, because {state} was kept for {reason}"]
    assert table.images == len(images)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"junk" * 50])
def test_a_damaged_state_is_not_used(tmp_path: Path, damage) -> None:
    state = tmp_path / "state"
    killed(state)
    state.write_bytes(damage(state.read_bytes()))
    table, _, said = calibrated(Noise(20), state)
    assert len(said) == 1
    assert said[0].startswith(f"starting again, because {state} is damaged")
    assert table.images == 20


def test_activations_that_are_not_finite_are_refused() -> None:
    model = small_model()
    weights = numpy_helper.to_array(model.proto.graph.initializer[0]).copy()
    weights[0] = np.nan
    model.proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w0"))
    with pytest.raises(CalibrationError, match="NaN or infinite"):
        calibrated(Noise(1), model=model)


def test_a_killed_command_leaves_its_state_and_no_table(tmp_path: Path) -> None:
    path, table, state = tmp_path / "small.onnx", tmp_path / "t.json", tmp_path / "t.json.partial"
    onnx.save(small_model().proto, path)
    command = [sys.executable, "-m", "pspnet_edge", "calibrate", path, "--dataset", "scenes", "-o", table]
    command = [str(part) for part in command]
    # Drawing 2000 scenes takes minutes, so it is still at work when the first state appears.
    process = subprocess.Popen([*command, "--images", "2000"], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not state.is_file() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.wait()
    assert state.is_file()
    assert not table.exists()
    done = subprocess.run([*command, "--images", "2"], capture_output=True, text=True, check=True)
    assert "starting again, because" in done.stderr
    assert read_table(table).images == 2
    assert not state.exists()


def test_the_bundled_table_was_made_from_camvids_training_images() -> None:
    assert read_table(bundled.table_path(bundled.DEFAULT)).dataset == "camvid train"

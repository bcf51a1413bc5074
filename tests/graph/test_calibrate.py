from __future__ import annotations

import numpy as np
import pytest

from pspnet_edge import bundled
from pspnet_edge.data.datasets import SceneSet
from pspnet_edge.errors import CalibrationError
from pspnet_edge.graph.calibrate import table_from_images
from pspnet_edge.graph.calibration_table import read_table
from pspnet_edge.graph.onnx_file import ModelFile
from pspnet_edge.graph.quantize import int8_model, quantised_tensors


def test_a_table_made_from_images_quantises_the_model(model: ModelFile) -> None:
    seen: list[int] = []
    images = (SceneSet("train")[index][0] for index in range(3))
    table = table_from_images(model, images, dataset="scenes train", method="percentile", on_image=seen.append)
    assert seen == [1, 2, 3]
    assert table.images == 3
    assert list(table.amax) == quantised_tensors(model.graph)
    # The normalised frame is known exactly: (value - 127) / 128 lies within ±1.
    assert 0.5 < table.amax[quantised_tensors(model.graph)[0]] <= 1.0
    int8_model(model, table)


def test_no_image_is_refused(model: ModelFile) -> None:
    with pytest.raises(CalibrationError, match="no image"):
        table_from_images(model, iter(()), dataset="nothing")


def test_the_same_images_give_the_same_table(model: ModelFile) -> None:
    image = SceneSet("train")[5][0]
    first, second = (table_from_images(model, [image], dataset="x", method="mse") for _ in range(2))
    assert first == second
    other = table_from_images(model, [np.ascontiguousarray(image[:, ::-1])], dataset="x", method="mse")
    assert other.images_sha256 != first.images_sha256


def test_the_bundled_table_was_made_from_camvids_training_images() -> None:
    assert read_table(bundled.table_path(bundled.DEFAULT)).dataset == "camvid train"

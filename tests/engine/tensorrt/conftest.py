"""The bundled model, as it is and with its pairs for INT8."""

from __future__ import annotations

import pytest

from pspnet_edge import bundled
from pspnet_edge.graph.calibration_table import read_table
from pspnet_edge.graph.onnx_file import ModelFile, read_model
from pspnet_edge.graph.quantize import int8_model


@pytest.fixture(scope="module")
def fp32() -> ModelFile:
    return read_model(bundled.onnx_path(bundled.DEFAULT))


@pytest.fixture(scope="module")
def int8(fp32: ModelFile) -> ModelFile:
    return int8_model(fp32, read_table(bundled.table_path(bundled.DEFAULT)))

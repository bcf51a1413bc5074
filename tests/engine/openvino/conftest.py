from __future__ import annotations

import pytest

from pspnet_edge import bundled
from pspnet_edge.graph.calibration_table import CalibrationTable, read_table
from pspnet_edge.graph.onnx_file import ModelFile, read_model


@pytest.fixture(scope="session")
def model() -> ModelFile:
    return read_model(bundled.onnx_path(bundled.DEFAULT))


@pytest.fixture(scope="session")
def table() -> CalibrationTable:
    return read_table(bundled.table_path(bundled.DEFAULT))

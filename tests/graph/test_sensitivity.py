from __future__ import annotations

from dataclasses import replace

import pytest

from pspnet_edge.data.datasets import SceneSet
from pspnet_edge.data.subset import evenly_spaced
from pspnet_edge.errors import BuildError, OptionError
from pspnet_edge.graph.calibration_table import CalibrationTable
from pspnet_edge.graph.onnx_file import ModelFile
from pspnet_edge.graph.quantize import quantised_convolutions
from pspnet_edge.graph.sensitivity import gated_int8_model, layer_costs

from ..pictures import Pictures


@pytest.fixture(scope="module")
def scenes():
    return evenly_spaced(SceneSet("val"), 3)


def spoilt(table: CalibrationTable, *tensors: str) -> CalibrationTable:
    """A table in which some tensors clip nearly everything."""
    return replace(table, amax=table.amax | {tensor: table.amax[tensor] / 200 for tensor in tensors})


def inputs_of(model: ModelFile, *positions: int) -> list[str]:
    nodes = quantised_convolutions(model.proto)
    return [nodes[position].input[0] for position in positions]


def test_a_good_table_leaves_every_layer_in_int8(model: ModelFile, table: CalibrationTable, scenes) -> None:
    graph, measured = gated_int8_model(model, table, scenes, 0.05)
    assert measured.metric == "miou"
    assert measured.left_in_float == ()
    assert measured.drop == measured.drop_before <= 0.05
    assert measured.int8_mac_fraction > 0.99
    assert graph.label_set == model.label_set


@pytest.mark.slow
def test_spoilt_layers_are_found_and_left_out(model: ModelFile, table: CalibrationTable, scenes) -> None:
    last = len(quantised_convolutions(model.proto)) - 1
    tensors = inputs_of(model, 10, last)
    bad = spoilt(table, *tensors)
    graph, measured = gated_int8_model(model, bad, scenes, 0.05)
    assert measured.drop_before > 0.05
    assert measured.drop <= 0.05
    left = {cost.layer for cost in measured.left_in_float}
    expected = {node.name for node in quantised_convolutions(model.proto) if node.input[0] in tensors}
    assert quantised_convolutions(model.proto)[last].name in left
    assert left <= expected
    assert 0.5 <= measured.int8_mac_fraction < 0.99
    assert not {f"{name}.weight.dq" for name in left} & {node.output[0] for node in graph.proto.graph.node}


@pytest.mark.slow
def test_without_labels_it_holds_masks_against_fp32(model: ModelFile, table: CalibrationTable, scenes) -> None:
    images = Pictures([scenes.image(index) for index in range(len(scenes))])
    _, measured = gated_int8_model(model, table, images, 0.1)
    assert measured.metric == "agreement"
    assert measured.fp32 == 1
    assert 0 < measured.drop < 0.1


@pytest.mark.slow
def test_what_cannot_be_met_is_refused(model: ModelFile, table: CalibrationTable, scenes) -> None:
    everything = spoilt(table, *table.amax)
    with pytest.raises(BuildError, match=r"loses more than 0\.001"):
        gated_int8_model(model, everything, scenes, 0.001)


@pytest.mark.slow
def test_costs_are_ranked(model: ModelFile, table: CalibrationTable, scenes) -> None:
    tensor = inputs_of(model, 20)[0]
    costs = layer_costs(model, spoilt(table, tensor), [scenes[0][0]])
    assert costs[0].layer == quantised_convolutions(model.proto)[20].name
    assert [cost.disagreement for cost in costs] == sorted((cost.disagreement for cost in costs), reverse=True)
    assert sum(cost.mac_fraction for cost in costs) == pytest.approx(0.997, abs=0.005)


@pytest.mark.parametrize("limit", [-0.1, 1.0, 3])
def test_a_limit_that_is_no_fraction_is_refused(model, table, scenes, limit: float) -> None:
    with pytest.raises(OptionError, match="is not a fraction"):
        gated_int8_model(model, table, scenes, limit)

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from pspnet_edge.graph import export  # noqa: E402
from pspnet_edge.graph.export import model_from_network  # noqa: E402
from pspnet_edge.graph.fold import fold_projections  # noqa: E402
from pspnet_edge.graph.onnx_file import ModelFile  # noqa: E402
from pspnet_edge.graph.quantize import convolution_macs  # noqa: E402
from pspnet_edge.graph.tail import without_tail  # noqa: E402
from pspnet_edge.labels import CAMVID  # noqa: E402
from pspnet_edge.model.pspnet import PSPNet  # noqa: E402
from pspnet_edge.model.quantiser import Quantiser  # noqa: E402


def macs(model: ModelFile) -> int:
    return sum(convolution_macs(model.proto).values())


def logits(model: ModelFile, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(without_tail(model)[0].proto.SerializeToString())
    return session.run(None, {"frames": frames})[0]


def as_it_is(graph: onnx.ModelProto) -> onnx.ModelProto:
    return graph


@pytest.mark.parametrize(
    ("preset", "changes", "size_hw", "batch"),
    [
        ("pspnet_lite0", {}, (96, 192), 1),
        ("pspnet_lite0", {}, (101, 203), 2),
        ("pspnet_lite1", {"bins": (1, 2, 4)}, (128, 192), 1),
        ("pspnet_lite0", {"context": "global"}, (96, 192), 1),
    ],
)
def test_the_last_projection_of_a_light_network_is_folded(
    preset: str,
    changes: dict[str, object],
    size_hw: tuple[int, int],
    batch: int,
    randomise_norms: Callable[[torch.nn.Module], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    network = PSPNet(preset, 11, changes).eval()
    randomise_norms(network)
    model = model_from_network(network, CAMVID, {}, size_hw=size_hw, batch=batch)
    monkeypatch.setattr(export, "fold_projections", as_it_is)
    plain = model_from_network(network, CAMVID, {}, size_hw=size_hw, batch=batch)
    assert macs(model) < macs(plain)
    frames = np.random.default_rng(0).integers(0, 256, (batch, *size_hw, 3)).astype(np.uint8)
    expected = logits(plain, frames)
    np.testing.assert_allclose(logits(model, frames), expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("preset", ["pspnet_mobilenetv3", "pspnet_r18", "pspnet_r50", "pspnet_vgg16"])
def test_other_networks_have_nothing_to_fold(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def watched(graph: onnx.ModelProto) -> onnx.ModelProto:
        seen.append(fold_projections(graph) is graph)
        return graph

    monkeypatch.setattr(export, "fold_projections", watched)
    model_from_network(PSPNet(preset, 11).eval(), CAMVID, {}, size_hw=(96, 96))
    assert seen == [True]


def test_after_training_for_int8_the_graph_is_the_one_that_was_trained() -> None:
    network = PSPNet("pspnet_lite0", 11).eval()
    folded = model_from_network(network, CAMVID, {}, size_hw=(96, 96))
    network.quantiser = Quantiser([1.0])
    assert macs(model_from_network(network, CAMVID, {}, size_hw=(96, 96))) > macs(folded)


def two_in_a_row(between: str, narrow: int = 4, **attributes: object) -> onnx.ModelProto:
    """Two 1×1 convolutions, 8 → ``narrow`` → 4 channels, and one operation between them."""
    rng = np.random.default_rng(0)
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "first"], ["projected"], "conv_0"),
        node(between, ["projected"], ["between"], "between", **attributes),
        node("Conv", ["between", "second"], ["y"], "conv_1"),
    ]
    weights = {"first": rng.normal(size=(narrow, 8, 1, 1)), "second": rng.normal(size=(4, narrow, 1, 1))}
    graph = helper.make_graph(
        nodes,
        "two_in_a_row",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 8, 12, 12))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def test_what_stands_between_may_take_means_alone() -> None:
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    model = two_in_a_row("AveragePool", **pool)
    folded = fold_projections(model)
    assert [one.op_type for one in folded.graph.node] == ["AveragePool", "Conv"]
    x = np.random.default_rng(1).normal(size=(1, 8, 12, 12)).astype(np.float32)
    made, expected = (
        onnxruntime.InferenceSession(one.SerializeToString()).run(None, {"x": x})[0] for one in (folded, model)
    )
    np.testing.assert_allclose(made, expected, atol=1e-5)
    for kind, attributes in [("Relu", {}), ("AveragePool", {**pool, "pads": [1, 1, 1, 1]}), ("MaxPool", pool)]:
        model = two_in_a_row(kind, **attributes)
        assert fold_projections(model) is model


def test_a_bottleneck_that_saves_stays() -> None:
    model = two_in_a_row("AveragePool", narrow=1, kernel_shape=[1, 1])
    assert fold_projections(model) is model

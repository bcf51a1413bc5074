from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pspnet_edge import bundled
from pspnet_edge.errors import ModelError, OptionError
from pspnet_edge.estimate.boards import BOARDS
from pspnet_edge.estimate.kernels import fused_kernels
from pspnet_edge.estimate.predict import estimate
from pspnet_edge.estimate.roofline import FITTED, Constants, layer_times
from pspnet_edge.graph.onnx_file import read_model
from pspnet_edge.graph.quantize import convolution_macs

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "estimate.json"
MODEL = bundled.onnx_path(bundled.DEFAULT)


def graph_of(
    *nodes: onnx.NodeProto, weights: dict[str, tuple[int, ...]], size: object = 64, out: str = "y"
) -> onnx.ModelProto:
    """A graph from float ``x [1, 64, size, size]`` to ``out``, with random weights."""
    rng = np.random.default_rng(0)
    constants = [numpy_helper.from_array(rng.random(shape).astype(np.float32), name) for name, shape in weights.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 64, size, size))
    y = helper.make_tensor_value_info(out, TensorProto.FLOAT, None)
    return helper.make_model(
        helper.make_graph(nodes, "graph", [x], [y], constants),
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 17)],
    )


def conv(name: str, source: str, weights: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node("Conv", [source, weights], [name], name, **{"pads": [1, 1, 1, 1], **attributes})


def operations(graph: onnx.ModelProto) -> list[str]:
    return [kernel.operation for kernel in fused_kernels(graph, int8=False) if kernel.operation != "reformat"]


DENSE = {"w": (64, 64, 3, 3)}


def test_normalisation_activation_and_a_residual_join_the_convolution() -> None:
    norm = ("scale", "bias", "mean", "variance")
    graph = graph_of(
        conv("a", "x", "w"),
        helper.make_node("BatchNormalization", ["a", *norm], ["b"], "b"),
        helper.make_node("Relu", ["b"], ["c"], "c"),
        conv("d", "c", "w"),
        helper.make_node("Add", ["d", "x"], ["e"], "e"),
        helper.make_node("Relu", ["e"], ["y"], "y"),
        weights=DENSE | dict.fromkeys(norm, (64,)),
    )
    first, second = (kernel for kernel in fused_kernels(graph, int8=False) if kernel.operation == "conv")
    assert operations(graph) == ["conv", "conv"]
    assert (len(first.reads), len(second.reads)) == (1, 2)  # the second reads the identity too
    assert first.macs == 64 * 64 * 64 * 64 * 9


def test_an_activation_of_which_the_input_is_needed_again_is_a_kernel_of_its_own() -> None:
    silu = (helper.make_node("Sigmoid", ["a"], ["s"], "s"), helper.make_node("Mul", ["a", "s"], ["y"], "y"))
    graph = graph_of(conv("a", "x", "w"), *silu, weights=DENSE)
    assert operations(graph) == ["conv", "pointwise"]
    pointwise = next(kernel for kernel in fused_kernels(graph, int8=False) if kernel.operation == "pointwise")
    assert len(pointwise.reads) == 1  # the product reads the convolution's output once, not twice


def test_concat_launches_nothing_and_pooling_does() -> None:
    graph = graph_of(
        conv("a", "x", "w"),
        helper.make_node("MaxPool", ["x"], ["p"], "p", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Concat", ["a", "p"], ["y"], "y", axis=1),
        weights=DENSE,
    )
    assert operations(graph) == ["conv", "maxpool"]


def test_a_depthwise_convolution_is_told_from_a_grouped_one() -> None:
    depthwise = conv("a", "x", "w1", group=64)
    graph = graph_of(depthwise, conv("y", "a", "w2", group=4), weights={"w1": (64, 1, 3, 3), "w2": (64, 16, 3, 3)})
    assert operations(graph) == ["depthwise", "conv"]
    assert [kernel.macs for kernel in fused_kernels(graph, int8=False)[1:3]] == [4096 * 64 * 9, 4096 * 64 * 16 * 9]


def test_transposed_convolutions_and_products_are_counted() -> None:
    up = helper.make_node(
        "ConvTranspose", ["x", "w1"], ["a"], "a", kernel_shape=[4, 4], strides=[2, 2], pads=[1, 1, 1, 1]
    )
    product = helper.make_node("MatMul", ["a", "w2"], ["y"], "y")
    graph = graph_of(up, product, weights={"w1": (64, 8, 4, 4), "w2": (128, 10)})
    macs = {kernel.operation: kernel.macs for kernel in fused_kernels(graph, int8=False)}
    assert macs["conv"] == 64 * 64 * 64 * 8 * 16
    assert macs["matmul"] == 8 * 128 * 128 * 10


def test_the_macs_of_the_bundled_model_are_those_of_its_convolutions() -> None:
    graph = read_model(MODEL).proto
    inferred = onnx.shape_inference.infer_shapes(graph)
    assert sum(kernel.macs for kernel in fused_kernels(graph, int8=False)) == sum(convolution_macs(inferred).values())


def test_quantised_pairs_decide_what_is_int8() -> None:
    def pair(name: str, source: str) -> list[onnx.NodeProto]:
        quantised = helper.make_node("QuantizeLinear", [source, "s", "z"], [f"{name}.q"], f"{name}.q")
        return [quantised, helper.make_node("DequantizeLinear", [f"{name}.q", "s", "z"], [name], name)]

    nodes = [*pair("xd", "x"), *pair("wd", "w"), conv("a", "xd", "wd"), conv("b", "a", "w"), conv("y", "b", "w")]
    graph = graph_of(*nodes, weights=DENSE)
    graph.graph.initializer.append(numpy_helper.from_array(np.array(0.1, np.float32), "s"))
    graph.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), "z"))
    by_name = {kernel.name: kernel for kernel in fused_kernels(graph, int8=True)}
    assert [by_name[name].int8 for name in "aby"] == [True, False, False]
    assert by_name["a"].reads[0].kind == "int8"
    assert not any(kernel.int8 for kernel in fused_kernels(graph, int8=False))
    bare = graph_of(conv("a", "x", "w"), conv("b", "a", "w"), conv("y", "b", "w"), weights=DENSE)
    assert [k.int8 for k in fused_kernels(bare, int8=True) if k.operation == "conv"] == [True, True, False]


def test_the_roofline_is_what_one_computes_by_hand() -> None:
    graph = graph_of(conv("y", "x", "w"), weights=DENSE, size=256)
    constants = Constants(cuda=0.5, tensor=0.5, bandwidth=0.5, launch_us=10)
    before, layer, after = layer_times(fused_kernels(graph, int8=False), BOARDS["orin-nano"], "fp16", constants)
    # 32 tensor cores × 256 multiply-accumulates × 625 MHz, half of it reached, 1024 tiles on 8 multiprocessors.
    assert layer.compute_s == pytest.approx(256 * 256 * 64 * 64 * 9 / (32 * 256 * 625e6 * 0.5))
    assert layer.memory_s == 0
    assert layer.overhead_s == pytest.approx(10e-6)
    assert layer.megabytes == pytest.approx((2 * 256 * 256 * 64 * 2 + 64 * 64 * 9 * 2) / 1e6)
    for end in (before, after):  # from FP32 outside to FP16 inside, and back
        assert end.memory_s == pytest.approx(256 * 256 * 64 * (4 + 2) / (68e9 * 0.5))
    (alone,) = layer_times(fused_kernels(graph, int8=False), BOARDS["nano"], "fp32", constants)
    assert alone.compute_s == pytest.approx(256 * 256 * 64 * 64 * 9 / 2.25 / (128 * 921.6e6 * 0.5))


@pytest.mark.parametrize(
    ("board", "bits", "published_tops"),
    [("agx-xavier", 16, 11), ("agx-xavier", 8, 22), ("orin-nano", 8, 20), ("agx-orin", 8, 85), ("thor", 8, 517)],
)
def test_peaks_are_those_of_the_data_sheets(board: str, bits: int, published_tops: float) -> None:
    assert 2 * BOARDS[board].tensor_macs_per_s(bits) / 1e12 == pytest.approx(published_tops, rel=0.05)


@pytest.mark.parametrize("board", BOARDS)
def test_every_board_gives_a_coherent_estimate(board: str) -> None:
    precisions = ("fp32", "fp16", "int8") if BOARDS[board].has_int8 else ("fp32", "fp16")
    found = [estimate(MODEL, precision, board) for precision in precisions]
    for one in found:
        assert one.fps == pytest.approx(1000 / one.latency_ms)
        assert sum(one.bound_by.values()) == pytest.approx(1)
        assert one.latency_ms == pytest.approx(1000 * sum(layer.seconds for layer in one.layers))
        facts = json.loads(json.dumps(one.facts()))
        assert facts["estimate"] is True
        assert facts["power_mode"]
    assert [one.latency_ms for one in found] == sorted((one.latency_ms for one in found), reverse=True)


def test_a_larger_board_is_faster() -> None:
    order = ("nano", "orin-nano-4gb", "orin-nano", "orin-nano-super", "agx-orin-32gb", "agx-orin")
    found = [estimate(MODEL, "fp16", board).fps for board in order]
    assert found == sorted(found)


def test_what_cannot_be_estimated_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="choose one of nano, "):
        estimate(MODEL, "fp16", "jetson")
    with pytest.raises(OptionError, match="unknown precision"):
        estimate(MODEL, "fp8", "thor")
    with pytest.raises(OptionError, match="estimate fp16"):
        estimate(MODEL, "int8", "nano")
    with pytest.raises(ModelError, match="no model"):
        estimate(tmp_path / "none.onnx", "fp16", "thor")
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"\xff\xff no graph")
    with pytest.raises(ModelError, match="not an ONNX file"):
        estimate(bad, "fp16", "thor")
    bad.write_bytes(graph_of(conv("y", "x", "w"), weights=DENSE, size="height").SerializeToString())
    with pytest.raises(ModelError, match="dynamic shape"):
        estimate(bad, "fp16", "thor")


def test_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pspnet_edge.estimate.predict import estimate\n"
        "from pathlib import Path\n"
        f"assert estimate(Path({str(MODEL)!r}), 'int8', 'orin-nano').fps > 0"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_published_error_is_that_of_these_constants_and_within_what_is_promised() -> None:
    facts = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert facts["constants"] == asdict(FITTED), "run `python benchmarks/estimate.py`"
    factors = [max(row["ratio"], 1 / row["ratio"]) for row in facts["rows"]]
    assert len(factors) >= 40
    assert facts["fit"]["median_factor"] == pytest.approx(np.median(factors), abs=1e-3)
    for kind in ("fit", "device_left_out", "source_left_out"):
        assert facts[kind]["share_within_allowed"] >= 0.75

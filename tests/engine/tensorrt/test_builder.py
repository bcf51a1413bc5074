"""The builder with the real TensorRT-RTX, which builds without a GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pspnet_edge import bundled
from pspnet_edge.engine.backends import read_info
from pspnet_edge.engine.build import build_engine, prepare_model
from pspnet_edge.engine.tensorrt.builder import BuildOptions, build_plan
from pspnet_edge.engine.tensorrt.layers import convolution_precisions
from pspnet_edge.engine.tensorrt.log import Log, Phases
from pspnet_edge.engine.tensorrt.plan_file import read_header
from pspnet_edge.errors import BuildError, EngineError, OptionError
from pspnet_edge.graph.calibration_table import CalibrationTable, weights_fingerprint
from pspnet_edge.graph.onnx_file import ModelFile, read_model
from pspnet_edge.graph.quantize import int8_model, quantised_convolutions, quantised_tensors

trt = pytest.importorskip("tensorrt_rtx", reason="pip install 'pspnet-edge[tensorrt-rtx]' to build with the real one")


def test_int8_convolutions_are_exactly_where_they_were_placed(tmp_path: Path) -> None:
    path, heard = tmp_path / "e.engine", []
    facts = build_engine(
        prepare_model(None), "int8", "tensorrt-rtx", path, report=lambda done, note: heard.append(done)
    )
    graph = read_model(bundled.onnx_path(bundled.DEFAULT)).proto
    placed = {node.name for node in quantised_convolutions(graph)}
    precisions = facts["precision_by_convolution"]
    assert {name for name, kind in precisions.items() if kind == "int8"} == placed
    assert len(precisions) == len(placed) + 1
    assert facts["int8_convolutions"] == {"placed": len(placed), "built": len(placed), "not_named": 0}
    assert heard == sorted(heard)
    assert heard[-1] > 50
    header = read_header(path)
    assert header is not None
    assert header.version == tuple(int(part) for part in trt.__version__.split("."))
    assert header.length == path.stat().st_size
    assert read_info(path).runtime == "tensorrt-rtx"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_floating_point_builds(precision: str, fp32: ModelFile, tmp_path: Path) -> None:
    options = BuildOptions(compute_capability="8.6")
    facts = build_plan("tensorrt-rtx", fp32, precision, options, cache=tmp_path).facts
    found = Counter(facts["precision_by_convolution"].values())
    assert set(found) == {precision}
    assert facts["tensorrt"]["compute_capability"] == "8.6"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_every_preset_builds(precision: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="exporting needs torch")
    from pspnet_edge.graph.export import model_from_network
    from pspnet_edge.labels import CAMVID
    from pspnet_edge.model.pspnet import PRESETS, PSPNet

    for preset in PRESETS:
        torch.manual_seed(0)
        network = PSPNet(preset, len(CAMVID)).eval()
        model = model_from_network(network, CAMVID, {}, size_hw=(192, 192))
        placed = 0
        if precision == "int8":
            placed = len(quantised_convolutions(model.proto))
            ranges = dict.fromkeys(quantised_tensors(model.proto), 4.0)
            table = CalibrationTable(weights_fingerprint(model.proto), "none", "none", 1, "none", ranges)
            model = int8_model(model, table)
        facts = build_plan("tensorrt-rtx", model, precision, BuildOptions(), cache=tmp_path).facts
        counted = facts["int8_convolutions"]  # in FP16 the dump leaves out some names of fused layers
        assert (counted["placed"], counted["built"]) == (placed, placed), preset


@pytest.mark.parametrize(
    ("precision", "dtype"), [pytest.param("fp16", "float16", marks=pytest.mark.slow), ("int8", "int8")]
)
def test_a_network_without_head_and_tail_builds(
    precision: str, dtype: str, fp32: ModelFile, int8: ModelFile, tmp_path: Path
) -> None:
    options = BuildOptions(head="kernel", tail="kernel", compute_capability="8.6")
    facts = build_plan("tensorrt-rtx", int8 if precision == "int8" else fp32, precision, options, cache=tmp_path).facts
    assert facts["head"]["dtype"] == dtype
    assert facts["tail"]["dtype"] == "float16"
    counted = facts["int8_convolutions"]
    assert counted["placed"] == counted["built"] == (57 if precision == "int8" else 0)


def asymmetric(graph: onnx.ModelProto) -> None:
    for tensor in graph.graph.initializer:
        if tensor.name == "div_0.zero_point":
            tensor.CopyFrom(numpy_helper.from_array(np.array(5, np.int8), tensor.name))


def zero_scale(graph: onnx.ModelProto) -> None:
    for tensor in graph.graph.initializer:
        if tensor.name == "div_0.scale":
            tensor.CopyFrom(numpy_helper.from_array(np.array(0, np.float32), tensor.name))


def antialiased(graph: onnx.ModelProto) -> None:
    graph.opset_import[0].version = 18
    resize = next(node for node in graph.graph.node if node.op_type == "Resize")
    resize.attribute.append(onnx.helper.make_attribute("antialias", 1))


def unknown(graph: onnx.ModelProto) -> None:
    next(node for node in graph.graph.node if node.op_type == "Relu").op_type = "Abacus"


@pytest.mark.parametrize(
    ("damage", "node", "fix"),
    [
        (asymmetric, "div_0.q .QuantizeLinear.", "only symmetric int8"),
        (zero_scale, "div_0.q .QuantizeLinear.", "calibrate again with `pspnet-edge calibrate`"),
        (antialiased, "resize_0 .Resize.", "export without it"),
        (unknown, "relu_0 .Abacus.", "this version lacks that operator"),
    ],
)
def test_what_the_parser_refuses_names_the_node_and_a_fix(
    damage: Callable[[onnx.ModelProto], None], node: str, fix: str, int8: ModelFile, tmp_path: Path
) -> None:
    graph = onnx.ModelProto()
    graph.CopyFrom(int8.proto)
    damage(graph)
    damaged = ModelFile(graph, int8.preset, int8.label_set)
    with pytest.raises(BuildError, match=f"refuses node {node}.*{fix}") as caught:
        build_plan("tensorrt-rtx", damaged, "fp32", BuildOptions(), cache=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (BuildOptions(dla_core=0), "does not support DLA"),
        (BuildOptions(version_compatible=True), "leave --version-compatible"),
        (BuildOptions(hardware_compatible=True), "leave --version-compatible and --hardware-compatible out"),
        (BuildOptions(compute_capability="3.5"), "choose one of 7.5, 8.0"),
    ],
)
def test_options_that_rtx_lacks_are_refused(
    options: BuildOptions, message: str, fp32: ModelFile, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=message):
        build_plan("tensorrt-rtx", fp32, "fp32", options, cache=tmp_path)


def test_a_half_of_scales_never_becomes_zero_nor_clips(int8: ModelFile) -> None:
    from pspnet_edge.engine.tensorrt.graphs import int8_fp16_model

    exact = {tensor.name: numpy_helper.to_array(tensor) for tensor in int8.proto.graph.initializer}
    graph = int8_fp16_model(int8).proto
    scales = [tensor for tensor in graph.graph.initializer if tensor.name.endswith(".scale")]
    assert len(scales) > 100
    for tensor in scales:
        values = numpy_helper.to_array(tensor)
        assert values.dtype == np.float16
        assert values.shape == exact[tensor.name].shape
        assert (values.astype(np.float64) >= exact[tensor.name]).all()
        assert (values > 0).all()


def test_layers_are_read_from_the_dump_of_either_family() -> None:
    lines = [
        "Name: a, LayerType: correlation, Inputs: [ { Name: x, Dimensions: [1,4], Datatype: Int8, Format: (NHWC) }], "
        "Constants: [ { Name: w, Datatype: Float }], Outputs: [], Metadata: [ONNX Layer: conv_0][ONNX Layer: x.dq]",
        "Name: b, LayerType: CaskConvolution, Inputs: [ { Name: Int8, Dimensions: [1], Format/Datatype: Thirty-two "
        "wide channel vectorized row major Half format }], Outputs: [], Metadata: [ONNX Layer: conv_1]",
        "Name: c, LayerType: kgen, Inputs: [ { Name: x, Datatype: Int8 }], Outputs: [], Metadata: [ONNX Layer: conv_2]",
        "nonsense",
    ]
    assert convolution_precisions(lines, ["conv_0", "conv_1", "conv_2"]) == {"conv_0": "int8", "conv_1": "fp16"}


def test_progress_is_read_from_the_log_where_there_is_no_monitor() -> None:
    heard: list[tuple[int, str]] = []
    log = Log(lambda done, note: heard.append((done, note)))
    log.layers_in_all = 4
    log.add("VERBOSE", "--------------- Timing Runner: conv_0 + clip_0 (CaskConvolution[0x80000009])")
    log.add("VERBOSE", "--------------- Timing Runner: conv_1 (CaskConvolution[0x80000009])")
    log.add("VERBOSE", "nothing of interest")
    assert heard == [(50, "conv_0"), (75, "conv_1")]


def test_nested_phases_give_one_share() -> None:
    phases = Phases()
    phases.start("build", None, 4)
    phases.step("build", 0)
    phases.start("tactics", "build", 10)
    phases.step("tactics", 4)
    assert phases.share() == 0.25 + 0.5 / 4
    # An inner phase ends before its step of the outer one is counted: the share does not go back meanwhile.
    phases.finish("tactics")
    assert phases.share() == 0.25 + 0.5 / 4


def test_a_plan_without_a_gpu_says_so(tmp_path: Path) -> None:
    from pspnet_edge.engine.backends import open_engine
    from pspnet_edge.engine.tensorrt.gpu import find_gpu

    if find_gpu() is not None:
        pytest.skip("there is a GPU here")
    path = tmp_path / "e.engine"
    build_engine(prepare_model(None), "fp16", "tensorrt-rtx", path)
    with pytest.raises(EngineError, match="runs on an NVIDIA GPU and there is none here"):
        open_engine(path)

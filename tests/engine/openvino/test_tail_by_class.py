from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pspnet_edge import bundled
from pspnet_edge.data.datasets import SceneSet
from pspnet_edge.data.geometry import frame_at
from pspnet_edge.engine.build import build_engine, prepare_model
from pspnet_edge.engine.openvino.tail import tail_by_class
from pspnet_edge.graph.onnx_file import ModelFile, read_model
from pspnet_edge.graph.precision import fp16_model


def small(
    batch: int, classes: int, logits_hw: tuple[int, int], factors: tuple[int, int], transform: str = "half_pixel"
) -> ModelFile:
    """One convolution that strides over the frames, with whole weights, and the tail that upsamples what it gives."""
    spare = factors if transform == "align_corners" else (1, 1)
    height, width = (size * factor - less + 1 for size, factor, less in zip(logits_hw, factors, spare, strict=True))
    weights = np.random.default_rng(classes).integers(-4, 5, (classes, 3, 1, 1)).astype(np.float32)
    node = helper.make_node
    nodes = [
        node("Cast", ["frames"], ["float"], "cast_0", to=TensorProto.FLOAT),
        node("Transpose", ["float"], ["planes"], "transpose_0", perm=(0, 3, 1, 2)),
        node("Conv", ["planes", "weights"], ["logits"], "conv_0", strides=factors),
        node("Resize", ["logits", "", "", "size"], ["full"], "resize_0", mode="linear",
             coordinate_transformation_mode=transform),
        node("ArgMax", ["full"], ["classes"], "argmax_0", axis=1, keepdims=0),
        node("Cast", ["classes"], ["masks"], "cast_1", to=TensorProto.UINT8),
    ]  # fmt: skip
    size = np.array([batch, classes, height, width])
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, (batch, height, width, 3))],
        [helper.make_tensor_value_info("masks", TensorProto.UINT8, (batch, height, width))],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(size, "size")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return read_model(bundled.onnx_path(bundled.DEFAULT)).with_proto(proto)


def masks(model: ModelFile, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    session = onnxruntime.InferenceSession(model.proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"frames": frames})[0]


def frames_for(model: ModelFile, levels: int = 256) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, levels, (*model.shape_nhw, 3)).astype(np.uint8)


def kinds(model: ModelFile) -> list[str]:
    return [node.op_type for node in model.proto.graph.node]


@pytest.mark.parametrize(
    ("batch", "classes", "logits_hw", "factors"),
    [
        (1, 11, (12, 15), (4, 4)),
        (1, 2, (5, 61), (8, 8)),
        (3, 19, (6, 25), (8, 4)),
        (2, 21, (1, 1), (16, 16)),
        (1, 150, (7, 13), (2, 2)),
        (1, 3, (4, 30), (1, 2)),
    ],
)
def test_masks_are_the_same_and_ties_go_to_the_first_class(batch, classes, logits_hw, factors) -> None:
    model = small(batch, classes, logits_hw, factors)
    other = tail_by_class(model)
    assert "Resize" not in kinds(other)
    assert "ArgMax" not in kinds(other)
    assert other.shape_nhw == model.shape_nhw
    # Whole logits and factors that are powers of two: no rounding, and of few levels many ties.
    for levels in (256, 2):
        frames = frames_for(model, levels)
        assert (masks(other, frames) == masks(model, frames)).all()


@pytest.mark.parametrize(
    ("logits_hw", "factors", "transform"),
    [
        ((9, 14), (3, 3), "half_pixel"),
        ((9, 14), (5, 7), "half_pixel"),
        ((60, 60), (8, 8), "align_corners"),
        ((2, 14), (5, 4), "align_corners"),
    ],
)
def test_where_weights_are_rounded_masks_differ_by_that_alone(logits_hw, factors, transform) -> None:
    model = small(2, 11, logits_hw, factors, transform)
    other = tail_by_class(model)
    assert "Resize" not in kinds(other)
    frames = frames_for(model)
    assert (masks(other, frames) != masks(model, frames)).mean() < 1e-3


def test_one_class_is_left_as_it_is() -> None:
    model = small(1, 1, (6, 6), (4, 4))
    assert tail_by_class(model) is model


@pytest.mark.parametrize("transform", ["half_pixel", "align_corners"])
def test_outputs_at_broken_steps_are_left_as_they_are(transform: str) -> None:
    model = small(1, 5, (6, 6), (4, 4), transform)
    resize = next(node for node in model.proto.graph.node if node.op_type == "Resize")
    size = next(tensor for tensor in model.proto.graph.initializer if tensor.name == resize.input[3])
    size.CopyFrom(numpy_helper.from_array(np.array([1, 5, 23, 23]), size.name))
    for value, shape in ((model.proto.graph.input[0], (1, 23, 23, 3)), (model.proto.graph.output[0], (1, 23, 23))):
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.UINT8, shape))
    assert tail_by_class(model) is model


def test_an_fp16_graph_computes_its_tail_in_fp16() -> None:
    other = tail_by_class(fp16_model(small(1, 11, (12, 15), (4, 4))))
    types = {value.name: value.type.tensor_type.elem_type for value in other.proto.graph.value_info}
    product = next(node for node in other.proto.graph.node if node.op_type == "MatMul")
    assert types[product.output[0]] == TensorProto.FLOAT16
    onnx.checker.check_model(other.proto, full_check=True)


def test_the_bundled_model_gives_the_same_masks_in_openvino(model: ModelFile) -> None:
    frames = frame_at(SceneSet("test").image(0), model.shape_nhw[1:])[None]
    core = openvino.Core()
    plain, by_class = (
        core.compile_model(core.read_model(graph.proto.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        for graph in (model, tail_by_class(model))
    )
    assert (plain(frames)[0] != by_class(frames)[0]).mean() < 1e-4


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="done on x86 alone")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_openvino_engines_have_it(tmp_path: Path, precision: str) -> None:
    path = tmp_path / "e.engine"
    build_engine(prepare_model(None), precision, "openvino", path)
    assert "ArgMax" not in [node.op_type for node in onnx.load_model_from_string(path.read_bytes()).graph.node]

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pspnet_edge.data.datasets import SceneSet
from pspnet_edge.data.geometry import frame_at
from pspnet_edge.data.subset import evenly_spaced
from pspnet_edge.engine.backends import open_engine
from pspnet_edge.engine.build import build_engine
from pspnet_edge.errors import ModelError, OptionError
from pspnet_edge.graph.adapt import adapt
from pspnet_edge.graph.calibrate import table_from_dataset
from pspnet_edge.graph.calibration_table import write_table
from pspnet_edge.graph.described import Preprocessing
from pspnet_edge.graph.onnx_file import read_model
from pspnet_edge.graph.reference import ReferenceSession

from ..foreign_model import theirs

pytest.importorskip("onnxslim")
SIZE = (96, 128)
IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
WEIGHTS = np.random.default_rng(5).normal(size=(4, 3, 3, 3)).astype(np.float32)


def foreign(
    path: Path,
    tail: list[tuple[str, list[str], dict]] = (),  # type: ignore[assignment]
    output: tuple[int, list] = (TensorProto.FLOAT, ["n", 4, "h", "w"]),
    *,
    given: list = ("n", 3, "h", "w"),  # type: ignore[assignment]
    opset: int = 17,
    constants: list[onnx.TensorProto] = (),  # type: ignore[assignment]
) -> Path:
    """One convolution to four scores, and whatever follows; the last output is called ``y``."""
    nodes = [("Conv", ["x", "w"], {"pads": [1, 1, 1, 1]}), *tail]
    made, last = [], "x"
    for index, (kind, inputs, attributes) in enumerate(nodes):
        name = "y" if index == len(nodes) - 1 else f"t{index}"
        made.append(helper.make_node(kind, [last if name_ == "." else name_ for name_ in inputs], [name], **attributes))
        last = name
    graph = helper.make_graph(
        made,
        "foreign",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info("y", *output)],
        [numpy_helper.from_array(WEIGHTS, "w"), *constants],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def frame(size_hw: tuple[int, int] = SIZE) -> np.ndarray:
    return frame_at(SceneSet("test").image(3), size_hw)[None]


def masks_of(path: Path, frames: np.ndarray) -> np.ndarray:
    return ReferenceSession(read_model(path).proto, "test").run(frames)[0]


def scores_of(frames: np.ndarray, wanted: Preprocessing = IMAGENET) -> np.ndarray:
    """What the one convolution gives, by ONNX Runtime on the picture prepared by NumPy."""
    own = frames[..., ::-1] if wanted.colour == "rgb" else frames
    x = ((own * wanted.factor - np.array(wanted.mean)) / np.array(wanted.std)).astype(np.float32).transpose(0, 3, 1, 2)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])],
        "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(WEIGHTS, "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return ReferenceSession(proto, "test").run(np.ascontiguousarray(x))[0]


@pytest.mark.parametrize("opset", [9, 11, 13, 16, 17, 18, 19, 21])
def test_every_opset_gives_the_same_masks(tmp_path: Path, opset: int) -> None:
    adapted = adapt(
        foreign(tmp_path / "f.onnx", opset=opset), tmp_path / "a.onnx", 4, preprocessing=IMAGENET, size_hw=SIZE
    )
    assert (masks_of(tmp_path / "a.onnx", frame()) == scores_of(frame()).argmax(1)).mean() > 0.9999
    assert adapted.agreement is not None
    assert adapted.agreement > 0.9999
    assert adapted.opset == opset


def test_scores_of_a_smaller_map_are_compared_with_the_original_too(tmp_path: Path) -> None:
    tail = [("AveragePool", ["."], {"kernel_shape": [4, 4], "strides": [4, 4]})]
    path = foreign(tmp_path / "f.onnx", tail, opset=17, given=[1, 3, *SIZE])
    adapted = adapt(path, tmp_path / "a.onnx", 4, preprocessing=IMAGENET)
    assert adapted.upsampled == 4
    assert adapted.agreement is not None
    assert adapted.agreement > 0.999


@pytest.mark.parametrize(
    ("opset", "kind", "mode"), [(9, "Upsample", "linear"), (10, "Resize", "linear"), (10, "Resize", "nearest")]
)
def test_resizing_before_opset_11_keeps_its_pixels_where_they_were(
    tmp_path: Path, opset: int, kind: str, mode: str
) -> None:
    scales = numpy_helper.from_array(np.array([1, 1, 4, 4], np.float32), "scales")
    tail = [
        ("AveragePool", ["."], {"kernel_shape": [4, 4], "strides": [4, 4]}),
        (kind, [".", "scales"], {"mode": mode}),
    ]
    path = foreign(tmp_path / "f.onnx", tail, opset=opset, given=[1, 3, *SIZE], constants=[scales])
    assert adapt(path, tmp_path / "a.onnx", 4, preprocessing=IMAGENET).agreement == 1.0
    own = frame()[..., ::-1] / 255
    x = ((own - IMAGENET.mean) / IMAGENET.std).astype(np.float32).transpose(0, 3, 1, 2)
    (theirs,) = ReferenceSession(onnx.load(path), "test").run(np.ascontiguousarray(x))
    assert (masks_of(tmp_path / "a.onnx", frame()) == theirs.argmax(1)).mean() > 0.9999


@pytest.mark.parametrize("opset", [18, 21])
def test_group_normalization_is_taken_apart(tmp_path: Path, opset: int) -> None:
    size = 2 if opset == 18 else 4
    factors = [numpy_helper.from_array(np.arange(size, dtype=np.float32) + 1, name) for name in ("scale", "shift")]
    tail = [("GroupNormalization", [".", "scale", "shift"], {"num_groups": 2, "epsilon": 0.1})]
    adapted = adapt(
        foreign(tmp_path / "f.onnx", tail, opset=opset, constants=factors),
        tmp_path / "a.onnx",
        4,
        preprocessing=IMAGENET,
        size_hw=SIZE,
    )
    groups = scores_of(frame()).reshape(1, 2, 2, *SIZE)
    normal = (groups - groups.mean((2, 3, 4), keepdims=True)) / np.sqrt(groups.var((2, 3, 4), keepdims=True) + 0.1)
    factor = np.repeat(np.arange(size) + 1, 4 // size).reshape(1, 4, 1, 1)
    expected = (normal.reshape(1, 4, *SIZE) * factor + factor).argmax(1)
    assert (masks_of(tmp_path / "a.onnx", frame()) == expected).mean() > 0.999
    assert adapted.agreement is not None
    assert adapted.agreement > 0.999


def test_constants_that_are_inputs_too_are_constants(tmp_path: Path) -> None:
    proto = onnx.load(foreign(tmp_path / "f.onnx", opset=9))
    proto.ir_version = 3
    proto.graph.input.insert(0, helper.make_tensor_value_info("w", TensorProto.FLOAT, WEIGHTS.shape))
    onnx.save(proto, tmp_path / "f.onnx")
    assert adapt(tmp_path / "f.onnx", tmp_path / "a.onnx", 4, preprocessing=IMAGENET, size_hw=SIZE).agreement == 1.0
    assert (masks_of(tmp_path / "a.onnx", frame()) == scores_of(frame()).argmax(1)).mean() > 0.9999


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer.*git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "is a web page"),
        (b"PK\x03\x04" + bytes(30), "is a PyTorch checkpoint or another zip archive"),
    ],
)
def test_what_a_download_left_in_place_of_a_model_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "f.onnx").write_bytes(content)
    for read in (read_model, lambda path: adapt(path, tmp_path / "a.onnx", 4)):
        with pytest.raises(ModelError, match=said):
            read(tmp_path / "f.onnx")


def test_the_file_itself_is_compared_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
        weights = next(tensor for tensor in proto.graph.initializer if tensor.name == "w")
        weights.CopyFrom(numpy_helper.from_array(WEIGHTS[::-1].copy(), "w"))
        return proto

    monkeypatch.setattr("pspnet_edge.graph.foreign.raise_opset", wrong)
    adapted = adapt(foreign(tmp_path / "f.onnx"), tmp_path / "a.onnx", 4, preprocessing=IMAGENET, size_hw=SIZE)
    assert adapted.agreement is not None
    assert adapted.agreement < 0.5


def test_a_graph_that_onnx_runtime_optimized_is_named_as_such(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "o.onnx")
    path = foreign(tmp_path / "f.onnx", [("Relu", ["."], {})])
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    with pytest.raises(ModelError, match=r"of com\.microsoft.*not one that ONNX Runtime optimized"):
        adapt(tmp_path / "o.onnx", tmp_path / "a.onnx", 4, size_hw=SIZE)


@pytest.mark.parametrize(
    ("tail", "output"),
    [
        ([("Softmax", ["."], {"axis": 1})], (TensorProto.FLOAT, ["n", 4, "h", "w"])),
        ([("ArgMax", ["."], {"axis": 1, "keepdims": 0})], (TensorProto.INT64, ["n", "h", "w"])),
        ([("ArgMax", ["."], {"axis": 1, "keepdims": 1})], (TensorProto.INT64, ["n", 1, "h", "w"])),
        (
            [("ArgMax", ["."], {"axis": 1, "keepdims": 0}), ("Cast", ["."], {"to": TensorProto.UINT8})],
            (TensorProto.UINT8, ["n", "h", "w"]),
        ),
    ],
)
def test_logits_probabilities_and_class_ids_give_the_same_masks(tmp_path: Path, tail: list, output: tuple) -> None:
    adapt(foreign(tmp_path / "f.onnx", tail, output), tmp_path / "a.onnx", 4, preprocessing=IMAGENET, size_hw=SIZE)
    assert (masks_of(tmp_path / "a.onnx", frame()) == scores_of(frame()).argmax(1)).mean() > 0.9999


HIGH = numpy_helper.from_array(np.array(0, np.float32), "zero")
WHITE = numpy_helper.from_array(np.array(255, np.int32), "white")


@pytest.mark.parametrize(
    ("cast", "named"),
    [
        ([("Cast", ["."], {"to": TensorProto.FLOAT})], 2),
        ([("Cast", ["."], {"to": TensorProto.FLOAT})], 1),
        ([("Cast", ["."], {"to": TensorProto.UINT8})], 2),
        ([("Cast", ["."], {"to": TensorProto.INT32}), ("Mul", [".", "white"], {})], 2),
    ],
    ids=["0 and 1 as float", "one class named", "0 and 1", "0 and 255"],
)
def test_a_mask_that_is_decided_already_keeps_its_object(tmp_path: Path, cast: list, named: int) -> None:
    kind = TensorProto.INT32 if len(cast) > 1 else cast[0][2]["to"]
    tail = [("Slice", [".", "first", "last", "axis"], {}), ("Greater", [".", "zero"], {}), *cast]
    cuts = [numpy_helper.from_array(np.array([at]), name) for at, name in ((0, "first"), (1, "last"), (1, "axis"))]
    path = foreign(tmp_path / "f.onnx", tail, (kind, ["n", 1, "h", "w"]), constants=[HIGH, WHITE, *cuts])
    adapted = adapt(path, tmp_path / "a.onnx", named, preprocessing=IMAGENET, size_hw=SIZE, threshold=0.9)
    assert (adapted.kind, adapted.agreement, len(adapted.label_set)) == ("class ids", 1.0, 2)
    masks = masks_of(tmp_path / "a.onnx", frame())
    assert set(np.unique(masks)) == {0, 1}
    assert (masks == (scores_of(frame())[:, 0] > 0)).mean() > 0.999


@pytest.mark.parametrize("size", [SIZE, (96, 96)])
def test_scores_with_channels_last_are_found_by_their_proportions(tmp_path: Path, size: tuple[int, int]) -> None:
    path = foreign(
        tmp_path / "f.onnx", [("Transpose", ["."], {"perm": [0, 2, 3, 1]})], (TensorProto.FLOAT, ["n", "h", "w", 4])
    )
    assert adapt(path, tmp_path / "a.onnx", 4, preprocessing=IMAGENET, size_hw=size).agreement == 1.0


def test_ids_that_no_class_has_are_refused(tmp_path: Path) -> None:
    tail = [("ArgMax", ["."], {"axis": 1, "keepdims": 0}), ("Mul", [".", "ten"], {})]
    ten = numpy_helper.from_array(np.array(10), "ten")
    path = foreign(tmp_path / "f.onnx", tail, (TensorProto.INT64, ["n", "h", "w"]), constants=[ten])
    with pytest.raises(ModelError, match=r"gives the id [123]0, and 4 classes are named"):
        adapt(path, tmp_path / "a.onnx", 4, preprocessing=IMAGENET, size_hw=SIZE)
    assert not (tmp_path / "a.onnx").exists()


def test_a_confidence_is_no_segmentation(tmp_path: Path) -> None:
    path = foreign(
        tmp_path / "f.onnx",
        [("Softmax", ["."], {"axis": 1}), ("ReduceMax", ["."], {"axes": [1], "keepdims": 0})],
        (TensorProto.FLOAT, ["n", "h", "w"]),
    )
    with pytest.raises(ModelError, match="largest score of each pixel"):
        adapt(path, tmp_path / "a.onnx", 2, size_hw=SIZE)


def test_a_network_that_normalizes_by_itself_gets_what_it_reads(tmp_path: Path) -> None:
    mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) * 255 for v in (IMAGENET.mean, IMAGENET.std))
    path = foreign(tmp_path / "f.onnx")
    proto = onnx.load(path)
    proto.graph.initializer.extend([numpy_helper.from_array(mean, "mean"), numpy_helper.from_array(std, "std")])
    proto.graph.node[0].input[0] = "normal"
    nodes = [helper.make_node("Sub", ["x", "mean"], ["less"]), helper.make_node("Div", ["less", "std"], ["normal"])]
    for node in reversed(nodes):
        proto.graph.node.insert(0, node)
    onnx.save(proto, path)
    alone = adapt(path, tmp_path / "a.onnx", 4, size_hw=SIZE)
    assert alone.scale == 1
    assert "by itself" in alone.remarks[0]
    assert (masks_of(tmp_path / "a.onnx", frame()) == scores_of(frame()).argmax(1)).mean() > 0.999
    twice = adapt(path, tmp_path / "b.onnx", 4, preprocessing=IMAGENET, size_hw=SIZE)
    assert "leave out --mean and --std" in twice.remarks[0]


@pytest.mark.parametrize("sigmoid", [False, True])
def test_one_score_is_compared_with_the_threshold(tmp_path: Path, sigmoid: bool) -> None:
    first = numpy_helper.from_array(np.array([0], np.int64), "first")
    tail = [("Gather", [".", "first"], {"axis": 1}), *([("Sigmoid", ["."], {})] if sigmoid else [])]
    path = foreign(tmp_path / "f.onnx", tail, (TensorProto.FLOAT, ["n", 1, "h", "w"]), constants=[first])
    adapted = adapt(path, tmp_path / "a.onnx", ["crack"], preprocessing=IMAGENET, size_hw=SIZE, threshold=0.7)
    expected = scores_of(frame())[:, 0] > np.log(0.7 / 0.3)
    assert 0.05 < expected.mean() < 0.95
    assert (masks_of(tmp_path / "a.onnx", frame()) == expected).mean() > 0.9999
    assert adapted.label_set.classes == ("background", "crack")
    assert adapted.threshold == 0.7


HALF = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "twice")
GREY = numpy_helper.from_array(np.array(255, np.float32), "white")
ONE = numpy_helper.from_array(np.array(1, np.float32), "one")


@pytest.mark.parametrize(
    ("behind", "rank"),
    [
        ([("Squeeze", [".", "axis"], {})], 3),
        ([("Transpose", ["."], {"perm": [0, 2, 3, 1]})], 4),
        ([("Mul", [".", "white"], {})], 4),
        ([("Clip", [".", "zero", "one"], {})], 4),
        ([("Sub", ["one", "."], {}), ("Sub", ["one", "."], {})], 4),
        ([("Squeeze", ["."], {})], 2),
    ],
    ids=["no axis of classes", "channels last", "0 to 255", "clipped", "twice from 1", "rows and columns alone"],
)
def test_a_probability_stays_one_whatever_follows_the_sigmoid(tmp_path: Path, behind: list, rank: int) -> None:
    cuts = [numpy_helper.from_array(np.array([at]), name) for at, name in ((0, "first"), (1, "last"), (1, "axis"))]
    tail = [("Slice", [".", "first", "last", "axis"], {}), ("Sigmoid", ["."], {}), *behind]
    path = foreign(
        tmp_path / "f.onnx",
        tail,
        (TensorProto.FLOAT, [None] * rank),
        constants=[*cuts, HIGH, GREY, ONE],
        given=[1, 3, *SIZE],
    )
    adapted = adapt(path, tmp_path / "a.onnx", ["crack"], preprocessing=IMAGENET, threshold=0.7)
    expected = scores_of(frame())[:, 0] > np.log(0.7 / 0.3)
    assert (masks_of(tmp_path / "a.onnx", frame()) == expected).mean() > 0.999
    assert "above 178" in adapted.remarks[-1] if behind[0][0] == "Mul" else "above 0.7" in adapted.remarks[-1]


def test_one_class_of_a_softmax_is_a_probability(tmp_path: Path) -> None:
    third = numpy_helper.from_array(np.array([2], np.int64), "third")
    part = numpy_helper.from_array(np.array([-3, -10, 4, -7], np.float32).reshape(1, 4, 1, 1), "part")
    tail = [("Add", [".", "part"], {}), ("Softmax", ["."], {"axis": 1}), ("Gather", [".", "third"], {"axis": 1})]
    path = foreign(tmp_path / "f.onnx", tail, (TensorProto.FLOAT, ["n", 1, "h", "w"]), constants=[third, part])
    adapt(path, tmp_path / "a.onnx", ["crack"], preprocessing=IMAGENET, size_hw=SIZE, threshold=0.3)
    scores = np.exp(scores_of(frame()) + numpy_helper.to_array(part))
    expected = (scores / scores.sum(1, keepdims=True))[:, 2] > 0.3
    assert 0.05 < expected.mean() < 0.95
    assert (masks_of(tmp_path / "a.onnx", frame()) == expected).mean() > 0.999


def test_a_score_that_could_be_a_probability_is_pointed_at(tmp_path: Path) -> None:
    first = numpy_helper.from_array(np.array([0], np.int64), "first")
    tail = [("Gather", [".", "first"], {"axis": 1}), ("Neg", ["."], {}), ("Exp", ["."], {}), ("Add", [".", "one"], {})]
    path = foreign(
        tmp_path / "f.onnx",
        [*tail, ("Reciprocal", ["."], {})],
        (TensorProto.FLOAT, ["n", 1, "h", "w"]),
        constants=[first, ONE],
    )
    adapted = adapt(path, tmp_path / "a.onnx", ["crack"], preprocessing=IMAGENET, size_hw=SIZE)
    assert "if they are probabilities" in adapted.remarks[-1]


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("stride", [1, 4])
def test_flat_maps_of_keras_are_unfolded(tmp_path: Path, last: bool, stride: int) -> None:
    height, width = SIZE[0] // stride, SIZE[1] // stride
    order = [0, 2, 3, 1] if last else [0, 1, 2, 3]
    shape = [1, height * width, 4] if last else [1, 4, height * width]
    tail = [
        ("AveragePool", ["."], {"kernel_shape": [stride] * 2, "strides": [stride] * 2}),
        ("Transpose", ["."], {"perm": order}),
        ("Reshape", [".", "flat"], {}),
        ("Softmax", ["."], {"axis": 2 if last else 1}),
    ]
    flat = numpy_helper.from_array(np.array(shape, np.int64), "flat")
    path = foreign(tmp_path / "f.onnx", tail, (TensorProto.FLOAT, shape), given=[1, 3, *SIZE], constants=[flat])
    adapted = adapt(path, tmp_path / "a.onnx", 4, preprocessing=IMAGENET)
    assert adapted.upsampled == stride
    masks = masks_of(tmp_path / "a.onnx", frame())
    if stride == 1:
        assert (masks == scores_of(frame()).argmax(1)).mean() > 0.9999
    else:
        pooled = scores_of(frame()).reshape(1, 4, height, stride, width, stride).mean((3, 5))
        exponents = np.exp(pooled - pooled.max(1, keepdims=True))
        torch = pytest.importorskip("torch")
        small = torch.from_numpy(exponents / exponents.sum(1, keepdims=True))
        large = torch.nn.functional.interpolate(small, size=SIZE, mode="bilinear", align_corners=False)
        assert (masks == large.argmax(1).numpy()).mean() > 0.999


def test_flat_class_ids_are_unfolded(tmp_path: Path) -> None:
    tail = [("ArgMax", ["."], {"axis": 1, "keepdims": 0}), ("Reshape", [".", "flat"], {})]
    flat = numpy_helper.from_array(np.array([1, SIZE[0] * SIZE[1]], np.int64), "flat")
    path = foreign(
        tmp_path / "f.onnx", tail, (TensorProto.INT64, list(flat.dims)), given=[1, 3, *SIZE], constants=[flat]
    )
    adapt(path, tmp_path / "a.onnx", 4, preprocessing=IMAGENET)
    assert (masks_of(tmp_path / "a.onnx", frame()) == scores_of(frame()).argmax(1)).mean() > 0.9999


def test_class_ids_as_float_that_are_enlarged_stay_class_ids(tmp_path: Path) -> None:
    tail = [
        ("AveragePool", ["."], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("ArgMax", ["."], {"axis": 1, "keepdims": 1}),
        ("Cast", ["."], {"to": TensorProto.FLOAT}),
        (
            "Resize",
            [".", "", "twice"],
            {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        ),
    ]
    path = foreign(tmp_path / "f.onnx", tail, (TensorProto.FLOAT, None), given=[1, 3, *SIZE], constants=[HALF])
    assert adapt(path, tmp_path / "a.onnx", 4, preprocessing=IMAGENET).kind == "class ids"
    pooled = scores_of(frame()).reshape(1, 4, SIZE[0] // 2, 2, SIZE[1] // 2, 2).mean((3, 5))
    expected = pooled.argmax(1).repeat(2, 1).repeat(2, 2)
    assert (masks_of(tmp_path / "a.onnx", frame()) == expected).mean() > 0.999


@pytest.mark.parametrize("given", [Preprocessing(), Preprocessing(scale=1.0)])
def test_a_network_of_whole_numbers_gets_grey_levels(tmp_path: Path, given: Preprocessing) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
            helper.make_node("Sub", ["t", "mean"], ["centred"]),
            helper.make_node("Conv", ["centred", "w"], ["y"], pads=[1, 1, 1, 1]),
        ],
        "whole numbers",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, *SIZE, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(WEIGHTS, "w"),
            numpy_helper.from_array(np.full((1, 3, 1, 1), 120, np.float32), "mean"),
        ],
    )
    path = tmp_path / "f.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    adapted = adapt(path, tmp_path / "a.onnx", 4, preprocessing=given)
    assert adapted.scale == 1
    wanted = Preprocessing((120.0,) * 3, (1.0,) * 3)
    assert (masks_of(tmp_path / "a.onnx", frame()) == scores_of(frame(), wanted).argmax(1)).mean() > 0.999
    with pytest.raises(OptionError, match="normalizes by itself"):
        adapt(path, tmp_path / "b.onnx", 4, preprocessing=IMAGENET)


def test_a_scale_that_divides_is_understood(tmp_path: Path) -> None:
    adapted = adapt(
        foreign(tmp_path / "f.onnx"), tmp_path / "a.onnx", 4, preprocessing=Preprocessing(scale=255), size_hw=SIZE
    )
    assert adapted.scale == pytest.approx(1 / 255)
    plain = Preprocessing((0.0,) * 3, (1.0,) * 3)
    assert (masks_of(tmp_path / "a.onnx", frame()) == scores_of(frame(), plain).argmax(1)).mean() > 0.999


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ({"class_queries_logits": [1, 100, 20], "masks_queries_logits": [1, 100, 24, 32]}, "masks of 100 queries"),
        ({"output0": [1, 116, 8400], "output1": [1, 32, 160, 160]}, "boxes and prototypes"),
    ],
)
def test_networks_of_instances_are_named_as_such(tmp_path: Path, outputs: dict[str, list[int]], said: str) -> None:
    model = onnx.load(foreign(tmp_path / "f.onnx"))
    del model.graph.output[:]
    for name, shape in outputs.items():
        model.graph.node.append(helper.make_node("RandomNormal", [], [name], shape=shape))
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    onnx.save(model, tmp_path / "f.onnx")
    with pytest.raises(ModelError, match=said):
        adapt(tmp_path / "f.onnx", tmp_path / "a.onnx", 19, size_hw=SIZE)


def test_a_classifier_is_refused_before_its_classes_are_asked_for(tmp_path: Path) -> None:
    onnx.save(theirs(10, pooled=True), tmp_path / "c.onnx")
    for classes in (None, 10, ["a"]):
        with pytest.raises(
            ModelError, match=r"has shape \[1, 10\]: it is of the whole picture, as that of an image class"
        ):
            adapt(tmp_path / "c.onnx", classes=classes)
    assert [path.name for path in tmp_path.iterdir()] == ["c.onnx"]
    onnx.save(theirs(10, stride=64), tmp_path / "c.onnx")
    with pytest.raises(ModelError, match=r"has shape \[1, 10, 1, 1\]: it is of the whole picture"):
        adapt(tmp_path / "c.onnx", classes=10)


@pytest.mark.parametrize(("stride", "said"), [(16, False), (40, True)])
def test_a_coarse_output_is_pointed_at(tmp_path: Path, stride: int, said: bool) -> None:
    onnx.save(theirs(4, stride=stride, side=160), tmp_path / "c.onnx")
    adapted = adapt(tmp_path / "c.onnx", classes=4)
    assert adapted.upsampled == stride
    assert (
        any("times smaller than the picture, so its masks are coarse" in remark for remark in adapted.remarks) is said
    )


def test_scores_at_a_stride_are_upsampled(tmp_path: Path) -> None:
    tail = [("AveragePool", ["."], {"kernel_shape": [4, 4], "strides": [4, 4]})]
    path = foreign(tmp_path / "f.onnx", tail, (TensorProto.FLOAT, None))
    adapted = adapt(path, tmp_path / "a.onnx", 4, preprocessing=IMAGENET, size_hw=SIZE)
    torch = pytest.importorskip("torch")
    small = torch.nn.functional.avg_pool2d(torch.from_numpy(scores_of(frame())), 4)
    large = torch.nn.functional.interpolate(small, size=SIZE, mode="bilinear", align_corners=False)
    assert adapted.upsampled == 4
    assert (masks_of(tmp_path / "a.onnx", frame()) == large.argmax(1).numpy()).mean() > 0.999


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
def test_channels_last_and_the_order_of_colours(tmp_path: Path, colour: str) -> None:
    wanted = Preprocessing((120.0, 110.0, 100.0), (50.0, 60.0, 70.0), colour=colour)  # type: ignore[arg-type]
    graph = helper.make_graph(
        [
            helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
            helper.make_node("Conv", ["t", "w"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Transpose", ["c"], ["y"], perm=[0, 2, 3, 1]),
        ],
        "last",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *SIZE, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, *SIZE, 4])],
        [numpy_helper.from_array(WEIGHTS, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "f.onnx")
    adapted = adapt(tmp_path / "f.onnx", tmp_path / "a.onnx", 4, preprocessing=wanted)
    assert adapted.scale == 1.0
    assert (masks_of(tmp_path / "a.onnx", frame()) == scores_of(frame(), wanted).argmax(1)).mean() > 0.9999


def test_weights_beside_the_model_are_read_and_a_missing_file_is_named(tmp_path: Path) -> None:
    whole = onnx.load(foreign(tmp_path / "f.onnx"))
    onnx.save(whole, tmp_path / "e.onnx", save_as_external_data=True, location="e.weights", size_threshold=0)
    adapt(tmp_path / "e.onnx", tmp_path / "a.onnx", 4, preprocessing=IMAGENET, size_hw=SIZE)
    assert (masks_of(tmp_path / "a.onnx", frame()) == scores_of(frame()).argmax(1)).mean() > 0.9999
    whole = onnx.load(foreign(tmp_path / "f.onnx"))
    value = whole.graph.initializer.pop()
    whole.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=value))
    onnx.save(
        whole,
        tmp_path / "n.onnx",
        save_as_external_data=True,
        location="n.weights",
        size_threshold=0,
        convert_attribute=True,
    )
    adapt(tmp_path / "n.onnx", tmp_path / "b.onnx", 4, preprocessing=IMAGENET, size_hw=SIZE)
    assert (masks_of(tmp_path / "b.onnx", frame()) == masks_of(tmp_path / "a.onnx", frame())).all()
    (tmp_path / "e.weights").unlink()
    with pytest.raises(ModelError, match=r"e\.weights, which is not beside it"):
        adapt(tmp_path / "e.onnx", tmp_path / "a.onnx", 4, size_hw=SIZE)


def test_weights_outside_of_the_folder_are_not_read(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    whole = onnx.load(foreign(tmp_path / "f.onnx"))
    onnx.save(whole, inside / "e.onnx", save_as_external_data=True, location="e.weights", size_threshold=0)
    shutil.move(inside / "e.weights", tmp_path / "secret")
    (inside / "e.weights").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="outside of its folder"):
        adapt(inside / "e.onnx", tmp_path / "a.onnx", 4, size_hw=SIZE)
    proto = onnx.load(inside / "e.onnx", load_external_data=False)
    for where in ("../secret", "/etc/passwd"):
        proto.graph.initializer[0].external_data[0].value = where
        (inside / "p.onnx").write_bytes(proto.SerializeToString())
        with pytest.raises(ModelError, match="outside of its folder"):
            adapt(inside / "p.onnx", tmp_path / "a.onnx", 4, size_hw=SIZE)


def two_outputs(path: Path) -> Path:
    proto = onnx.load(foreign(path))
    proto.graph.node.append(helper.make_node("Neg", ["y"], ["other"]))
    proto.graph.output.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, ["n", 4, "h", "w"]))
    onnx.save(proto, path)
    return path


def test_one_of_several_outputs_is_chosen_by_name(tmp_path: Path) -> None:
    path = two_outputs(tmp_path / "f.onnx")
    with pytest.raises(OptionError, match=r"has the outputs y \[.*\], other \["):
        adapt(path, tmp_path / "a.onnx", 4, size_hw=SIZE)
    adapt(path, tmp_path / "a.onnx", 4, preprocessing=IMAGENET, size_hw=SIZE, output_name="other")
    assert (masks_of(tmp_path / "a.onnx", frame()) == scores_of(frame()).argmin(1)).mean() > 0.9999


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 4}, "takes pictures of any size: choose one"),
        ({"classes": 5, "size_hw": SIZE}, "scores 4 classes and 5 were given"),
        ({"classes": 4, "size_hw": SIZE, "output_name": "z"}, "no output 'z': choose one of y"),
        ({"classes": 4, "size_hw": SIZE, "threshold": 2.0}, "not a probability"),
        ({"classes": 4, "size_hw": SIZE, "preprocessing": Preprocessing(std=(0.0,))}, "not a deviation"),
        ({"classes": 4, "size_hw": SIZE, "preprocessing": Preprocessing(mean=(1.0, 2.0))}, "2 numbers for 3 channels"),
        ({"classes": 4, "size_hw": (100_000, 100_000)}, "too large"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(tmp_path: Path, arguments: dict, message: str) -> None:
    classes = arguments.pop("classes")
    with pytest.raises(OptionError, match=message) as caught:
        adapt(foreign(tmp_path / "f.onnx"), tmp_path / "a.onnx", classes, **arguments)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a.onnx").exists()


def test_the_command_says_how_it_read_the_network(command_line, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("road\ncar\ntree\nsky\n")
    path = foreign(tmp_path / "f.onnx")
    options = ("--classes", tmp_path / "classes.txt", "--mean", "0.485,0.456,0.406", "--size", "96x128", "--json")
    done = command_line("adapt", path, *options)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["label_set"]["classes"] == ["road", "car", "tree", "sky"]
    assert facts["shape_nhw"] == [1, *SIZE]
    assert "0.485,0.456,0.406" in done.stderr
    bad = command_line("adapt", path, "--classes", "4", "--mean", "a", "--size", "96x128")
    assert (bad.returncode, "--mean" in bad.stderr, "Traceback" in bad.stderr) == (2, True, False)


def networks() -> dict:
    """Networks of other projects, exported as their users do."""
    torch = pytest.importorskip("torch")
    seg = pytest.importorskip("torchvision.models.segmentation")
    smp = pytest.importorskip("segmentation_models_pytorch")

    class Out(torch.nn.Module):
        def __init__(self, network) -> None:
            super().__init__()
            self.network = network

        def forward(self, x):
            return self.network(x)["out"]

    return {
        "lraspp": lambda: Out(seg.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5)),
        "deeplab": lambda: Out(seg.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5)),
        "segformer": lambda: smp.Segformer("mit_b0", encoder_weights=None, classes=5),
        "fpn": lambda: smp.FPN("resnet18", encoder_weights=None, classes=5),
        "unet": lambda: smp.Unet("efficientnet-b0", encoder_weights=None, classes=5),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "opset", "dynamic"),
    [("lraspp", 13, True), ("deeplab", 12, True), ("segformer", 17, False), ("fpn", 11, True), ("unet", 16, False)],
)
def test_a_network_exported_by_torch_gives_its_masks_and_runs_in_int8(
    tmp_path: Path, randomise_norms, name: str, opset: int, dynamic: bool
) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    network = networks()[name]().eval()
    randomise_norms(network)
    axes = {"x": {0: "n", 2: "h", 3: "w"}, "y": {0: "n", 2: "h", 3: "w"}} if dynamic else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of this exporter's age, and of shapes that become constants
        torch.onnx.export(
            network,
            (torch.zeros(1, 3, *SIZE),),
            tmp_path / "f.onnx",
            input_names=["x"],
            output_names=["y"],
            opset_version=opset,
            dynamic_axes=axes,
            dynamo=False,
        )
    model = tmp_path / "a.onnx"
    adapt(tmp_path / "f.onnx", model, 5, preprocessing=IMAGENET, size_hw=SIZE if dynamic else None)
    frames = np.concatenate([frame_at(SceneSet("test").image(index), SIZE)[None] for index in range(6)])
    x = ((frames[..., ::-1] / 255 - IMAGENET.mean) / IMAGENET.std).astype(np.float32).transpose(0, 3, 1, 2)
    with torch.inference_mode():
        expected = network(torch.from_numpy(np.ascontiguousarray(x))).argmax(1).numpy()
    masks = np.concatenate([masks_of(model, one[None]) for one in frames])
    assert (masks == expected).mean() >= 0.999

    table, _ = table_from_dataset(read_model(model), evenly_spaced(SceneSet("train"), 8), dataset="scenes")
    write_table(tmp_path / "a.calib.json", table)
    for runtime in ("openvino", "onnxruntime"):
        facts = build_engine(str(model), "int8", runtime, tmp_path / "e.engine")
        assert facts["int8_mac_fraction"] > (0.2 if name == "segformer" else 0.8)
        with open_engine(tmp_path / "e.engine") as engine:
            rounded = np.concatenate([engine.infer(one[None]).copy() for one in frames])
        # Random weights put scores close to each other; that INT8 computes the same network is what is tested.
        assert (rounded == expected).mean() > 0.6, runtime

"""The head's arithmetic, compiled by g++, against OpenCV, NumPy and the ONNX graph; and what is cut off for it."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pspnet_edge.data.geometry import Box, Geometry, frame_at
from pspnet_edge.engine.facts import HeadFacts
from pspnet_edge.engine.tensorrt.graphs import int8_fp16_model
from pspnet_edge.engine.tensorrt.head import head_facts, head_launch, head_levels, input_values
from pspnet_edge.engine.tensorrt.host_kernels import HostKernels
from pspnet_edge.engine.tensorrt.reference import reference_picture
from pspnet_edge.errors import BuildError
from pspnet_edge.graph.head import Head, without_head
from pspnet_edge.graph.onnx_file import ModelFile, model_file
from pspnet_edge.graph.precision import fp16_model
from pspnet_edge.labels import CAMVID

SIZES = [
    # picture, input: growing, shrinking by less and more than half, by whole factors, one side each way, single pixels
    ((30, 41), (48, 60)),
    ((61, 83), (48, 60)),
    ((97, 119), (48, 60)),
    ((131, 67), (48, 60)),
    ((211, 307), (48, 60)),
    ((96, 120), (48, 60)),
    ((144, 120), (48, 60)),
    ((192, 300), (48, 60)),
    ((40, 200), (48, 60)),
    ((48, 60), (48, 60)),
    ((1, 1), (7, 5)),
    ((3, 500), (1, 1)),
    ((720, 1280), (384, 480)),
]


@pytest.fixture(scope="module")
def native() -> HostKernels:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not here")
    return HostKernels()


def drawn(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def plain(channels: int, dtype: str = "float32") -> HeadFacts:
    """A head that keeps every level as it is."""
    levels = np.tile(np.arange(256), (channels, 1)) - (128 if dtype == "int8" else 0)
    return head_facts(Head(tuple(range(channels)), levels.astype(dtype)), b"")


def brought(
    native: HostKernels,
    facts: HeadFacts,
    pixels: NDArray[np.uint8],
    size_hw: tuple[int, int],
    *,
    inner: Box | None = None,
    lanes: int = 1,
    order: tuple[int, ...] | None = None,
) -> NDArray:
    """Pixels ``[H, W, bytes]``, of any pitch, as the network's input."""
    inner, (pitch, pixel_bytes, _) = inner or Box(0, 0, *size_hw), pixels.strides
    launch = head_launch(facts, size_hw, pixels.shape[:2], inner, pixel_bytes, pitch, lanes, order)
    given = native.input(pixels, head_levels(facts), launch, input_values(facts, lanes, size_hw))
    shape = (len(facts["order"]), *size_hw) if lanes == 1 else (*size_hw, lanes)
    return given.reshape(shape)


def levels_of(native: HostKernels, pixels: NDArray[np.uint8], size_hw: tuple[int, int], **more: object) -> NDArray:
    """The same as a picture ``uint8 [h, w, C]`` again."""
    facts = plain(pixels.shape[2])
    return brought(native, facts, pixels, size_hw, **more).transpose(1, 2, 0).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("picture_hw", "size_hw"), SIZES)
def test_the_resize_is_that_of_the_processor_bit_by_bit(native, picture_hw, size_hw, channels) -> None:
    picture = drawn((*picture_hw, channels), channels)
    found = levels_of(native, picture, size_hw)
    assert (found == reference_picture(picture, size_hw)).all()
    assert (found == frame_at(picture, size_hw)).all()


def test_sizes_drawn_at_random(native) -> None:
    choose = np.random.default_rng(21)
    for number in range(150):
        picture_hw, size_hw = choose.integers(1, 260, 2), choose.integers(1, 130, 2)
        if number % 5 == 0:
            picture_hw = size_hw * choose.integers(1, 6, 2)
        picture = drawn((*map(int, picture_hw), int(choose.choice([1, 3, 4]))), number)
        target = (int(size_hw[0]), int(size_hw[1]))
        found = levels_of(native, picture, target)
        assert (found == reference_picture(picture, target)).all(), (picture.shape, target)
        assert (found == frame_at(picture, target)).all(), (picture.shape, target)


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("picture_hw", [(97, 301), (301, 97), (33, 21), (48, 60)])
def test_every_fit_gives_what_the_layout_gives(native, fit, picture_hw) -> None:
    picture = drawn((*picture_hw, 3))
    layout = Geometry(fit).layout(picture_hw, (48, 60))
    (window,) = layout.windows
    # The region is seen through its strides: a pitch that is not its width.
    found = levels_of(native, picture[window.source.slices], (48, 60), inner=window.inner)
    assert (found == next(layout.inputs(picture))).all()


@pytest.mark.parametrize(
    ("order", "bytes_of_bgr"),
    [((0, 1, 2), [0, 1, 2]), ((2, 1, 0), [2, 1, 0]), ((0, 1, 2), [0, 1, 2, 3]), ((2, 1, 0), [2, 1, 0, 3])],
    ids=["BGR", "RGB", "BGRx", "RGBA"],
)
def test_colour_orders_and_row_pitches(native, order, bytes_of_bgr) -> None:
    frame = drawn((61, 83, 4))
    # Rows of a camera's buffer are longer than the picture.
    buffer = np.full((61, 83 * len(bytes_of_bgr) + 29), 7, np.uint8)
    pixels = np.lib.stride_tricks.as_strided(
        buffer, (61, 83, len(bytes_of_bgr)), (buffer.strides[0], len(bytes_of_bgr), 1)
    )
    pixels[:] = frame[..., bytes_of_bgr]
    found = brought(native, plain(3), pixels, (48, 60), order=order)
    assert (found.transpose(1, 2, 0).astype(np.uint8) == frame_at(np.ascontiguousarray(frame[..., :3]), (48, 60))).all()


@pytest.mark.parametrize(("dtype", "lanes"), [("int8", 4), ("float16", 8), ("float16", 1), ("int8", 1)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_types_and_lanes(native, dtype, lanes, channels) -> None:
    picture = drawn((61, 83, channels))
    found = brought(native, plain(channels, dtype), picture, (48, 60), lanes=lanes)
    expected = frame_at(picture, (48, 60)).astype(np.int16) - (128 if dtype == "int8" else 0)
    assert found.dtype == dtype
    if lanes == 1:
        assert (found == expected.transpose(2, 0, 1)).all()
    else:
        assert (found[..., :channels] == expected).all()
        assert (found[..., channels:] == 0).all()


def run(model: ModelFile, feed: NDArray) -> NDArray:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the ONNX graph runs in ONNX Runtime")
    session = onnxruntime.InferenceSession(model.proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {model.proto.graph.input[0].name: feed})[0]


def inputs_of(native: HostKernels, head: Head, frames: NDArray[np.uint8]) -> NDArray:
    facts = head_facts(head, b"")
    return np.stack([brought(native, facts, frame, frames.shape[1:3]) for frame in frames])


def test_the_bundled_model_loses_nothing_by_the_cut(native, fp32, int8) -> None:
    frames = drawn((1, *fp32.shape_nhw[1:], 3))
    for model, quantized in ((fp32, False), (int8, False), (int8, True)):
        cut, head = without_head(model, quantized=quantized)
        assert head.levels.dtype == (np.int8 if quantized else np.float32)
        assert (run(cut, inputs_of(native, head, frames)) == run(model, frames)).all()


def test_the_cut_of_an_fp16_graph_takes_fp16_and_of_an_int8_graph_int8(fp32, int8) -> None:
    cut, head = without_head(fp16_model(fp32))
    assert (cut.proto.graph.input[0].type.tensor_type.elem_type, head.levels.dtype) == (TensorProto.FLOAT16, np.float16)
    assert [node.op_type for node in cut.proto.graph.node[:2]] == ["Conv", "Clip"]
    onnx.checker.check_model(cut.proto, full_check=True)
    cut, head = without_head(int8_fp16_model(int8), quantized=True)
    assert (cut.proto.graph.input[0].type.tensor_type.elem_type, head.levels.dtype) == (TensorProto.INT8, np.int8)
    onnx.checker.check_model(cut.proto, full_check=True)


def beginning(channels: int, nodes: list[onnx.NodeProto], constants: dict[str, NDArray], last: str) -> ModelFile:
    """A graph of two frames that ends in the argmax of what begins it."""
    shape = (2, 48, 60)
    graph = helper.make_graph(
        [
            *nodes,
            helper.make_node("ArgMax", [last], ["best"], "argmax_0", axis=1, keepdims=0),
            helper.make_node("Cast", ["best"], ["masks"], "cast_9", to=TensorProto.UINT8),
        ],
        "small",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, (*shape, channels))],
        [helper.make_tensor_value_info("masks", TensorProto.UINT8, shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model_file(proto, "small", CAMVID, {})


def normalized(channels: int, *, gather: bool = False) -> ModelFile:
    """Cast, Transpose and a normalization whose constants FP16 holds and whose results it does not."""
    choose = np.random.default_rng(channels)
    constants = {
        "mean": choose.uniform(100, 130, (1, channels, 1, 1)).astype(np.float16).astype(np.float32),
        "deviation": choose.uniform(50, 70, (1, channels, 1, 1)).astype(np.float16).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["frames"], ["a"], "cast_0", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["a"], ["b"], "transpose_0", perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["b", "mean"], ["c"], "sub_0"),
        helper.make_node("Div", ["c", "deviation"], ["d"], "div_0"),
    ]
    if gather:
        constants["rgb"] = np.array([2, 1, 0])
        nodes.append(helper.make_node("Gather", ["d", "rgb"], ["e"], "gather_0", axis=1))
    # A convolution with whole weights keeps the tail apart from the head.
    constants["w"] = np.eye(channels, dtype=np.float32).reshape(channels, channels, 1, 1)
    nodes.append(helper.make_node("Conv", ["e" if gather else "d", "w"], ["f"], "conv_0"))
    return beginning(channels, nodes, constants, "f")


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("channels", "gather"), [(1, False), (3, False), (3, True), (4, False)])
def test_a_frame_of_the_engines_size_becomes_what_the_graph_makes_of_it(native, channels, gather, half) -> None:
    model = normalized(channels, gather=gather)
    frames = drawn((2, 48, 60, channels))
    cut, head = without_head(fp16_model(model) if half else model)
    assert head.order == ((2, 1, 0) if gather else tuple(range(channels)))
    # The graph with the head's result as its output.
    shown = model.copy_proto()
    name = cut.proto.graph.input[0].name
    shown.graph.output[0].CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, (2, channels, 48, 60)))
    expected = run(replace(model, proto=shown), frames).astype(np.float16 if half else np.float32)
    found = inputs_of(native, head, frames)
    assert found.dtype == expected.dtype
    assert (found == expected).all()


def test_graphs_that_begin_otherwise_are_refused(fp32) -> None:
    mixing = [
        helper.make_node("Cast", ["frames"], ["a"], "cast_0", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["a"], ["b"], "transpose_0", perm=[0, 3, 1, 2]),
        helper.make_node("Gather", ["b", "same"], ["c"], "gather_0", axis=1),
        helper.make_node("Mul", ["c", "none"], ["d"], "mul_0"),
    ]
    constants = {"same": np.array([0, 0, 1]), "none": np.array([1, 1, 0], np.float32).reshape(1, 3, 1, 1)}
    with pytest.raises(BuildError, match=r"mixes the channels .*build with --head graph"):
        without_head(beginning(3, mixing, constants, "d"))
    conv = [
        helper.make_node("Cast", ["frames"], ["a"], "cast_0", to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["a", "w"], ["b"], "matmul_0"),
        helper.make_node("Transpose", ["b"], ["c"], "transpose_0", perm=[0, 3, 1, 2]),
    ]
    with pytest.raises(BuildError, match=r"does not begin with a Cast.*build with --head graph"):
        without_head(beginning(3, conv, {"w": np.eye(3, dtype=np.float32)}, "c"))

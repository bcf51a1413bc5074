"""The kernels' arithmetic, compiled by g++, against the ONNX tail; and the kernels, compiled by nvcc."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from pspnet_edge import bundled
from pspnet_edge.engine.tensorrt.compile_kernels import source_sha256
from pspnet_edge.engine.tensorrt.host_kernels import HostKernels
from pspnet_edge.engine.tensorrt.kernels import SHIPPED, compiled_kernels, kernels_for, shipped_cubin, shipped_ptx
from pspnet_edge.errors import BuildError
from pspnet_edge.graph.onnx_file import read_model
from pspnet_edge.graph.precision import fp16_model
from pspnet_edge.graph.tail import without_tail


@pytest.fixture(scope="module")
def native() -> HostKernels:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not here")
    return HostKernels()


def graph_masks(logits: NDArray[np.float32], size_hw: tuple[int, int], align: bool) -> NDArray:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the ONNX tail runs in ONNX Runtime")
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [4], [*logits.shape[:2], *size_hw])
    mode = "align_corners" if align else "half_pixel"
    nodes = [
        helper.make_node("Resize", ["x", "", "", "sizes"], ["r"], mode="linear", coordinate_transformation_mode=mode),
        helper.make_node("ArgMax", ["r"], ["a"], axis=1, keepdims=0),
        helper.make_node("Cast", ["a"], ["y"], to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(
        nodes,
        "tail",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, logits.shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, (len(logits), *size_hw))],
        [sizes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": logits.astype(np.float32)})[0]


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    ("classes", "in_hw", "out_hw"),
    [
        (11, (96, 120), (384, 480)),
        (19, (128, 256), (512, 1024)),
        (21, (60, 60), (473, 473)),
        (3, (1, 5), (7, 33)),
        (2, (8, 8), (8, 8)),
        (150, (9, 11), (71, 83)),
        (255, (5, 7), (20, 28)),
    ],
)
def test_masks_are_those_of_the_graph_bit_by_bit(native, classes, in_hw, out_hw, dtype, align) -> None:
    choose = np.random.default_rng(classes)
    logits = choose.normal(size=(2, classes, *in_hw)).astype(dtype)
    assert (native.masks(logits, out_hw, align) == graph_masks(logits, out_hw, align)).all()
    # Few distinct values give ties, which both have to break alike.
    coarse = np.round(logits)
    assert (native.masks(coarse, out_hw, align) == graph_masks(coarse, out_hw, align)).all()


def test_the_bundled_model_loses_nothing_by_the_cut(native) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the ONNX tail runs in ONNX Runtime")
    whole = read_model(bundled.onnx_path(bundled.DEFAULT))
    cut, tail = without_tail(whole)
    _, height, width = whole.shape_nhw
    frames = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
    masks, logits = (
        onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            None, {"frames": frames}
        )[0]
        for graph in (whole.proto, cut.proto)
    )
    assert logits.shape == (1, tail.classes, *tail.logits_hw)
    assert (native.masks(logits, (height, width), tail.align_corners) == masks).all()


def test_the_cut_of_an_fp16_graph_gives_fp16() -> None:
    cut, tail = without_tail(fp16_model(read_model(bundled.onnx_path(bundled.DEFAULT))))
    assert tail.dtype == "float16"
    assert cut.proto.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT16
    onnx.checker.check_model(cut.proto, full_check=True)


def test_a_graph_that_ends_otherwise_is_refused() -> None:
    model = read_model(bundled.onnx_path(bundled.DEFAULT))
    resize = [node for node in model.proto.graph.node if node.op_type == "Resize"][-1]
    next(attribute for attribute in resize.attribute if attribute.name == "mode").s = b"cubic"
    with pytest.raises(BuildError, match="build with --tail graph"):
        without_tail(model)


def test_every_fp16_number_is_read_exactly(native) -> None:
    values = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = np.unique(values[np.isfinite(values)])
    pairs = np.stack([finite[:-1], finite[1:]])[None, :, None]
    assert pairs.shape[-1] > 63_000
    # A number against the next larger one, in both orders: any that is read wrong loses a comparison.
    size_hw = (1, pairs.shape[-1])
    assert (native.masks(pairs, size_hw, False) == 1).all()
    assert (native.masks(pairs[:, ::-1], size_hw, False) == 0).all()


def test_shipped_kernels_are_compiled_from_this_source() -> None:
    made = json.loads((SHIPPED / "made.json").read_text(encoding="utf-8"))
    assert made["source_sha256"] == source_sha256()
    for capability in ("8.7", "11.0"):
        assert kernels_for(capability) == shipped_cubin(capability)
        assert len(shipped_cubin(capability)) < 150_000
    # A fused multiply-add rounds otherwise than the graph does.
    assert b"fma.rn.f32" not in shipped_ptx()
    assert b"mul.rn.f32" in shipped_ptx()
    for name, facts in made["files"].items():
        content = (SHIPPED / name).read_bytes()
        assert len(content) == facts["bytes"]
        names = (b"tail_masks", b"tail_masks_half", b"head_int8", b"head_half", b"head_float")
        assert all(kernel in content for kernel in names)


def test_any_gpu_from_turing_on_gets_kernels_without_nvcc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert kernels_for("8.9") == shipped_ptx()
    with pytest.raises(BuildError, match=r"capability 6\.1, and nvcc is not here"):
        kernels_for("6.1")


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not here")
@pytest.mark.parametrize("capability", ["8.7", "11.0"])
def test_nvcc_compiles_the_kernels_for_orin_and_thor(capability: str) -> None:
    kernels = compiled_kernels(capability)
    assert kernels[:4] == b"\x7fELF"
    assert b"tail_masks" in kernels


def test_without_nvcc_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(BuildError, match="needs nvcc"):
        compiled_kernels("8.7")


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not here")
def test_a_gpu_that_nvcc_does_not_know_is_named() -> None:
    with pytest.raises(BuildError, match=r"capability 9\.9 .*build with --head graph --tail graph"):
        compiled_kernels("9.9")

"""The kernels' arithmetic, compiled by g++, against the ONNX tail; and the kernels, compiled by nvcc."""

from __future__ import annotations

import ctypes
import shutil
import subprocess

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from pspnet_edge import bundled
from pspnet_edge.engine.tensorrt.tail import SOURCE, compiled_kernels
from pspnet_edge.errors import BuildError
from pspnet_edge.graph.onnx_file import read_model
from pspnet_edge.graph.precision import fp16_model
from pspnet_edge.graph.tail import without_tail

DRIVER = """
#include "tail.h"
extern "C" void masks(const float* logits, unsigned char* out, int classes, int in_h, int in_w, int out_h, int out_w,
                      int align) {
    for (int y = 0; y < out_h; ++y)
        for (int x = 0; x < out_w; ++x)
            out[y * out_w + x] = tail_class(logits, classes, in_h, in_w, tail_axis(y, in_h, out_h, align != 0),
                                            tail_axis(x, in_w, out_w, align != 0));
}
extern "C" void blend(const unsigned char* a, const unsigned char* b, unsigned char* out, int count, int opacity) {
    for (int i = 0; i < count; ++i) out[i] = tail_blend(a[i], b[i], opacity);
}
"""


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not here")
    folder = tmp_path_factory.mktemp("tail")
    (folder / "driver.cpp").write_text(DRIVER)
    library = folder / "tail.so"
    flags = ["-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{SOURCE.parent}"]
    subprocess.run([compiler, *flags, "-o", str(library), str(folder / "driver.cpp")], check=True)
    return ctypes.CDLL(str(library))


def native_masks(native: ctypes.CDLL, logits: NDArray[np.float32], size_hw: tuple[int, int], align: bool) -> NDArray:
    _, classes, height, width = logits.shape
    out = np.empty(size_hw, np.uint8)
    native.masks(
        logits.ctypes.data_as(ctypes.c_void_p),
        out.ctypes.data_as(ctypes.c_void_p),
        classes,
        height,
        width,
        *size_hw,
        align,
    )
    return out


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
        [helper.make_tensor_value_info("y", TensorProto.UINT8, (1, *size_hw))],
        [sizes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": logits})[0][0]


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize(
    ("classes", "in_hw", "out_hw"),
    [
        (11, (96, 120), (384, 480)),
        (19, (128, 256), (512, 1024)),
        (21, (60, 60), (473, 473)),
        (3, (1, 5), (7, 33)),
        (2, (8, 8), (8, 8)),
        (255, (5, 7), (20, 28)),
    ],
)
def test_masks_are_those_of_the_graph_bit_by_bit(native, classes, in_hw, out_hw, align) -> None:
    choose = np.random.default_rng(classes)
    logits = choose.normal(size=(1, classes, *in_hw)).astype(np.float32)
    assert (native_masks(native, logits, out_hw, align) == graph_masks(logits, out_hw, align)).all()
    # Few distinct values give ties, which both have to break alike.
    coarse = np.round(logits)
    assert (native_masks(native, coarse, out_hw, align) == graph_masks(coarse, out_hw, align)).all()


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
        for graph in (whole.graph, cut.graph)
    )
    assert logits.shape == (1, tail.classes, *tail.logits_hw)
    assert (native_masks(native, logits, (height, width), tail.align_corners) == masks[0]).all()


def test_the_cut_of_an_fp16_graph_still_gives_float() -> None:
    cut, _ = without_tail(fp16_model(read_model(bundled.onnx_path(bundled.DEFAULT))))
    assert cut.graph.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    onnx.checker.check_model(cut.graph, full_check=True)


def test_a_graph_that_ends_otherwise_is_refused() -> None:
    model = read_model(bundled.onnx_path(bundled.DEFAULT))
    resize = [node for node in model.graph.graph.node if node.op_type == "Resize"][-1]
    next(attribute for attribute in resize.attribute if attribute.name == "mode").s = b"cubic"
    with pytest.raises(BuildError, match="build with --tail graph"):
        without_tail(model)


def test_the_overlay_rounds_to_nearest(native) -> None:
    frame, colour = (values.ravel().astype(np.uint8) for values in np.meshgrid(np.arange(256), np.arange(256)))
    out = np.empty_like(frame)
    for opacity in (0, 1, 128, 255, 256):
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (frame, colour, out)]
        native.blend(*pointers, len(out), opacity)
        exact = (frame.astype(np.int64) * (256 - opacity) + colour.astype(np.int64) * opacity) / 256
        assert (out == np.floor(exact + 0.5)).all()


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not here")
@pytest.mark.parametrize("capability", ["8.7", "11.0"])
def test_nvcc_compiles_the_kernels_for_orin_and_thor(capability: str) -> None:
    kernels = compiled_kernels(capability)
    assert kernels[:4] == b"\x7fELF"
    assert b"tail_masks" in kernels
    assert b"tail_overlay" in kernels


def test_without_nvcc_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(BuildError, match="needs nvcc"):
        compiled_kernels("8.7")


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not here")
def test_a_gpu_that_nvcc_does_not_know_is_named() -> None:
    with pytest.raises(BuildError, match=r"capability 9\.9 .*build with --tail graph"):
        compiled_kernels("9.9")

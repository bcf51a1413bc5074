"""Kernels that prove themselves before a build, right and wrong ones, on a driver in the processor's memory."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pspnet_edge.engine.tensorrt import builder, proof
from pspnet_edge.engine.tensorrt.gpu import Gpu
from pspnet_edge.engine.tensorrt.head import head_facts
from pspnet_edge.engine.tensorrt.host_kernels import HostKernels
from pspnet_edge.engine.tensorrt.kernels import shipped_ptx
from pspnet_edge.engine.tensorrt.proof import head_complaint, prove, tail_complaint
from pspnet_edge.errors import BuildError
from pspnet_edge.graph.head import Head
from pspnet_edge.graph.onnx_file import ModelFile
from pspnet_edge.selftest.head_cases import input_on_processor

from ...processor_cuda import DRIVER, HEADERS, compiled_driver
from .test_versions import StandIn, built

SHAPE = (1, 96, 120)
WRONG_HEAD = ("head.h", "(sum + 2) >> 2", "sum >> 2")
WRONG_TAIL = ("tail.h", "value > largest", "value >= largest")


def head(dtype: str = "int8", order: tuple[int, ...] = (0, 1, 2)) -> dict:
    levels = np.random.default_rng(3).normal(0, 40, (len(order), 256)).astype(dtype)
    return head_facts(Head(order, levels), shipped_ptx())


def tail(dtype: str = "float16") -> dict:
    return {
        "classes": 11,
        "logits_hw": [24, 30],
        "align_corners": False,
        "dtype": dtype,
        "kernels": head()["kernels"],
    }


Driver = Callable[..., None]


@pytest.fixture
def driver(cuda_h: Path, processor_cuda: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Sets the driver that processes find which are started from then on; faults are (file, right, wrong)."""

    def use(*faults: tuple[str, str, str]) -> None:
        folder = processor_cuda
        if faults:
            texts = {path.name: path.read_text(encoding="utf-8") for path in (*HEADERS.glob("*.h"), DRIVER)}
            texts["host_kernels.cpp"] = (HEADERS / "host_kernels.cpp").read_text(encoding="utf-8")
            for name, right, wrong in faults:
                assert texts[name].count(right) == 1
                texts[name] = texts[name].replace(right, wrong)
            for name, text in texts.items():
                (tmp_path / name).write_text(text, encoding="utf-8")
            folder = compiled_driver(tmp_path, cuda_h, tmp_path, texts[DRIVER.name])
        monkeypatch.setenv("LD_LIBRARY_PATH", str(folder))

    return use


@pytest.fixture
def orin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "find_gpu", lambda: Gpu("Orin", "8.7", True))


LAUNCH_FAILS = (
    "processor_cuda.cpp",
    'if (name == "head_int8") return enqueue',
    'if (name == "head_int8") return CUDA_ERROR_LAUNCH_FAILED;\n    if (name == "head_int8") return enqueue',
)
ILLEGAL_ADDRESS = ("processor_cuda.cpp", "if (!is_live(at[1], 16", "if (n[4] == 97 || !is_live(at[1], 16")
CRASH = (
    "processor_cuda.cpp",
    'if (name == "head_int8") return enqueue',
    "*(volatile int*)nullptr = 1;\n    return enqueue",
)


@pytest.mark.parametrize(("dtype", "order"), [("int8", (0, 1, 2)), ("float16", (2, 1, 0)), ("float32", (0,))])
def test_a_right_head_proves_itself(driver: Driver, dtype: str, order: tuple[int, ...]) -> None:
    driver()
    prove("head", head(dtype, order), SHAPE)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_right_tail_proves_itself(driver: Driver, dtype: str) -> None:
    driver()
    prove("tail", tail(dtype), (2, 96, 120))


@pytest.mark.parametrize(
    ("end", "fault", "reason"),
    [
        ("head", WRONG_HEAD, r"\d+ of \d+ values of the input differ from the resized frame's \(96x120 to 48x60"),
        ("tail", WRONG_TAIL, r"\d+ of \d+ pixels differ from the graph's \(11 classes"),
        ("head", LAUNCH_FAILS, "cuLaunchKernel answers CUDA_ERROR_UNKNOWN"),
        ("head", ILLEGAL_ADDRESS, "cuMemcpyDtoHAsync_v2 answers CUDA_ERROR_ILLEGAL_ADDRESS"),
        ("head", CRASH, r"it crashed \(SIGSEGV\)"),
    ],
    ids=["values", "masks", "launch", "address", "crash"],
)
def test_a_wrong_kernel_is_named(driver: Driver, end: proof.End, fault: tuple[str, str, str], reason: str) -> None:
    driver(fault)
    with pytest.raises(BuildError, match=rf"the {end}'s kernel failed its test on this GPU: {reason}") as caught:
        prove(end, head() if end == "head" else tail(), SHAPE)
    assert caught.value.fix == f"build with --{end} graph"
    assert "\n" not in str(caught.value)


def test_a_proof_without_an_end_or_an_answer_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def prove_with(code: str, limit_s: float = 60) -> None:
        monkeypatch.setattr(proof, "child_command", lambda module: [sys.executable, "-c", code])
        prove("head", head(), SHAPE, limit_s)

    with pytest.raises(BuildError, match="it takes longer than 1 s"):
        prove_with("import time; time.sleep(60)", 1)
    with pytest.raises(BuildError, match="its test ended with status 3: no room"):
        prove_with("import sys; print('no room', file=sys.stderr); sys.exit(3)")


@pytest.mark.usefixtures("orin")
def test_an_engine_gets_the_kernels_that_are_right(driver: Driver, int8: ModelFile, tmp_path: Path) -> None:
    driver()
    plan = built(StandIn("10.3.0"), int8, "int8", tmp_path)
    assert plan.facts["head"]["dtype"] == "int8"
    assert plan.facts["tail"]["dtype"] == "float16"
    assert plan.facts["tensorrt"]["proved"] == ["tail", "head"]
    assert plan.facts["tensorrt"]["left_to_graph"] == {}


@pytest.mark.usefixtures("orin")
@pytest.mark.parametrize(("end", "other", "fault"), [("head", "tail", WRONG_HEAD), ("tail", "head", WRONG_TAIL)])
def test_a_wrong_kernel_is_left_to_the_graph_and_refused_where_it_is_asked_for(
    driver: Driver,
    int8: ModelFile,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    end: str,
    other: str,
    fault: tuple[str, str, str],
) -> None:
    driver(fault)
    stand_in = StandIn("10.3.0")
    plan = built(stand_in, int8, "int8", tmp_path)
    assert plan.facts[end] is None
    assert plan.facts[other] is not None
    assert plan.facts["tensorrt"]["proved"] == [other]
    ((left, reason),) = plan.facts["tensorrt"]["left_to_graph"].items()
    assert left == end
    assert f"the {end}'s kernel failed its test on this GPU: " in reason
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"the engine is built without the {end}'s kernel: {reason}"
    ]
    graph = stand_in.parsed().graph
    assert (graph.input[0].name == "frames") == (end == "head")
    assert (graph.node[-2].op_type == "Cast") == (end == "tail")
    with pytest.raises(BuildError, match=f"{end}'s kernel failed its test on this GPU.*build with --{end} graph"):
        built(StandIn("10.3.0"), int8, "int8", tmp_path, **{end: "kernel"})


@pytest.mark.usefixtures("orin")
def test_a_graph_that_has_no_such_end_keeps_it(driver: Driver, fp32: ModelFile, tmp_path: Path) -> None:
    driver()
    proto = fp32.copy_proto()
    resize = [node for node in proto.graph.node if node.op_type == "Resize"][-1]
    for attribute in resize.attribute:
        if attribute.name == "mode":
            attribute.s = b"nearest"
    plan = built(StandIn("10.3.0"), fp32.with_proto(proto), "fp16", tmp_path)
    assert plan.facts["tail"] is None
    assert plan.facts["head"] is not None
    assert "does not end in a linear Resize" in plan.facts["tensorrt"]["left_to_graph"]["tail"]


def test_nothing_is_tried_where_no_gpu_is(fp32: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx", reason="pip install 'pspnet-edge[tensorrt-rtx]' to build with the real one")
    monkeypatch.setattr(builder, "find_gpu", lambda: None)
    monkeypatch.setattr(builder, "prove", lambda *_: pytest.fail("a kernel is tried"))
    options = builder.BuildOptions(optimization_level=0)
    plan = builder.build_plan("tensorrt-rtx", fp32, "fp16", options, cache=tmp_path)
    assert plan.facts["head"] is plan.facts["tail"] is None
    assert plan.facts["tensorrt"]["proved"] == []
    assert plan.facts["tensorrt"]["left_to_graph"] == {}


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not here")
@pytest.mark.parametrize("dtype", ["int8", "float16", "float32"])
@pytest.mark.parametrize("order", [(0,), (2, 1, 0), (0, 1, 2, 3)])
def test_the_kernels_arithmetic_passes_for_every_type(dtype: str, order: tuple[int, ...]) -> None:
    native = HostKernels()
    assert head_complaint(input_on_processor(native), head(dtype, order), SHAPE[1:]) == ""


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not here")
def test_pitch_and_both_colour_orders_are_tried() -> None:
    seen, right = set(), input_on_processor(HostKernels())

    def watched(picture: NDArray[np.uint8], facts: dict, *more: object) -> NDArray:
        assert picture.strides[0] > picture.shape[1] * picture.shape[2]
        seen.add((tuple(facts["order"]), picture.shape[2]))
        return right(picture, facts, *more)

    assert head_complaint(watched, head(), SHAPE[1:]) == ""
    assert seen == {(order, size) for order in ((0, 1, 2), (2, 1, 0)) for size in (3, 4)}


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not here")
def test_ties_are_tried() -> None:
    native = HostKernels()
    assert tail_complaint(native.masks, tail(), SHAPE) == ""

    def last_wins(logits: NDArray, *more: object) -> NDArray[np.uint8]:
        return (logits.shape[1] - 1 - native.masks(logits[:, ::-1], *more)).astype(np.uint8)

    assert "pixels differ from the graph's" in tail_complaint(last_wins, tail(), SHAPE)

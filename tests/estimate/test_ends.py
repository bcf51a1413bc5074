"""Estimates with our head and tail: which launches they replace, what they move, and the table that is published."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pspnet_edge import bundled
from pspnet_edge.api.planning import plan
from pspnet_edge.engine.tensorrt.builder import BuildOptions
from pspnet_edge.estimate.boards import BOARDS
from pspnet_edge.estimate.ends import with_our_ends
from pspnet_edge.estimate.kernels import Kernel, Stored, fused_kernels, read_graph
from pspnet_edge.estimate.plan import estimated_candidates, front
from pspnet_edge.estimate.predict import estimate
from pspnet_edge.estimate.roofline import layer_times

MODEL = bundled.onnx_path(bundled.DEFAULT)
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
PIXELS = 384 * 480
TODAYS = ("orin-nano", "orin-nano-super", "orin-nx", "agx-orin", "thor")


@pytest.fixture(scope="module")
def kernels() -> tuple[Kernel, ...]:
    return fused_kernels(read_graph(MODEL), int8=True)


def test_head_and_tail_replace_three_launches_each(kernels: tuple[Kernel, ...]) -> None:
    found = with_our_ends(kernels)
    assert [kernel.operation for kernel in kernels[:3]] == ["pointwise", "transpose", "pointwise"]
    assert [kernel.operation for kernel in kernels[-3:]] == ["resize", "argmax", "pointwise"]
    assert [kernel.operation for kernel in found[:2]] == ["head", "conv"]
    assert [kernel.operation for kernel in found[-3:]] == ["conv", "logits", "tail"]
    assert found[2:-2] == kernels[4:-3]
    assert sum(kernel.macs for kernel in found) == sum(kernel.macs for kernel in kernels)


def test_the_bytes_are_those_that_the_kernels_move(kernels: tuple[Kernel, ...]) -> None:
    def megabytes(made: tuple[Kernel, ...], precision: str) -> dict[str, float]:
        return {layer.name: layer.megabytes for layer in layer_times(made, BOARDS["orin-nano"], precision)}

    own = megabytes(with_our_ends(kernels), "int8")
    # BGR in, four INT8 channels out; the convolution reads those. FP16 logits at a quarter of the side, mask out.
    assert own["head"] == pytest.approx(PIXELS * (3 + 4) / 1e6)
    assert own["conv_0"] == pytest.approx((PIXELS * 4 + PIXELS / 4 * 32 + 32 * 3 * 9) / 1e6)
    assert own["tail"] == pytest.approx((PIXELS / 16 * 11 * 2 + PIXELS) / 1e6)
    half = megabytes(with_our_ends(fused_kernels(read_graph(MODEL), int8=False)), "fp16")
    assert half["head"] == pytest.approx(PIXELS * (3 + 8 * 2) / 1e6)
    camera = megabytes(with_our_ends(kernels, picture_hw=(1080, 1920)), "int8")
    assert camera["head"] == pytest.approx((1080 * 1920 * 4 + PIXELS * 4) / 1e6)


def test_the_tail_takes_what_was_measured_on_another_gpu() -> None:
    """0.07 ms for 1024×2048 and 19 classes on an H200: 132 multiprocessors at 1.98 GHz; an Orin Nano has 8 at 0.625."""
    logits = Stored(256 * 512 * 19, 19, "float")
    conv = Kernel("conv", "conv", 1, (logits,), logits, macs=1, in_channels=1, out_channels=1)
    large = Stored(1024 * 2048, 0, "1")
    ends = [Kernel(name, name, 1, (logits,), large) for name in ("resize", "argmax")]
    (*_, tail) = layer_times(with_our_ends((conv, *ends)), BOARDS["orin-nano"], "fp16")
    expected_ms = 0.065 * (132 * 1.98) / (8 * 0.625)
    assert 1000 * tail.compute_s == pytest.approx(expected_ms, rel=0.05)


def test_other_beginnings_and_ends_stay(kernels: tuple[Kernel, ...]) -> None:
    assert with_our_ends(kernels[3:-3])[1:] == kernels[4:-3]
    assert with_our_ends(kernels[:3]) == kernels[:3]
    without_argmax = (*kernels[:-2], kernels[-1])
    assert with_our_ends(without_argmax)[-2:] == without_argmax[-2:]


@pytest.mark.parametrize("board", BOARDS)
def test_an_estimate_states_both_and_the_build_takes_what_it_counts(board: str) -> None:
    assert BuildOptions().head == BuildOptions().tail == "auto"
    facts = estimate(MODEL, "fp16", board).facts()
    if BOARDS[board].takes_our_kernels:
        assert facts["latency_ms"] < facts["graph_ends_ms"]
        assert facts["kernels"] == facts["graph_ends_kernels"] - 3
    else:
        assert facts["latency_ms"] == facts["graph_ends_ms"]


@pytest.mark.parametrize("board", TODAYS)
def test_a_cameras_frame_is_read_by_the_head(board: str) -> None:
    without, with_it = (
        next(c for c in estimated_candidates(board, camera_hw) if c.precision == "int8")
        for camera_hw in (None, (1080, 1920))
    )
    assert without.graph_ends_ms is not None
    assert with_it.graph_ends_ms is not None
    assert without.latency_ms < with_it.latency_ms
    # In front of the graph's ends a resize is a launch more.
    assert with_it.graph_ends_ms > without.graph_ends_ms
    assert with_it.graph_ends_ms > with_it.latency_ms


def published(text: str) -> list[tuple[str, ...]]:
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if re.match(r"\| Jetson", line)]
    return [tuple(cell.strip(" |") for cell in row) for row in rows]


def test_the_published_table_is_that_of_these_estimates() -> None:
    rows = published((RESULTS / "boards.md").read_text(encoding="utf-8"))
    made = []
    for board in TODAYS:
        every = estimated_candidates(board)
        best = front(every)
        for one in sorted(every, key=lambda each: each.latency_ms):
            size = f"{one.size_hw[0]}×{one.size_hw[1]}"
            name = f"{one.model} {size} {one.precision.upper()}"
            made.append((BOARDS[board].title, name, f"{one.latency_ms:.2f}", f"{one.graph_ends_ms:.2f}", one in best))
    assert [(*row[:4], row[-1] == "yes") for row in rows] == made, "run `python benchmarks/estimate.py --boards`"


@pytest.mark.parametrize("board", TODAYS)
def test_a_choice_is_on_the_front_of_the_published_table(board: str) -> None:
    rows = published((RESULTS / "boards.md").read_text(encoding="utf-8"))
    on_front = {row[1] for row in rows if row[0] == BOARDS[board].title and row[-1] == "yes"}
    for fps in (15, 30, 100):
        choice = plan(board, fps).choice
        assert f"{choice.model} {choice.size_hw[0]}×{choice.size_hw[1]} {choice.precision.upper()}" in on_front


def test_the_table_in_the_docs_is_the_front_of_the_published_one() -> None:
    wanted: dict[str, set[tuple[str, str]]] = {}
    for board, _, own, graph, *_, on_front in published((RESULTS / "boards.md").read_text(encoding="utf-8")):
        if on_front == "yes":
            wanted.setdefault(board, set()).add((own, graph))
    text = (RESULTS.parents[1] / "docs" / "estimate.md").read_text(encoding="utf-8")
    shown = {row[0]: set(re.findall(r"([\d.]+)\*{0,2} \(([\d.]+)\)", " ".join(row[1:]))) for row in published(text)}
    assert shown == wanted


def test_the_report_has_the_same_estimates() -> None:
    report = json.loads((RESULTS / "report.json").read_text(encoding="utf-8"))
    for entry in report["estimates"]:
        if entry["size"] == "384x480":
            assert entry["latency_ms"] == estimate(MODEL, entry["precision"], entry["board"]).facts()["latency_ms"]
